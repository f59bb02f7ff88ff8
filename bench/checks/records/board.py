"""The records of a folder as a check looks at them: each with its place, in the cells that a table compares."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bench.records.files import ReadRecord, Record
from bench.trials.trial import Trial

Name = tuple[str, str | None, str | None]  # method, compressor, budget


@dataclass(frozen=True, slots=True)
class Line:
    """A record and where it stands."""

    record: ReadRecord
    where: str  # FILE:LINE

    @property
    def trial(self) -> Trial:
        """What was run."""
        return self.record.run

    @property
    def whole(self) -> Record:
        """The record, where lines were read whole (see bench.records.files.load)."""
        assert isinstance(self.record, Record), self.where
        return self.record


@dataclass(frozen=True)
class Cell:
    """What one table of a leaderboard shows: everything that ran under the same data set, protocol, ipc and student."""

    dataset: str
    protocol: str
    ipc: int
    student: str
    lines: tuple[Line, ...]  # the last record of every trial
    left_out: Mapping[Name, frozenset[int]] = field(default_factory=dict)  # replicates whose lines could not be used

    def __str__(self) -> str:
        return f"{self.dataset} ipc={self.ipc} {self.protocol} {self.student}"

    @cached_property
    def ok(self) -> tuple[Line, ...]:
        """Those with a result."""
        return tuple(line for line in self.lines if line.record.status == "ok")

    @cached_property
    def entries(self) -> Mapping[Name, list[Line]]:
        """The replicates of each row, in order."""
        grouped: dict[Name, list[Line]] = defaultdict(list)
        for line in sorted(self.lines, key=lambda line: line.trial.replicate):
            grouped[line.trial.method, line.trial.compressor, line.trial.budget].append(line)
        return grouped

    @cached_property
    def groups(self) -> Mapping[tuple[str | None, str | None], dict[str, list[Line]]]:
        """(compressor, budget) -> method -> replicates: what a table ranks together."""
        grouped: dict[tuple[str | None, str | None], dict[str, list[Line]]] = defaultdict(dict)
        for (method, compressor, budget), lines in self.entries.items():
            grouped[compressor, budget][method] = lines
        return grouped


def short(digest: str | None) -> str:
    """A digest as messages show it."""
    return "(none)" if digest is None else digest[:8]


def row(name: Name) -> str:
    """A row as messages call it: `herding svd@10x`."""
    method, compressor, budget = name
    return " ".join([method, *([compressor + (f"@{budget}" if budget else "")] if compressor else [])])


def condensed_set(record: ReadRecord) -> str:
    """What tells condensed sets apart; by the size of their images where schema 1 does not tell more."""
    return str(record.bytes_images) if record.condensed is None else record.condensed.digest


def cells(lines: Iterable[Line], left_out: Iterable[Mapping[str, Any]] = ()) -> list[Cell]:
    """The cells of a folder, in the order in which they first appear. Of several records of a trial the last counts.

    `left_out`: trials of lines that stand there and could not be used.
    """
    unused: dict[tuple[Any, ...], dict[Name, set[int]]] = defaultdict(lambda: defaultdict(set))
    for trial_fields in left_out:
        key = tuple(trial_fields.get(part) for part in ("dataset", "protocol", "ipc", "student"))
        name = (str(trial_fields.get("method")), trial_fields.get("compressor"), trial_fields.get("budget"))
        if isinstance(trial_fields.get("replicate"), int):
            unused[key][name].add(trial_fields["replicate"])
    last = {line.record.id: line for line in lines}
    grouped: dict[tuple[str, str, int, str], list[Line]] = defaultdict(list)
    for line in last.values():
        trial = line.trial
        grouped[trial.dataset, trial.protocol, trial.ipc, trial.student].append(line)
    return [
        Cell(*key, tuple(members), {name: frozenset(numbers) for name, numbers in unused[key].items()})
        for key, members in grouped.items()
    ]
