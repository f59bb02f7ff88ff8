"""The command `condensebench` (also `python -m bench`)."""

from __future__ import annotations

import sys

import click


def main() -> None:
    """Run a verb. Exit codes: 0 ok, 1 trials failed or findings, 2 bad input, 3 a lock broken, 130 interrupted."""
    from bench.cli import cli
    from bench.cli.terminal import protect_streams
    from bench.errors import UserError, with_short_paths
    from bench.texts import cut

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
    except (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        # A folder that was asked for is none, or may not be written.
        print(f"Error: {error.filename}: {error.strerror}.", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of a pipe (`| head`) has seen enough
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
