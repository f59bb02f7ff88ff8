"""The verb `lock`: the lock of the released protocols, checked or extended."""

from __future__ import annotations

import click

from bench.errors import LockError, UserError, with_short_paths

GROUP = "check"


@click.command()
@click.option("--check", "check_", is_flag=True, help="Hold protocols, defaults and engine to protocols/lock.json.")
@click.option("--release", multiple=True, metavar="ID", help="Fix a protocol for good; repeatable.")
def command(check_: bool, release: tuple[str, ...]) -> int:
    """Check the lock of the released protocols, or release a protocol.

    Exit code 3 if a released protocol was edited or the engine gives other numbers.
    """
    if check_ == bool(release):
        raise UserError("lock: type --check, or --release ID for each protocol that is to be released.")
    if release:
        from bench.lock.release import release as add

        print(with_short_paths(add(release)))
        return 0
    from bench.finding import as_text
    from bench.lock import lock_file
    from bench.lock.differences import everything

    present = lock_file.read()
    findings = everything(present)
    print(as_text(findings, lock_file.lock_summary(present)))
    return LockError.exit_code if findings else 0
