"""A trial: what is run, and its identity.

The identity is a digest of the eight fields below and nothing else. It is versioned and golden-tested: code may move, a
trial's id may not. What a result was made by (code, data, weights) is told by the digests in its record instead, so an
edited method makes its old records stale, not wrong.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from bench.fingerprint import digest

IDENTITY_VERSION = 1


@dataclass(frozen=True, order=True)
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
        return digest({"identity": IDENTITY_VERSION, **asdict(self)})[:16]

    def as_dict(self) -> dict[str, Any]:
        """The eight fields."""
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Trial:
        """The inverse of as_dict; unknown keys are ignored."""
        return Trial(**{f.name: values[f.name] for f in fields(Trial)})

    def __str__(self) -> str:
        stored = f" {self.compressor}" + (f"@{self.budget}" if self.budget else "") if self.compressor else ""
        return (
            f"{self.dataset} ipc={self.ipc} {self.method}{stored} {self.protocol} {self.student} "
            f"replicate={self.replicate}"
        )
