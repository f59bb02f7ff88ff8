"""What a reading of record files gives: the records, and the lines that were left out, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

KINDS = ("torn", "newer", "refused", "tampered")  # in the order in which they are told
AnyRecord = TypeVar("AnyRecord")


@dataclass(frozen=True)
class Problem:
    """A line that is not among the records, and why."""

    # no whole record; of a schema that this version does not know; values that no record can have; edited
    kind: Literal["torn", "newer", "refused", "tampered"]
    level: Literal["note", "WARNING", ""]
    place: str  # FILE:LINE
    text: str
    trial: Mapping[str, Any] | None = None  # of a refused or tampered line that still tells it

    def __str__(self) -> str:
        return f"{f'{self.level}: ' if self.level else ''}{self.place}: {self.text}"


@dataclass
class Loaded(Generic[AnyRecord]):
    """Records in the order they were written, and the lines that were left out."""

    records: list[AnyRecord] = field(default_factory=list)
    places: list[str] = field(default_factory=list)  # FILE:LINE of each of the records
    problems: list[Problem] = field(default_factory=list)

    @property
    def problems_by_kind(self) -> list[Problem]:
        """In the order of `KINDS`; those of a kind in the order of files and lines."""
        return sorted(self.problems, key=lambda problem: KINDS.index(problem.kind))

    @property
    def tampered(self) -> bool:
        """Whether a line was changed after it was written."""
        return any(problem.kind == "tampered" for problem in self.problems)

    @property
    def notes(self) -> list[str]:
        """Messages for the user, one for every line that was left out."""
        return [str(problem) for problem in self.problems_by_kind]

    @property
    def left_out(self) -> list[Mapping[str, Any]]:
        """The trials of lines that were refused or edited."""
        return [problem.trial for problem in self.problems if problem.trial is not None]

    def __iter__(self) -> Iterator[AnyRecord]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)
