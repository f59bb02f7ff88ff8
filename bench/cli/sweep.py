"""The verb `sweep`: one cell under several values of its parameters."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from bench.cli.options import CACHE_LIMIT, DATA, JOBS, PLUGIN, STORE
from bench.cli.run import carry_out
from bench.errors import UserError

GROUP = "run"
PLAN = "sweep.toml"


@click.command()
@click.option("--dataset", required=True, metavar="NAME", help="For instance digits.")
@click.option("--protocol", default="small-soft-v1", show_default=True, metavar="ID", help="May have other values.")
@click.option("--method", required=True, metavar="NAME", help="For instance score.")
@click.option("--compressor", metavar="NAME", help="Of soft labels.")
@click.option("--budget", metavar="B", help="Of the labels: 30x or 20kB.")
@click.option("--student", metavar="NAME", help="[default: the protocol's]")
@click.option("--ipc", type=click.IntRange(min=1), default=10, show_default=True, help="Images per class.")
@click.option("--replicates", type=click.IntRange(min=1), default=3, show_default=True, help="Students per cell.")
@click.option(
    "--over",
    multiple=True,
    required=True,
    metavar="PART.KEY=V,V",
    help="Values of a parameter: method.alpha=1,3,5, compressor.rank=4,8 or protocol.recipe.batch=20,50, a pair as "
    "0.08..1; repeatable.",
)
@click.option("--paired", is_flag=True, help="First values together, second values together; else every combination.")
@click.option("--results", default="results/sweep", show_default=True, metavar="DIR", help="Continued if it exists.")
@click.option("--dry-run", is_flag=True, help="Say what would run and how long it may take; run nothing.")
@JOBS
@STORE
@DATA
@CACHE_LIMIT
@PLUGIN
def command(
    *,
    dataset: str,
    protocol: str,
    method: str,
    compressor: str | None,
    budget: str | None,
    student: str | None,
    ipc: int,
    replicates: int,
    over: tuple[str, ...],
    paired: bool,
    results: str,
    dry_run: bool,
    jobs: int | None,
    store: str | None,
    plugins: tuple[str, ...],
) -> int:
    """Run one cell under several values of its parameters, beside random images; show a table and draw a figure.

    The trials are ordinary ones of a plan, which is written beside the records: the same command, or run --plan, goes
    on with it. Values that are chosen by its table are chosen on the test split: a sweep shows sensitivity.
    """
    from bench.driver.defaults import default_store
    from bench.driver.prepared import RunOptions, prepare
    from bench.plugins.registry import discover
    from bench.records import files
    from bench.reports import sensitivity
    from bench.reports.printers import printed
    from bench.trials import sweep

    axes = [sweep.parse_axis(text) for text in over]
    combinations = sweep.points(sweep.Cell(method, compressor, protocol), axes, discover(plugins), paired=paired)
    fixed: dict[str, object] = {"datasets": [dataset], "ipcs": [ipc], "replicates": replicates}
    fixed |= {"students": [student]} if student else {}
    fixed |= {"budgets": [budget]} if budget else {}
    title = f"{method} on {dataset}, ipc {ipc}, {protocol}"
    folder = Path(results)
    plan = folder / PLAN
    text = sweep.plan_text(combinations, fixed, f"Sweep of {', '.join(axis.name for axis in axes)}: {title}")
    if plan.is_file() and plan.read_text(encoding="utf-8") != text:
        raise UserError(f"{plan} is another sweep. Give this one a folder of its own: --results {folder}-2")
    place = Path(store) if store else default_store()
    with tempfile.TemporaryDirectory() as scratch:  # what does not run takes no folder
        draft = Path(scratch) / PLAN
        draft.write_text(text, encoding="utf-8")
        prepared = prepare(RunOptions(folder, place, jobs), plugins, plan=draft)
    if not dry_run:
        folder.mkdir(parents=True, exist_ok=True)
        plan.write_text(text, encoding="utf-8")
    if (code := carry_out(prepared, dry_run=dry_run)) is not None:
        return code
    loaded = files.load(folder)
    for note in loaded.notes:
        print(note, file=sys.stderr)
    rows = sensitivity.measured(combinations, prepared.trials, files.latest(loaded.records))
    page = sensitivity.page(axes, rows, title)
    print(printed(page, "text"), end="")
    for name, format_ in (("sweep.md", "md"), ("sweep.csv", "csv")):
        (folder / name).write_text(printed(page, format_), encoding="utf-8")
    written = [plan, folder / "sweep.md", folder / "sweep.csv"]
    if len(axes) <= 2 and any(each.accuracies for each in rows):
        for suffix in (".png", ".svg"):
            sensitivity.draw(axes, rows, folder / f"sweep{suffix}", title)
            written.append(folder / f"sweep{suffix}")
    print(f"\nrecords: {folder / 'records.jsonl'}\nsweep:   {', '.join(map(str, written))}")
    return int(any(record.status == "failed" for record in loaded.records))
