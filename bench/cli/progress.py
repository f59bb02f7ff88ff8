"""What a person sees of `run`, and of records that run again: what is there, for how long it runs, failures."""

from __future__ import annotations

import os
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.checks.records.board import Line
from bench.cli.trial_progress import TrialProgress, duration
from bench.driver.estimate import committed_records, estimate_seconds
from bench.driver.prepared import Prepared
from bench.driver.running_stages import Naming, told_as
from bench.records.files import Record
from bench.training.progress_files import folder_sink
from bench.trials.trial import Trial


class RunProgress(TrialProgress):
    """Progress of a run."""

    def __init__(self, prepared: Prepared) -> None:
        super().__init__()
        self._prepared = prepared
        self._teachers: set[str] = set()

    def overview(self) -> None:
        """What is there, what would run, and for how long."""
        for note in self._prepared.notes:
            print(note, file=sys.stderr)
        states, chosen = self._prepared.states, self._prepared.chosen
        counts = Counter(states.values())
        parts = ", ".join(f"{counts[state]} {state}" for state in ("done", "missing", "failed", "stale"))
        self.print(f"{len(states)} trials: {parts}; {len(chosen)} to run.")
        for line in (
            *self._prepared.pixels_to_keep,
            *self._prepared.labels_to_keep,
            *self._prepared.trainings,
        ):
            self.print(line)
        if chosen:
            seconds, unknown = estimate_seconds(chosen, self._prepared.existing)
            elsewhere = ""
            if unknown:
                further = estimate_seconds(chosen, [*committed_records(), *self._prepared.existing])
                if further[1] < unknown:
                    (seconds, unknown), elsewhere = further, ", by the project's own records of another machine"
            jobs = self._prepared.options.jobs or os.cpu_count() or 1
            known = f"about {duration(seconds / jobs)} on {jobs} core{'s' if jobs > 1 else ''}{elsewhere}"
            if unknown == len(chosen):
                known = "? (no earlier record of their like)"
            elif unknown:
                known += f", and ? for {unknown} trials without an earlier record of their like"
            self.print(f"estimated time: {known}")

    def start(self) -> None:
        """The overview, then what runs."""
        self.overview()
        if self._prepared.chosen:
            self.watch(len(self._prepared.chosen), self._prepared.progress)

    def record(self, record: Record) -> None:
        """A trial has ended."""
        label = str(Trial.from_dict(record.trial))
        for each in record.teachers or ():
            if each.digest not in self._teachers:
                self._teachers.add(each.digest)
                where = f"on the test split of {record.trial['dataset']}"
                self.print(f"teacher {each.recipe} ({each.network}): {100 * each.accuracy:.1f} % {where}")
        if record.status == "failed" and record.error is not None:
            first = record.error.message.partition("\n")[0]
            self.print(f"failed: {label}: {record.error.type}{': ' + first if first else ''}")
        self.step(label, record.accuracy)

    def note(self, text: str) -> None:
        """A sentence about the run."""
        self.print(text)

    def lost(self, trial: Trial, fault: str) -> None:
        """A trial gets no record, for a machine was to blame."""
        self.print(f"left out: {trial}: {fault}")

    def skip(self, trial: Trial) -> None:
        """A trial turned out to be done."""
        self.step(str(trial), None)


@contextmanager
def named_stages() -> Iterator[Naming]:
    """Shows what this process does, once it takes long; gives what names it."""
    with TemporaryDirectory(prefix="condensebench-progress-") as folder, TrialProgress() as shown:
        shown.watch(0, Path(folder))
        yield lambda name: told_as(name, folder_sink(Path(folder)), uuid.uuid4().hex)


@contextmanager
def progress_of_reruns(lines: Sequence[Line], folder: Path) -> Iterator[Callable[[Record], None]]:
    """How many records run again and for how long, then what runs; gives what is told each that ended."""
    seconds, _ = estimate_seconds([line.trial for line in lines], [line.record for line in lines])
    with TrialProgress() as shown:
        shown.print(f"{len(lines)} trials run again, about {max(1, round(seconds / 60))} min of work on one core")
        shown.watch(len(lines), folder)
        yield lambda record: shown.step(str(Trial.from_dict(record.trial)), record.accuracy)
