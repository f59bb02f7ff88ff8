"""What a person sees of a run: the trials to run and their estimated time, a bar or lines, failures as they happen."""

from __future__ import annotations

import sys
import time
from collections import Counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.cli.terminal import unread
from bench.driver.estimate import estimate_seconds
from bench.driver.prepared import Prepared
from bench.records.files import Record
from bench.texts import cut, visible
from bench.trials.trial import Trial

LINES_EVERY = 15.0  # seconds between progress lines where there is no terminal


class _Console(Console):
    """A console on standard error; where that is a pipe that nobody reads any more, the run goes on without a word."""

    def on_broken_pipe(self) -> None:
        """Called by rich, which would end the program."""
        self.quiet = True
        unread(sys.stderr)


class RunProgress:
    """Progress: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._console = _Console(stderr=True)
        self._progress: Progress | None = None
        self._counts: Counter[str] = Counter()
        self._total = 0
        self._begun = self._last_line = time.monotonic()

    def overview(self) -> None:
        """What is there, what would run, and for how long."""
        for note in self._prepared.notes:
            print(note, file=sys.stderr)
        states, chosen = self._prepared.states, self._prepared.chosen
        counts = Counter(states.values())
        parts = ", ".join(f"{counts[state]} {state}" for state in ("done", "missing", "failed", "stale"))
        self._print(f"{len(states)} trials: {parts}; {len(chosen)} to run.")
        for line in self._prepared.pixels_to_keep:
            self._print(line)
        if chosen:
            seconds, unknown = estimate_seconds(chosen, self._prepared.existing)
            jobs = self._prepared.options.jobs or _cores()
            known = f"about {_duration(seconds / jobs)} on {jobs} core{'s' if jobs > 1 else ''}"
            if unknown == len(chosen):
                known = "? (no earlier record of their like)"
            elif unknown:
                known += f", and ? for {unknown} trials without an earlier record of their like"
            self._print(f"estimated time: {known}")

    def start(self) -> None:
        """The overview, then the bar."""
        self.overview()
        self._total = len(self._prepared.chosen)
        if self._total and self._console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._progress.add_task("trials", total=self._total)
            self._progress.start()

    def record(self, record: Record) -> None:
        """A trial has ended."""
        self._counts[record.status] += 1
        label = str(Trial.from_dict(record.trial))
        if record.status == "failed" and record.error is not None:
            first = record.error.message.partition("\n")[0]
            self._print(f"failed: {label}: {record.error.type}{': ' + first if first else ''}")
        self._step(label, record.accuracy)

    def note(self, text: str) -> None:
        """A sentence about the run."""
        self._print(text)

    def lost(self, trial: Trial, fault: str) -> None:
        """A trial gets no record, for a machine was to blame."""
        self._print(f"left out: {trial}: {fault}")

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
        console = self._progress.console if self._progress else self._console
        console.print(
            visible(cut(text)), highlight=False, soft_wrap=True, markup=False
        )  # a method's message is no markup

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _cores() -> int:
    import os

    return os.cpu_count() or 1


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
