"""A trial: what is run, and its identity.

The identity is a digest of the eight fields below and nothing else. It is versioned and golden-tested: code may move, a
trial's id may not. What a result was made by (code, data, weights) is told by the digests in its record instead, so an
edited method makes its old records stale, not wrong.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import lru_cache
from operator import attrgetter
from typing import Any

from bench.fingerprint import canonical

IDENTITY_VERSION = 1


@dataclass(frozen=True, order=True, slots=True)
class Trial:
    """One student, trained once on one condensed set under one protocol. Specs are canonical
    (bench/plugins/spec.py)."""

    dataset: str
    protocol: str
    method: str
    ipc: int
    compressor: str | None  # None: no labels are stored (hard and online protocols)
    budget: str | None  # canonical (`30x`, `20000B`); None where the size does not depend on one
    student: str
    replicate: int

    @property
    def id(self) -> str:
        """16 hex digits; equal for equal trials on every machine and in every version of this project."""
        before, after = _around_replicate(*_names_of(self))
        return hashlib.sha256(f"{before}{self.replicate}{after}".encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, Any]:
        """The eight fields."""
        return dict(zip(_FIELDS, _fields_of(self), strict=True))

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Trial:
        """The inverse of as_dict; unknown keys are ignored."""
        return Trial(*[values[name] for name in _FIELDS])

    def __str__(self) -> str:
        stored = f" {self.compressor}" + (f"@{self.budget}" if self.budget else "") if self.compressor else ""
        return (
            f"{self.dataset} ipc={self.ipc} {self.method}{stored} {self.protocol} {self.student} "
            f"replicate={self.replicate}"
        )


_FIELDS = tuple(each.name for each in fields(Trial))
_NAMES = _FIELDS[:-1]  # all but the replicate
_names_of = attrgetter(*_NAMES)
_fields_of = attrgetter(*_FIELDS)


@lru_cache(maxsize=65_536)
def _around_replicate(*names: str | int | None) -> tuple[str, str]:
    """The canonical JSON that a trial's id is the digest of, before and after the number of its replicate."""
    mark = "\0"
    text = canonical({"identity": IDENTITY_VERSION, **dict(zip(_NAMES, names, strict=True)), "replicate": mark})
    before, _, after = text.rpartition(canonical(mark))
    return before, after
