"""The command `condensebench` (also `python -m bench`)."""

from __future__ import annotations

import os
import signal
import sys

import click


def main() -> None:
    """Run a verb. Exit codes: 0 ok, 1 trials failed or findings, 2 bad input or the machine, 3 a lock broken, 130
    interrupted."""
    _open_descriptors()
    try:
        _run()
    except SystemExit as end:
        # What remains is Python's own ending; a second Ctrl-C must not change the code.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise SystemExit(_flushed(end.code)) from None


def _open_descriptors() -> None:
    """Open what was closed of standard input, output and error (`>&-`): a file of records would get its number, and
    what other processes print would go there."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest number that is free
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _flushed(code: str | int | None) -> str | int | None:
    """The exit code, or 2 where what was printed could not be written (`> /dev/full`)."""
    from bench.cli.terminal import unread

    try:
        sys.stdout.flush()
    except OSError as error:
        unread(sys.stdout)
        print(f"Error: {error.filename}: {error.strerror}.", file=sys.stderr)
        return 2
    return code


def _run() -> None:
    from bench.cli import cli
    from bench.cli.terminal import protect_streams
    from bench.errors import UserError, with_short_paths
    from bench.texts import cut, visible

    protect_streams()
    try:
        # Standalone, click would end an interrupted verb with 1, which is the code of findings.
        sys.exit(cli.main(prog_name="condensebench", standalone_mode=False))
    except (click.Abort, KeyboardInterrupt):
        print("\nInterrupted.", file=sys.stderr)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except UserError as error:
        print(f"Error: {cut(with_short_paths(str(error)))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:  # a folder that may not be written, a disk that is full, a path that is too long
        place = f"{error.filename}: " if error.filename else ""
        print(f"Error: {place}{error.strerror or error}.", file=sys.stderr)
        sys.exit(2)
    except Exception as error:  # of a data set that a plugin gives; all else is this project's fault
        from bench.confinement.plugin_limits import PluginFailure

        if not isinstance(error, PluginFailure):
            raise
        print(f"Error: {visible(cut(str(error)))}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
