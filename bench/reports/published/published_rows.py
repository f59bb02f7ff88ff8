"""A published number beside the records of its cell: the difference, and whether it is more than the spreads allow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.errors import UserError
from bench.records.files import Record, latest
from bench.records.schema import FIXED
from bench.reports.published.published_file import Explanation, Number, Published
from bench.stats.intervals import Replicates, Summary, paired, summary, unpaired
from bench.trials.trial import Trial

Cell = tuple[str, str, str, int]  # data set, protocol, method, ipc


NO_TEACHER = "none"  # of a record that used none


@dataclass(frozen=True)
class Measured:
    """What records hold of a cell."""

    accuracies: Replicates  # replicate -> percent
    planned: int  # replicates that the plan asks for

    @property
    def summary(self) -> Summary:
        """Mean and spread, in percent."""
        return summary(self.accuracies.values())


@dataclass(frozen=True)
class Reproduction:
    """A published number and its cell."""

    number: Number
    here: Measured

    @property
    def difference(self) -> float:
        """Points by which the mean here is above the published one; nan where nothing was measured."""
        return self.here.summary.mean - self.number.mean

    @property
    def half(self) -> float:
        """Half of the 95 % interval of the difference of the two means (Welch)."""
        number = self.number
        return unpaired(self.here.summary, Summary(number.sets, number.mean, number.std, math.nan))

    @property
    def verdict(self) -> str:
        """inside or outside, or why that cannot be said."""
        if not self.here.accuracies:
            return "not run"
        if math.isnan(self.half):
            return "too few"
        return "inside" if abs(self.difference) <= self.half else "outside"


@dataclass(frozen=True)
class Trialled:
    """An explanation, the cell of its run and the one whose difference it may explain."""

    explanation: Explanation
    base: Reproduction
    here: Measured

    @property
    def change(self) -> Summary:
        """What the run changes, in points, over the replicates that both have."""
        return paired(self.here.accuracies, self.base.here.accuracies)


def compare(
    published: Published, records: Iterable[Record], planned: Sequence[Trial]
) -> tuple[list[Reproduction], list[Trialled]]:
    """Every number and every explanation with what was measured.

    Args:
        published: the file.
        records: any; of several lines of a trial the last one counts, and those without an accuracy not at all.
        planned: the trials of the plan.

    Raises:
        UserError: a number could be held to several students, compressors or budgets, or to students of several
            teachers or of other things that are the same for all of a cell; an explanation is of another teacher.
    """
    cells: dict[Cell, dict[int, float]] = {}
    kinds: dict[Cell, dict[str, str]] = {}
    for record in latest(records):
        if record.accuracy is not None:
            trial = Trial.from_dict(record.trial)
            kind = _kind(trial, record)
            first = kinds.setdefault(_cell(trial), kind)
            if name := next((name for name in kind if kind[name] != first[name]), None):
                dataset, protocol, method, ipc = _cell(trial)
                raise UserError(
                    f"{method} on {dataset}, ipc {ipc}, {protocol} has records of {name} '{_shown(first, name)}' and "
                    f"of '{_shown(kind, name)}'; a published number is held to one of them. Type --results DIR, with "
                    f"a folder that has one."
                )
            cells.setdefault(_cell(trial), {})[trial.replicate] = 100 * record.accuracy
    wanted: dict[Cell, int] = {}
    for trial in planned:
        wanted[_cell(trial)] = wanted.get(_cell(trial), 0) + 1

    def measured(dataset: str, protocol: str, method: str, ipc: int) -> Measured:
        cell = (dataset, protocol, method, ipc)
        return Measured(cells.get(cell, {}), wanted.get(cell, 0))

    rows = [
        Reproduction(each, measured(each.dataset, each.protocol, each.method, each.ipc)) for each in published.number
    ]
    trialled = [
        Trialled(each, base, measured(base.number.dataset, each.protocol, each.method, ipc))
        for each in published.explanation
        for ipc in each.ipcs
        for base in rows
        if (base.number.name, base.number.ipc) == (each.name, ipc)
    ]
    for each in trialled:
        _of_one_teacher(each, kinds)
    return rows, trialled


def _kind(trial: Trial, record: Record) -> dict[str, str]:
    """What all replicates of a number have in common: its name -> the student, or a digest."""
    student = " ".join(filter(None, (trial.student, trial.compressor, trial.budget)))
    return {"student": student} | {name: record.made_by.get(name) or NO_TEACHER for name in FIXED}


def _shown(kind: Mapping[str, str], name: str) -> str:
    """A value of `_kind` as a message has it: digests by their start."""
    return kind[name] if name == "student" else kind[name][:8]


def _of_one_teacher(each: Trialled, kinds: Mapping[Cell, Mapping[str, str]]) -> None:
    """Raise UserError where what a change does cannot be told: the cells are of two teachers, or of two data sets. Who
    used no teacher can be compared with users of any."""
    number, run = each.base.number, each.explanation
    before = kinds.get((number.dataset, number.protocol, number.method, number.ipc))
    after = kinds.get((number.dataset, run.protocol, run.method, number.ipc))
    for name in ("teacher", "dataset"):
        if before and after and before[name] != after[name] and NO_TEACHER not in (before[name], after[name]):
            raise UserError(
                f"{run.method} on {number.dataset}, ipc {number.ipc}, {run.protocol} has records of {name} "
                f"'{_shown(after, name)}', {number.method} under {number.protocol} of '{_shown(before, name)}'; what "
                f"the change does is told by records of one. Type --results DIR, with a folder that has one."
            )


def _cell(trial: Trial) -> Cell:
    return trial.dataset, trial.protocol, trial.method, trial.ipc
