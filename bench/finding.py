"""What a check found, and how a person or a program reads it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from bench.errors import with_short_paths
from bench.texts import cut, visible

Severity = Literal["error", "warning", "note"]
ORDER: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One broken rule in one place.

    error: the comparison is unfair, or a number cannot be trusted: exit code 1. warning: it may mislead, exit code 0.
    note: a declared exception, or something that could not be checked here, printed so that nobody overlooks it.
    """

    rule: str  # stable, lower case with hyphens, for instance "more-epochs"; programs and tests read it
    where: str  # plugin, file and line, trial or cell
    message: str  # what was found, what is allowed, what to type
    severity: Severity = "error"


def exit_code(findings: Iterable[Finding]) -> int:
    """1 if there is any error, else 0."""
    return int(any(finding.severity == "error" for finding in findings))


def as_text(findings: Iterable[Finding], checked: str) -> str:
    """Findings for a terminal, worst first, then one line that sums up. `checked` says what was looked at."""
    ordered = sorted(findings, key=lambda f: ORDER.index(f.severity))
    lines = [visible(f"{f.severity}: [{f.rule}] {cut(f.where)}: {cut(f.message)}") for f in ordered]
    counts = [(severity, sum(f.severity == severity for f in ordered)) for severity in ORDER]
    summary = ", ".join(f"{n} {severity}{'s' if n > 1 else ''}" for severity, n in counts if n) or "nothing found"
    return with_short_paths("\n".join([*lines, f"{checked}: {summary}."]))


def as_json(findings: Iterable[Finding]) -> str:
    """A JSON list of objects with the fields of Finding."""
    shown = [{key: with_short_paths(cut(value)) for key, value in asdict(f).items()} for f in findings]
    return json.dumps(shown, indent=1, ensure_ascii=False)
