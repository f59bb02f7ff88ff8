"""The verb `check`: protocols, plugins or records held to their rules."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli import WholeSentences
from bench.cli.options import DATA, JSON, PLUGIN, STORE

GROUP = "check"


@click.group(cls=WholeSentences)
def command() -> None:
    """Check protocols, plugins or records against their rules.

    Exit codes: 0 ok, 1 findings, 2 bad input, 3 the lock of the protocols.
    """


@command.command("protocols")
@PLUGIN
@JSON
def check_protocols(plugins: tuple[str, ...], as_json: bool) -> int:
    """Hold the protocol files to their schema, to the lock and to the canaries."""
    from bench import finding
    from bench.errors import LockError
    from bench.lock.check_protocols import check_protocols
    from bench.plugins.registry import discover

    checked = check_protocols(discover(plugins))
    findings = [*checked.broken, *checked.findings]
    print(finding.as_json(findings) if as_json else finding.as_text(findings, checked.summary))
    return LockError.exit_code if checked.broken else finding.exit_code(checked.findings)


@command.command("plugins")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@DATA
@PLUGIN
@JSON
def check_plugins(names: tuple[str, ...], plugins: tuple[str, ...], as_json: bool) -> int:
    """Hold methods, compressors and data sets (all, or those named) to their contract."""
    from bench import finding
    from bench.confinement import fork_server

    fork_server.start_early("bench.checks.plugins.apart_side")
    from bench.checks.plugins.check_plugins import check_and_count
    from bench.cli.progress import named_stages

    with named_stages() as naming:
        findings, checked = check_and_count(names, plugins, naming)
    if as_json:
        print(finding.as_json(findings))
        print(f"{checked}.", file=sys.stderr)
    else:
        print(finding.as_text(findings, checked))
    return finding.exit_code(findings)


@command.command("records")
@click.argument("folder", metavar="DIR")
@click.option("--baseline", metavar="DIR", help="Earlier records: say which numbers moved beyond chance.")
@STORE
@DATA
@PLUGIN
@JSON
def check_records(folder: str, baseline: str | None, store: str | None, plugins: tuple[str, ...], as_json: bool) -> int:
    """Check the records of a folder: is the comparison fair, is every value possible, has a number drifted?"""
    from bench import finding
    from bench.checks.records.check_records import check_records
    from bench.driver.defaults import default_store
    from bench.plugins.registry import discover

    place = Path(store) if store else default_store()
    checked = check_records(folder, baseline=baseline, registry=discover(plugins), store=place)
    print(finding.as_json(checked.findings) if as_json else finding.as_text(checked.findings, checked.summary))
    return finding.exit_code(checked.findings)
