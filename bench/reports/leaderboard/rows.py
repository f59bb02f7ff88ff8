"""The leaderboard: one row per entry (method, compressor, budget) of every cell, from records.

Rows are comparable where `fixed_digest` and `labels` are equal: data set, teacher, protocol, engine, network and label
regime are then the same. bench/reports/leaderboard/page.py prints what is built here.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.records.files import Record, Regime, latest
from bench.stats import intervals
from bench.stats.ranks import rank_intervals
from bench.stats.significance import holm, paired_t

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
    "rank_low": "Int64",  # the ranks that the replicates leave open (bench.stats.ranks), 1 the best
    "rank_high": "Int64",
    "p_random": "float64",  # paired t test of delta_random, two-sided
    "p_random_holm": "float64",  # Holm-adjusted over the rows of the table
    "labels": "str",  # the label regime: hard, stored or online
    "official": "bool",  # whether the protocol is a released one, unchanged
    "invalid_values": "float64",  # share of the labels' values that came out as negative probabilities
    "invalid_rows": "float64",  # share of the labels' rows that did not sum to one
}
# A table: the same names, the same label regime, and the same digests of all that the protocol fixes.
TABLE = ("dataset", "protocol", "ipc", "student", "labels", "fixed_digest")
_NAMES = ("dataset", "protocol", "ipc", "student")
FIXED = ("dataset", "teacher", "protocol", "engine", "network")


@dataclass
class Entry:
    """The replicates of one row. `accuracies`: replicate -> fraction, of those that have a result."""

    name: str  # unique
    records: list[Record]

    def __post_init__(self) -> None:
        self.trial = self.records[0].trial
        self.made_by = self.records[0].made_by
        self.accuracies = {r.trial["replicate"]: r.accuracy for r in self.records if r.accuracy is not None}
        self.labels = regime(self.records[0])
        self.names = (*(self.trial[key] for key in _NAMES), self.labels)
        self.digests = tuple(self.made_by.get(key) for key in FIXED)

    @property
    def fixed(self) -> str:
        """Digest of all that the protocol fixes."""
        return hashlib.sha256(json.dumps(self.digests).encode()).hexdigest()

    def digest(self, part: str) -> str | None:
        """Of one of the parts that the protocol fixes."""
        return self.digests[FIXED.index(part)]

    @property
    def status(self) -> str:
        """ok, partial, failed or infeasible, of all replicates."""
        seen = {record.status for record in self.records}
        if len(seen) == 1:
            return seen.pop()
        return "partial" if "ok" in seen else "infeasible"


def regime(record: Record) -> Regime:
    """The label regime of a record."""
    if record.labels is not None:
        return record.labels
    return "hard" if record.trial["compressor"] is None else "stored"


def entries_of(records: Iterable[Record]) -> list[Entry]:
    """The rows that records make: replicates of one trial under one regime and one set of digests. Of several records
    of a trial the last one counts."""
    grouped: dict[str, list[Record]] = defaultdict(list)
    for record in latest(records):
        fields = {key: value for key, value in record.trial.items() if key not in ("id", "replicate")}
        grouped[json.dumps([fields, regime(record), record.made_by], sort_keys=True)].append(record)
    entries = [Entry(name, group) for name, group in grouped.items()]
    _complete_digests(entries)
    return entries


def is_official(protocol: str, digest: str | None, released: Mapping[str, str] | None) -> bool:
    """Whether a protocol is a released one: its id has no parameters (`x-v1:scale=0.1` is a miniature) and, where
    `released` (id -> digest) is known, its digest is the released one."""
    if ":" in protocol:
        return False
    return released is None or (digest is not None and released.get(protocol) == digest)


def leaderboard(records: Iterable[Record], released: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row per entry, with the columns of `COLUMNS`, in the order in which tables show them.

    Of several records of a trial the last one counts; stale ones are for the caller to leave out. Records made by other
    digests, or under another label regime, never share a row, and never a rank or a difference.

    released: protocol id -> digest of what was released, for the column `official`; see `is_official`.
    """
    entries = entries_of(records)
    rows: list[dict[str, Any]] = []
    for table in _split(entries, lambda entry: (entry.names, entry.fixed)):
        first = len(rows)
        best: set[str] = set()
        for budget in _split(table, lambda entry: entry.trial["budget"]):
            groups = intervals.tie_groups({entry.name: entry.accuracies for entry in budget})
            best.update(groups[0] if groups else [])
        for cell in _split(table, lambda entry: (entry.trial["compressor"], entry.trial["budget"])):
            accuracies = {entry.name: entry.accuracies for entry in cell}
            ranks, open_ranks = intervals.ranks(accuracies), rank_intervals(accuracies)
            reference = next((entry for entry in cell if entry.trial["method"] == REFERENCE_METHOD), None)
            for entry in cell:
                low, high = open_ranks.get(entry.name, (None, None))
                rows.append(
                    {
                        **_row(entry, reference),
                        "rank": ranks.get(entry.name),
                        "rank_low": low,
                        "rank_high": high,
                        "best": entry.name in best,
                        "official": is_official(entry.trial["protocol"], entry.digest("protocol"), released),
                    }
                )
        for row, p in zip(rows[first:], holm([row["p_random"] for row in rows[first:]]), strict=True):
            row["p_random_holm"] = float(p)
    rows.sort(key=_order)
    # Column by column with its type, since pandas would guess another one for a column that lacks values.
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=kind) for name, kind in COLUMNS.items()})


def _complete_digests(entries: Sequence[Entry]) -> None:
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


def _split(entries: Iterable[Entry], key: Callable[[Entry], Hashable]) -> list[list[Entry]]:
    groups: dict[Hashable, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[key(entry)].append(entry)
    return list(groups.values())


def _row(entry: Entry, reference: Entry | None) -> dict[str, Any]:
    ok = [record for record in entry.records if record.status == "ok"]
    accuracy = intervals.summary(entry.accuracies.values())
    other = {} if reference is None or reference is entry else reference.accuracies
    differences = intervals.differences(entry.accuracies, other)
    delta = intervals.summary(differences)
    images = _mean_bytes(record.bytes_images for record in ok)
    labels = _mean_bytes(record.bytes_labels.total if record.bytes_labels else None for record in ok)
    classes = ok[0].num_classes if ok else None
    told = [record for record in ok if record.invalid_labels]
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
        "p_random": paired_t(differences).p,
        "labels": entry.labels,
        "seconds": intervals.summary(sum(record.seconds.values()) for record in entry.records if record.seconds).mean,
        "status": entry.status,
        "smallest_bytes": max((r.smallest_bytes for r in entry.records if r.smallest_bytes is not None), default=None),
        "protocol_digest": entry.digest("protocol"),
        "fixed_digest": entry.fixed,
        "invalid_values": intervals.summary(invalid_share(record, "values") for record in told).mean,
        "invalid_rows": intervals.summary(invalid_share(record, "rows") for record in told).mean,
    }


def invalid_share(record: Record, what: str) -> float:
    """Of the labels' "values" or "rows", how many were no probabilities; nan where the record does not tell."""
    sizes = [record.num_images, record.num_views, *([record.num_classes] if what == "values" else [])]
    if record.invalid_labels is None or not all(sizes):
        return math.nan
    return float(getattr(record.invalid_labels, what) / math.prod(size or 0 for size in sizes))


def _mean_bytes(sizes: Iterable[int | None]) -> int | None:
    """Replicates of a method that draws at random hold different images, and PNGs of them different bytes."""
    known = [size for size in sizes if size is not None]
    return round(sum(known) / len(known)) if known else None


def _order(row: dict[str, Any]) -> tuple:
    """Tables in order of their heading; in a table the large budgets first; in a budget by compressor, then by rank."""
    place = int(re.sub(r"\D", "", row["rank"])) if row["rank"] else math.inf
    mean = -row["mean"] if row["n"] else math.inf
    table = (natural(row["dataset"]), natural(row["protocol"]), row["ipc"], natural(row["student"]), row["labels"])
    group = (_budget_order(row["budget"]), row["compressor"] not in (None, "none"), row["compressor"] or "")
    return (*table, row["fixed_digest"], *group, place, mean, row["method"])


def entry_order(entry: Entry) -> tuple:
    """Where an entry stands in a list that does not rank: data set, ipc, student, method, labels, protocol."""
    trial = entry.trial
    place = (natural(trial["dataset"]), trial["ipc"], natural(trial["student"]), natural(trial["method"]))
    label = (trial["compressor"] or "", _budget_order(trial["budget"]))
    return (*place, *label, natural(trial["protocol"]), entry.labels, entry.fixed, entry.name)


def _budget_order(budget: str | None) -> tuple[int, float]:
    """No budget, then ratios from small to large, then bytes from many to few."""
    if budget is None:
        return (0, 0.0)
    value = float(budget[:-1])
    return (1, value) if budget.endswith("x") else (2, -value)


def natural(text: str) -> tuple:
    """classes=20 comes before classes=100."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text))
