"""The verbs that run something, with what a person sees of it: progress, failures, tables, where the files lie."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.driver.estimate import estimate_seconds
from bench.driver.run import default_store, planned_trials, run_trials
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.records import files
from bench.records.files import Record, State
from bench.trials.trial import Trial

LINES_EVERY = 15.0  # seconds between progress lines where there is no terminal
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
    view = _View(trials, folder, jobs)
    if dry_run:
        from bench.driver.walk import RERUN, states
        from bench.stages.stages import Workspace

        existing = _existing(folder)
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


def _existing(folder: Path) -> list[Record]:
    return files.load(folder).records if any(folder.glob("*.jsonl")) else []


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


def leaderboard_command(
    results: str,
    *,
    by: str | None,
    scores: str | None,
    full_data: str | None,
    unaugmented: Sequence[str],
    format_: str,
) -> int:
    """The verb `leaderboard`. Returns the exit code: 1 if a line was edited. Raises UserError for options that do not
    go together."""
    from bench.lock.lock_file import released
    from bench.reports import ddranking
    from bench.reports.ddranking import render_scores
    from bench.reports.leaderboard.by_protocol import by_protocol, render_across
    from bench.reports.leaderboard.page import render
    from bench.reports.leaderboard.rows import leaderboard

    if by and scores:
        raise UserError(f"--by {by} and --scores {scores} are two tables: type one of them.")
    if (full_data or unaugmented) and not scores:
        raise UserError("--full-data and --unaugmented belong to DD-Ranking's scores: type --scores dd-ranking too.")
    pairs = {pair: pair.partition("=") for pair in unaugmented}
    if wrong := [pair for pair, (name, _, other) in pairs.items() if not name or not other]:
        raise UserError(f"--unaugmented {wrong[0]}: type two protocols, for instance standard-hard-sgd-v1=mine-v1.")

    loaded = files.load(results)
    for note in loaded.notes:
        print(note, file=sys.stderr)
    latest = files.latest(loaded.records)
    if scores:
        full = files.latest(files.load(full_data).records) if full_data else []
        plain = {name: other for name, _, other in pairs.values()}
        print(render_scores(ddranking.scores(latest, full, plain, released()), format_))
    elif by == "protocol":
        print(render_across(by_protocol(latest, released()), format_))
    else:
        print(render(leaderboard(latest, released()), format_))
    return int(bool(loaded.tampered))


class _View:
    """Progress: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, trials: Sequence[Trial], folder: Path, jobs: int | None) -> None:
        self._folder, self._trials, self._jobs = folder, trials, jobs
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._counts: Counter[str] = Counter()
        self._total = 0
        self._begun = self._last_line = time.monotonic()

    def overview(self, states: dict[Trial, State], chosen: Sequence[Trial], existing: Sequence[Record]) -> None:
        """What is there, what would run, and for how long."""
        counts = Counter(states.values())
        parts = ", ".join(f"{counts[state]} {state}" for state in ("done", "missing", "failed", "stale"))
        self._print(f"{len(states)} trials: {parts}; {len(chosen)} to run.")
        if chosen:
            seconds, unknown = estimate_seconds(chosen, existing)
            jobs = self._jobs or _cores()
            known = f"about {_duration(seconds / jobs)} on {jobs} core{'s' if jobs > 1 else ''}"
            if unknown == len(chosen):
                known = "? (no earlier record of their like)"
            elif unknown:
                known += f", and ? for {unknown} trials without an earlier record of their like"
            self._print(f"estimated time: {known}")

    def start(self, states: dict[Trial, State], chosen: Sequence[Trial]) -> None:
        """The overview, then the bar."""
        self.overview(states, chosen, _existing(self._folder))
        self._total = len(chosen)
        if chosen and self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._progress.add_task("trials", total=len(chosen))
            self._progress.start()

    def record(self, record: Record) -> None:
        """A trial has ended."""
        self._counts[record.status] += 1
        label = str(Trial.from_dict(record.trial))
        if record.status == "failed" and record.error is not None:
            first = record.error.message.partition("\n")[0]
            self._print(f"failed: {label}: {record.error.type}{': ' + first if first else ''}")
        self._step(label, record.accuracy)

    def skip(self, trial: Trial) -> None:
        """A trial turned out to be done."""
        self._counts["done"] += 1
        self._step(str(trial), None)

    def _step(self, label: str, accuracy: float | None) -> None:
        if self._progress is not None:
            self._progress.update(self._task, advance=1)
            return
        ended = sum(self._counts.values())
        if ended == self._total or time.monotonic() - self._last_line >= LINES_EVERY:
            self._last_line = time.monotonic()
            result = f", last: {label}{f' {100 * accuracy:.1f} %' if accuracy is not None else ''}"
            self._print(f"{ended}/{self._total} trials after {_duration(self._last_line - self._begun)}{result}")

    def _print(self, text: str) -> None:
        (self._progress.console if self._progress else self._console).print(text, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def __enter__(self) -> _View:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _cores() -> int:
    import os

    return os.cpu_count() or 1


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def teacher_command(dataset: str, recipe: str, *, ship: bool, store: Path | None, plugins: Sequence[str]) -> None:
    """The verb `teacher`."""
    from bench.driver.run import default_device
    from bench.plugins.spec import parse
    from bench.stages import stages
    from bench.teachers import teachers

    ws = stages.Workspace((store or default_store()).resolve(), discover(plugins), default_device())
    spec = str(parse(ws.registry, "dataset", dataset))
    described = stages.describe(ws, spec)
    ref = stages.teach(ws, recipe, described)
    print(f"{spec}: {ref.network}, {100 * ref.accuracy:.2f} % on the test split, weights {ref.digest[:16]}")
    place = teachers.ship(ref, ws.store, recipe, spec) if ship else ref.path(ws.store)
    print(f"{place} ({place.stat().st_size} bytes)")
