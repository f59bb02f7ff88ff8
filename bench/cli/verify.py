"""The verb `verify`: records run again here, and what came out otherwise."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli.options import DATA, JOBS, JSON, PLUGIN

GROUP = "check"


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="ID|DIR...")
@click.option("--results", default="results/local", show_default=True, metavar="DIR", help="Where the IDs are.")
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N", help="N of the records, drawn evenly from all cells."
)
@JOBS
@click.option("--store", metavar="DIR", help="Artifacts to reuse [default: none, everything is made anew].")
@DATA
@PLUGIN
@JSON
def command(
    targets: tuple[str, ...],
    results: str,
    sample: int | None,
    jobs: int | None,
    store: str | None,
    plugins: tuple[str, ...],
    as_json: bool,
) -> int:
    """Run records again here and compare; where they differ, say what was claimed instead.

    A target is a folder or a file of records, or the id of a record (or its first digits). Exit code 1 if a record does
    not come out as claimed, 130 if interrupted.
    """
    from bench import finding
    from bench.checks.records.board import cells
    from bench.checks.records.rules import Findings
    from bench.checks.verify.verification import drawn, select, verify
    from bench.cli.progress import progress_of_reruns
    from bench.plugins.registry import discover

    registry = discover(plugins)
    out = Findings()
    everything, chosen = select(targets, Path(results), out)
    chosen = drawn(chosen, sample) if sample is not None else chosen
    place = Path(store) if store else None
    try:
        summary = verify(chosen, cells(everything), registry, out, store=place, jobs=jobs, progress=progress_of_reruns)
    except KeyboardInterrupt:
        print("\nInterrupted. Nothing was compared yet; --sample N takes less time.", file=sys.stderr)
        return 130
    findings = tuple(out)
    print(finding.as_json(findings) if as_json else finding.as_text(findings, summary))
    return finding.exit_code(findings)
