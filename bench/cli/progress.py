"""What a person sees of a run: the trials to run and their estimated time, a bar or lines, failures as they happen."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench.checks.records.board import Line
from bench.cli.terminal import unread
from bench.driver.estimate import committed_records, estimate_seconds
from bench.driver.prepared import Prepared
from bench.records.files import Record
from bench.texts import cut, visible
from bench.trials.trial import Trial

LINES_EVERY = 15.0  # seconds between progress lines where there is no terminal,
TRAINING_EVERY = 60.0  # and between those of one stage or training
WATCH_EVERY = 2.0  # seconds between looks at what runs
SEEN_AFTER = 8.0  # seconds for which a stage runs before it is named


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
        self._watcher: threading.Thread | None = None
        self._ended = threading.Event()
        self._teachers: set[str] = set()
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
        for line in (
            *self._prepared.pixels_to_keep,
            *self._prepared.labels_to_keep,
            *self._prepared.trainings,
        ):
            self._print(line)
        if chosen:
            seconds, unknown = estimate_seconds(chosen, self._prepared.existing)
            elsewhere = ""
            if unknown:
                further = estimate_seconds(chosen, [*committed_records(), *self._prepared.existing])
                if further[1] < unknown:
                    (seconds, unknown), elsewhere = further, ", by the project's own records of another machine"
            jobs = self._prepared.options.jobs or _cores()
            known = f"about {_duration(seconds / jobs)} on {jobs} core{'s' if jobs > 1 else ''}{elsewhere}"
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
                TextColumn("{task.description}", markup=False),  # names of plugins stand in it
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._progress.add_task("trials", total=self._total)
            self._progress.start()
        if self._total:
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()

    def _watch(self) -> None:
        """Show what has been running for long, and how far trainings are, until the run ends."""
        shown: dict[str, float] = {}
        begun: dict[str, float] = {}
        bars: dict[str, TaskID] = {}
        while not self._ended.wait(WATCH_EVERY):
            now = self._long_ones(begun)
            for key, (text, epoch, epochs) in now.items():
                if self._progress is not None:
                    if key not in bars:
                        bars[key] = self._progress.add_task(text, total=epochs)
                    self._progress.update(bars[key], description=text, completed=epoch, total=epochs)
                elif time.monotonic() - shown.get(key, -TRAINING_EVERY) >= TRAINING_EVERY:
                    shown[key] = time.monotonic()
                    self._print(text)
            for key in [key for key in bars if key not in now]:
                if self._progress is not None:
                    self._progress.remove_task(bars.pop(key))

    def _long_ones(self, begun: dict[str, float]) -> dict[str, tuple[str, int, int | None]]:
        """(text, epochs done, epochs) of every stage that has been seen for SEEN_AFTER seconds, and of every training;
        the two are one where a stage trains. `begun`: when each stage was first seen, kept from look to look."""
        from bench.driver.running_stages import running_stages
        from bench.training.progress_files import standings_by_teller

        trainings = standings_by_teller(self._prepared.progress)
        stages = running_stages(self._prepared.progress)
        moment = time.monotonic()
        for ticket in stages:
            begun.setdefault(ticket, moment)
        now: dict[str, tuple[str, int, int | None]] = {}
        for ticket, stage in stages.items():
            if (training := trainings.pop(stage.teller, None)) is not None:
                same = training.name.partition(" ")[0] == stage.name.partition(" ")[0]  # both a teacher's, a student's
                text = str(training) if same else f"{stage.name}: {training}"
                now[ticket] = text, int(training.epoch), training.epochs
            elif moment - begun[ticket] >= SEEN_AFTER:
                now[ticket] = f"{stage.name}: for {_duration(moment - begun[ticket])}", 0, None
        return now | {key: (str(each), int(each.epoch), each.epochs) for key, each in trainings.items()}

    def record(self, record: Record) -> None:
        """A trial has ended."""
        self._counts[record.status] += 1
        label = str(Trial.from_dict(record.trial))
        for each in record.teachers or ():
            if each.digest not in self._teachers:
                self._teachers.add(each.digest)
                where = f"on the test split of {record.trial['dataset']}"
                self._print(f"teacher {each.recipe} ({each.network}): {100 * each.accuracy:.1f} % {where}")
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
        self._ended.set()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def __enter__(self) -> RunProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def progress_of_reruns(lines: Sequence[Line]) -> Iterator[Callable[[Record], None]]:
    """How many records are run again and for how long, and a bar on a terminal; gives what is told each that ended."""
    console = Console(stderr=True)
    seconds, _ = estimate_seconds([line.trial for line in lines], [line.record for line in lines])
    console.print(
        f"{len(lines)} trials run again, about {max(1, round(seconds / 60))} min of work on one core", highlight=False
    )
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("trials", total=len(lines))
        yield lambda _: bar.update(task, advance=1)


def _cores() -> int:
    import os

    return os.cpu_count() or 1


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
