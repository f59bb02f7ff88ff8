"""The leaderboard: one row per entry (method, compressor, budget) of every cell, from records.

Rows are comparable where `fixed_digest` is equal: data set, teacher, protocol, engine and network are then the same.
bench/tables.py prints what is built here.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench import stats
from bench.records import Record, latest

REFERENCE_METHOD = "random"  # the row that all others are compared with; the only method that the harness knows by name

# Stable: programs read them. Accuracies and differences as fractions, sizes in bytes, bpc in bits per class.
COLUMNS = {
    "dataset": "str",
    "protocol": "str",
    "ipc": "int64",
    "method": "str",
    "compressor": "object",  # None under hard labels
    "budget": "object",  # None where there is none
    "student": "str",
    "n": "int64",  # replicates that have a result
    "mean": "float64",
    "std": "float64",  # sample standard deviation
    "ci95": "float64",  # half of the 95 % t interval of the mean
    "bytes_images": "Int64",
    "bytes_labels": "Int64",
    "bpc": "float64",  # bits per class of all that is stored, images and labels
    "delta_random": "float64",  # mean paired difference to REFERENCE_METHOD
    "delta_random_ci95": "float64",
    "rank": "object",  # among the methods with this compressor and budget, "1=" where tied
    "best": "bool",  # best of all rows with this budget, or tied with the best
    "seconds": "float64",  # mean wall time of a trial
    "status": "str",  # ok, partial (some replicates have no result), failed, infeasible
    "smallest_bytes": "Int64",  # infeasible: what the compressor needs at the least
    "protocol_digest": "object",
    "fixed_digest": "str",  # of data set, teacher, protocol, engine and network
}
# A table: the same names, and the same digests of all that the protocol fixes.
_NAMES = ("dataset", "protocol", "ipc", "student")
_FIXED = ("dataset", "teacher", "protocol", "engine", "network")


@dataclass
class _Entry:
    """The replicates of one row."""

    name: str  # unique
    records: list[Record]

    def __post_init__(self) -> None:
        self.trial = self.records[0].trial
        self.made_by = self.records[0].made_by
        self.accuracies = {r.trial["replicate"]: r.accuracy for r in self.records if r.accuracy is not None}
        self.names = tuple(self.trial[key] for key in _NAMES)
        self.digests = tuple(self.made_by.get(key) for key in _FIXED)

    @property
    def fixed(self) -> str:
        return hashlib.sha256(json.dumps(self.digests).encode()).hexdigest()

    @property
    def status(self) -> str:
        seen = {record.status for record in self.records}
        if len(seen) == 1:
            return seen.pop()
        return "partial" if "ok" in seen else "infeasible"


def leaderboard(records: Iterable[Record]) -> pd.DataFrame:
    """One row per entry, with the columns of `COLUMNS`, in the order in which tables show them.

    Of several records of a trial the last one counts; stale ones are for the caller to leave out. Records made by other
    digests never share a row, and never a rank or a difference.
    """
    grouped: dict[str, list[Record]] = defaultdict(list)
    for record in latest(records):
        fields = {key: value for key, value in record.trial.items() if key not in ("id", "replicate")}
        grouped[json.dumps([fields, record.made_by], sort_keys=True)].append(record)
    entries = [_Entry(name, group) for name, group in grouped.items()]
    _complete_digests(entries)

    rows: list[dict[str, Any]] = []
    for table in _split(entries, lambda entry: (entry.names, entry.fixed)):
        best: set[str] = set()
        for budget in _split(table, lambda entry: entry.trial["budget"]):
            groups = stats.tie_groups({entry.name: entry.accuracies for entry in budget})
            best.update(groups[0] if groups else [])
        for cell in _split(table, lambda entry: (entry.trial["compressor"], entry.trial["budget"])):
            ranks = stats.ranks({entry.name: entry.accuracies for entry in cell})
            reference = next((entry for entry in cell if entry.trial["method"] == REFERENCE_METHOD), None)
            rows += [_row(entry, reference, ranks.get(entry.name), entry.name in best) for entry in cell]
    rows.sort(key=_order)
    # Column by column with its type, since pandas would guess another one for a column that lacks values.
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=kind) for name, kind in COLUMNS.items()})


def _complete_digests(entries: Sequence[_Entry]) -> None:
    """An entry may lack digests (a method that needs no teacher; a trial that failed before its data set was read). It
    goes into the one table that it does not contradict."""
    whole: dict[Hashable, set[tuple[str | None, ...]]] = defaultdict(set)
    for entry in entries:
        if None not in entry.digests:
            whole[entry.names].add(entry.digests)
    for entry in entries:
        fitting = [
            digests
            for digests in whole[entry.names]
            if all(mine in (None, other) for mine, other in zip(entry.digests, digests, strict=True))
        ]
        if len(fitting) == 1:
            entry.digests = fitting[0]


def _split(entries: Iterable[_Entry], key: Callable[[_Entry], Hashable]) -> list[list[_Entry]]:
    groups: dict[Hashable, list[_Entry]] = defaultdict(list)
    for entry in entries:
        groups[key(entry)].append(entry)
    return list(groups.values())


def _row(entry: _Entry, reference: _Entry | None, rank: str | None, best: bool) -> dict[str, Any]:
    ok = [record for record in entry.records if record.status == "ok"]
    accuracy = stats.summary(entry.accuracies.values())
    other = {} if reference is None or reference is entry else reference.accuracies
    delta = stats.paired(entry.accuracies, other)
    images = _mean_bytes(record.bytes_images for record in ok)
    labels = _mean_bytes(record.bytes_labels.total if record.bytes_labels else None for record in ok)
    classes = ok[0].num_classes if ok else None
    return {
        **{key: value for key, value in entry.trial.items() if key in COLUMNS},
        "n": accuracy.n,
        "mean": accuracy.mean,
        "std": accuracy.std,
        "ci95": accuracy.half,
        "bytes_images": images,
        "bytes_labels": labels,
        "bpc": math.nan if images is None or not classes else 8 * (images + (labels or 0)) / classes,
        "delta_random": delta.mean,
        "delta_random_ci95": delta.half,
        "rank": rank,
        "best": best,
        "seconds": stats.summary(sum(record.seconds.values()) for record in entry.records if record.seconds).mean,
        "status": entry.status,
        "smallest_bytes": max((r.smallest_bytes for r in entry.records if r.smallest_bytes is not None), default=None),
        "protocol_digest": entry.digests[_FIXED.index("protocol")],
        "fixed_digest": entry.fixed,
    }


def _mean_bytes(sizes: Iterable[int | None]) -> int | None:
    """Replicates of a method that draws at random hold different images, and PNGs of them different bytes."""
    known = [size for size in sizes if size is not None]
    return round(sum(known) / len(known)) if known else None


def _order(row: dict[str, Any]) -> tuple:
    """Tables in order of their heading; in a table the large budgets first; in a budget by compressor, then by rank."""
    place = int(re.sub(r"\D", "", row["rank"])) if row["rank"] else math.inf
    mean = -row["mean"] if row["n"] else math.inf
    table = (_natural(row["dataset"]), _natural(row["protocol"]), row["ipc"], _natural(row["student"]))
    group = (_budget_order(row["budget"]), row["compressor"] not in (None, "none"), row["compressor"] or "")
    return (*table, row["fixed_digest"], *group, place, mean, row["method"])


def _budget_order(budget: str | None) -> tuple[int, float]:
    """No budget, then ratios from small to large, then bytes from many to few."""
    if budget is None:
        return (0, 0.0)
    value = float(budget[:-1])
    return (1, value) if budget.endswith("x") else (2, -value)


def _natural(text: str) -> tuple:
    """classes=20 comes before classes=100."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text))
