"""`condensebench check records DIR [--baseline DIR]`: is what is compared comparable, and did a number drift?

The rules stand in bench/checks/records/rules.py, by name. Everything is recomputed from the files of this
installation: what a record says about itself is not believed. Nothing is trained; `condensebench verify` runs records
    again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.checks.records.baseline import check_drift
from bench.checks.records.board import Cell, Line, cells
from bench.checks.records.contents import check_contents
from bench.checks.records.curve_rules import check_curves
from bench.checks.records.fairness import check_cell
from bench.checks.records.label_bytes import check_bytes
from bench.checks.records.prescribed import Prescribed
from bench.checks.records.rules import RULES, Findings
from bench.checks.records.values import check_copies, check_values
from bench.checks.records.watched import check_conduct
from bench.finding import Finding
from bench.lock.before_run import guard
from bench.places import absolute_path
from bench.plugins.registry import Registry
from bench.records import files as records
from bench.records.files import LeanRecord, Loaded, ReadRecord, Record

VERIFY_RULES = {"edited-accuracy", "picked-seed", "other-images", "other-bytes", "not-reproduced", "moved-within-noise"}
RULE_OF = {
    "torn": "torn-line",
    "newer": "torn-line",
    "refused": "impossible-value",
    "tampered": "edited-line",
}  # of a problem's kind
DRIFT_RULES = {
    "digests-changed",
    "moved",
    "not-bitwise",
    "other-machine",
    "vanished",
    "new-trials",
    "resolution",
    "no-overlap",
}


@dataclass(frozen=True)
class Checked:
    """What was looked at, and what was found."""

    findings: tuple[Finding, ...]
    by_place: Mapping[str, Sequence[Finding]]  # FILE:LINE, or a cell as findings write it -> what was found there
    records: int
    cells: int
    rules: int
    rules_unchecked: int

    @property
    def summary(self) -> str:
        """For the last line of the text."""
        skipped = f", {self.rules_unchecked} of them not everywhere" if self.rules_unchecked else ""
        return f"{self.records} records in {self.cells} cells, {self.rules} rules{skipped}"


def check_records(
    folder: str | Path, *, registry: Registry, store: Path, baseline: str | Path | None = None
) -> Checked:
    """All rules over the records of a folder or file.

    Args:
        folder: with .jsonl record files, or one such file.
        registry: plugins and protocols that the records may name.
        store: where data sets and teachers were opened before.
        baseline: earlier records of the same trials.

    Raises:
        UserError: there are no such records.
        LockError: a released protocol that the records name is not what protocols/lock.json holds.
    """
    out = Findings()
    lines, left_out = read_lines(folder, out)
    board = check_lines(lines, left_out, registry=registry, store=store, out=out)
    if baseline is not None:
        check_drift(board, cells(*read_lines(baseline, out)), out)
    elsewhere = VERIFY_RULES | (DRIFT_RULES if baseline is None else set()) | {"not-checked"}
    return Checked(
        findings=tuple(out),
        by_place=out.by_place,
        records=len(lines),
        cells=len(board),
        rules=len(RULES.keys() - elsewhere),
        rules_unchecked=len(out.rules_unchecked),
    )


def check_lines(
    lines: Sequence[Line],
    left_out: Sequence[Mapping[str, Any]] = (),
    *,
    registry: Registry,
    store: Path,
    out: Findings,
) -> list[Cell]:
    """Hold records to all rules but those that need a baseline; `out` takes the findings. Returns their cells.

    Raises LockError where a released protocol that they name is not what protocols/lock.json holds.
    """
    board = cells(lines, left_out)
    prescribed = Prescribed(registry, store)
    guard(registry, prescribed.in_force({cell.protocol for cell in board}), absolute_path(store))
    for cell in board:
        check_cell(cell, prescribed, out)
        check_bytes(cell, prescribed, out)
        check_curves(cell, prescribed, out)
        check_copies(cell, out)
    check_contents(board, out)
    check_conduct(lines, out)
    check_values(lines, out)
    return board


def read_lines(
    folder: str | Path,
    out: Findings,
    read: Callable[[str | Path], Loaded[LeanRecord] | Loaded[Record]] = records.scan,
) -> tuple[list[Line], list[Mapping[str, Any]]]:
    """(the records of a folder with their places, the trials of lines that were left out); what cannot be read, cannot
    be or was edited becomes a finding."""
    loaded = read(folder)
    for problem in loaded.problems_by_kind:
        out.add(RULE_OF[problem.kind], problem.place, problem.text, "note" if problem.level == "note" else None)
    if not loaded.records:
        out.add("no-records", str(folder), "no record can be read here; condensebench run --results DIR makes some")
    kept: Sequence[ReadRecord] = loaded.records
    lines = [Line(record, where) for record, where in zip(kept, loaded.places, strict=True)]
    return lines, loaded.left_out
