"""The verb `run`: trials, then the tables of their folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.cli.progress import RunProgress, existing_records
from bench.driver.run import default_store, planned_trials, run_trials
from bench.plugins.registry import discover
from bench.records import files
from bench.trials.trial import Trial

SHOWN_FAILURES = 5


def run_command(
    *,
    grid: dict[str, Any],
    plugins: Sequence[str],
    plan: str | None,
    replicates: int | None,
    results: str,
    jobs: int | None,
    ray_address: str | None,
    rerun: str,
    dry_run: bool,
    limit: int | None,
    store: str | None,
) -> int:
    """The verb `run`. Returns the exit code: 1 if any of the trials asked for stands as failed."""
    registry = discover(plugins)
    place = Path(store) if store else default_store()
    trials = planned_trials(registry, place, plan=plan, replicates=replicates, **grid)
    folder = Path(results)
    view = RunProgress(trials, folder, jobs)
    if dry_run:
        from bench.driver.walk import RERUN, states
        from bench.stages.stages import Workspace

        existing = existing_records(folder)
        found = states(Workspace(place.resolve(), registry), trials, existing)
        chosen = [trial for trial in trials if found[trial] in RERUN[rerun]][:limit]
        view.overview(found, chosen, existing)
        return 0
    with files.locked(folder), view:
        try:
            run_trials(
                registry, trials, folder, jobs=jobs, ray_address=ray_address, rerun=rerun, limit=limit, store=place,
                on_start=view.start, on_record=view.record, on_skip=view.skip,
            )  # fmt: skip
        except KeyboardInterrupt:
            view.close()
            print("\nInterrupted. What had ended is recorded; the same command continues.", file=sys.stderr)
            return 130
    return _finish(trials, folder)


def _finish(trials: Sequence[Trial], folder: Path) -> int:
    from bench.lock.lock_file import released
    from bench.reports.leaderboard.page import render
    from bench.reports.leaderboard.rows import leaderboard

    loaded = files.load(folder)
    for note in loaded.notes:
        print(note, file=sys.stderr)
    wanted = {trial.id for trial in trials}
    everything = files.latest(loaded.records)
    asked = [record for record in everything if record.id in wanted]
    official = released()
    print(render(leaderboard(asked, official), "text"))
    whole = leaderboard(everything, official)
    for name, format_ in (("leaderboard.md", "md"), ("leaderboard.csv", "csv")):
        (folder / name).write_text(render(whole, format_) + "\n", encoding="utf-8")
    print(f"\nrecords: {folder / 'records.jsonl'}\ntables:  {folder / 'leaderboard.md'}, {folder / 'leaderboard.csv'}")
    failed = [record for record in asked if record.status == "failed"]
    for record in failed[:SHOWN_FAILURES]:
        assert record.error is not None
        print(
            f"failed: {Trial.from_dict(record.trial)}\n  {record.error.type}: {record.error.message}", file=sys.stderr
        )
    if failed:
        print(
            f"{len(failed)} of {len(asked)} trials failed; their tracebacks are in the records. "
            f"After a repair, --rerun failed runs them again.",
            file=sys.stderr,
        )
    return 1 if failed else 0
