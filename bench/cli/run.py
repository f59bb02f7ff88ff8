"""The verb `run`: trials, then the tables of their folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.options import (
    CACHE_LIMIT,
    DATA,
    JOBS,
    KEEP_LABELS,
    PLUGIN,
    SPEED_UP,
    STORE,
    STORE_LIMIT,
    limits_of,
    plugin_limits,
)
from bench.machine import ARITHMETICS

if TYPE_CHECKING:
    from bench.driver.prepared import Prepared
    from bench.trials.trial import Trial

GROUP = "run"
SHOWN_FAILURES = 5


@click.command()
@click.option(
    "--dataset", "datasets", multiple=True, metavar="NAME", help="For instance glyphs:classes=100; repeatable."
)
@click.option("--protocol", "protocols", multiple=True, metavar="ID", help="Repeatable [default: small-soft-v1].")
@click.option("--method", "methods", multiple=True, metavar="NAME", help="For instance el2n:end=hard; repeatable.")
@click.option("--compressor", "compressors", multiple=True, metavar="NAME", help="Of soft labels; repeatable.")
@click.option("--student", "students", multiple=True, metavar="NAME", help="Repeatable [default: the protocol's].")
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    metavar="NAME",
    help="A recipe, or FILE.toml; repeatable [default: the protocol's].",
)
@click.option("--ipc", "ipcs", multiple=True, type=click.IntRange(min=1), help="Images per class; repeatable.")
@click.option("--budget", "budgets", multiple=True, metavar="B", help="Of the labels: 30x or 20kB; repeatable.")
@click.option("--replicates", type=click.IntRange(min=1), help="Students per cell [default: 3].")
@click.option("--plan", metavar="FILE", help="A plan (TOML) instead of the options above.")
@click.option("--results", default="results/local", show_default=True, metavar="DIR", help="Continued if it exists.")
@JOBS
@click.option("--ray-address", metavar="A", help="An existing Ray cluster, for instance auto or ray://host:10001.")
@click.option(
    "--rerun",
    type=click.Choice(["missing", "failed", "stale", "all"]),
    default="missing",
    show_default=True,
    help="Which trials to run.",
)
@click.option(
    "--arithmetic",
    type=click.Choice(ARITHMETICS),
    help="Portable: the same bits on every x86-64 machine with AVX2. Native: the machine's fastest. "
    "[default: portable for embedded data, else native]",
)
@plugin_limits("86400, a day")
@click.option(
    "--gpu-share",
    type=click.FloatRange(min=0, max=1, min_open=True),
    metavar="SHARE",
    help="Of a GPU, that each stage which uses one gets at least [default: by the memory that it needs].",
)
@click.option(
    "--teacher-gpus",
    type=click.IntRange(min=1),
    metavar="N",
    default=1,
    help="That train a teacher [default: 1].",
)
@SPEED_UP
@click.option("--dry-run", is_flag=True, help="Say what would run and how long it may take; run nothing.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Run at most N trials.")
@STORE
@DATA
@CACHE_LIMIT
@KEEP_LABELS
@STORE_LIMIT
@PLUGIN
def command(
    *,
    plugins: tuple[str, ...],
    plan: str | None,
    results: str,
    jobs: int | None,
    ray_address: str | None,
    rerun: str,
    arithmetic: str | None,
    stage_timeout: float | None,
    stage_memory: float | None,
    stage_processes: int | None,
    gpu_share: float | None,
    teacher_gpus: int,
    dry_run: bool,
    limit: int | None,
    store: str | None,
    **grid: Any,
) -> int:
    """Run trials; the same command again runs only what is missing."""
    from bench.driver.defaults import default_store
    from bench.driver.prepared import RunOptions, prepare

    limits = limits_of(stage_timeout, stage_memory, stage_processes)
    place = Path(store) if store else default_store()
    on_gpus = gpu_share, teacher_gpus
    options = RunOptions(Path(results), place, jobs, ray_address, rerun, limit, arithmetic, limits, *on_gpus)
    prepared = prepare(options, plugins, plan=plan, **grid)
    if (code := carry_out(prepared, dry_run=dry_run)) is not None:
        return code
    return _finish(prepared.trials, prepared.chosen, options.results)


def carry_out(prepared: Prepared, *, dry_run: bool = False) -> int | None:
    """Run what is prepared, with progress; the exit code where nothing is left to report."""
    from bench.cli.progress import RunProgress
    from bench.driver.run import run_prepared
    from bench.records import files

    view = RunProgress(prepared)
    if dry_run:
        view.overview()
        return 0
    with files.locked(prepared.options.results), view:
        try:
            view.start()
            run_prepared(prepared, on_record=view.record, on_skip=view.skip, on_lost=view.lost, on_note=view.note)
        except KeyboardInterrupt:
            view.close()
            print("\nInterrupted. What had ended is recorded; the same command continues.", file=sys.stderr)
            return 130
    return None


def _finish(trials: Sequence[Trial], chosen: Sequence[Trial], folder: Path) -> int:
    """Print the tables and write them beside the records. Raises MachineError where a trial that ran has no record."""
    from bench.errors import MachineError
    from bench.lock.lock_file import released
    from bench.records import files
    from bench.reports.leaderboard.page import render
    from bench.reports.leaderboard.rows import leaderboard
    from bench.reports.leaderboard.summary import on_a_screen
    from bench.texts import cut
    from bench.trials.trial import Trial

    loaded = files.load(folder)
    for note in loaded.notes:
        print(note, file=sys.stderr)
    wanted = {trial.id for trial in trials}
    everything = files.latest(loaded.records)
    recorded = {record.id for record in everything}
    if gone := sum(trial.id not in recorded for trial in chosen):
        raise MachineError(
            f"{gone} of {len(chosen)} trials that ran have no record in {folder}: it was changed while the run was "
            "writing to it. The same command runs them again."
        )
    of_this_run = [record for record in everything if record.id in wanted]
    official = released()
    tables = leaderboard(of_this_run, official)
    print(on_a_screen(tables, render(tables, "text")))
    whole = leaderboard(everything, official)
    for name, format_ in (("leaderboard.md", "md"), ("leaderboard.csv", "csv")):
        (folder / name).write_text(render(whole, format_) + "\n", encoding="utf-8")
    print(f"\nrecords: {folder / 'records.jsonl'}\ntables:  {folder / 'leaderboard.md'}, {folder / 'leaderboard.csv'}")
    print(f"website: condensebench report --results {folder} --out {folder / 'site'}")
    failed = [record for record in of_this_run if record.status == "failed"]
    for record in failed[:SHOWN_FAILURES]:
        assert record.error is not None
        print(
            f"failed: {Trial.from_dict(record.trial)}\n  {record.error.type}: {cut(record.error.message)}",
            file=sys.stderr,
        )
    if failed:
        print(
            f"{len(failed)} of {len(of_this_run)} trials failed; their tracebacks are in the records. "
            f"After a repair, --rerun failed runs them again.",
            file=sys.stderr,
        )
    return 1 if failed else 0
