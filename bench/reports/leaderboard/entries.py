"""Entries: the replicates of one method, compressor and budget under one protocol, from records.

Entries are comparable where `fixed` and `labels` are equal: data set, teacher, protocol, engine, network and label
regime are then the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from bench.records.files import LeanRecord, ReadRecord, Regime, latest
from bench.records.schema import FIXED

REFERENCE_METHOD = "random"  # the row that all others are compared with; the only method that the harness knows by name
_NAMES = ("dataset", "protocol", "ipc", "student")
_row_of = attrgetter(*_NAMES, "method", "compressor", "budget")


@dataclass
class Entry:
    """The replicates of one row. `accuracies`: replicate -> fraction, of those that have a result."""

    name: str  # unique
    records: list[ReadRecord]

    def __post_init__(self) -> None:
        self.trial = self.records[0].trial
        self.made_by = self.records[0].made_by
        self.accuracies = {r.run.replicate: r.accuracy for r in self.records if r.accuracy is not None}
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
    def default_recipe(self) -> bool:
        """Whether the protocol has no entry for the data set."""
        return any(record.default_recipe for record in self.records)

    def official(self, released: Mapping[str, str] | None) -> bool:
        """Whether the protocol is a released one (see `is_official`) that has an entry for the data set."""
        return not self.default_recipe and is_official(self.trial["protocol"], self.digest("protocol"), released)

    @property
    def status(self) -> str:
        """ok, partial, failed or infeasible, of all replicates."""
        seen = {record.status for record in self.records}
        if len(seen) == 1:
            return seen.pop()
        return "partial" if "ok" in seen else "infeasible"


def regime(record: ReadRecord) -> Regime:
    """The label regime of a record."""
    if record.labels is not None:
        return record.labels
    return "hard" if record.run.compressor is None else "stored"


def entries_of(records: Iterable[ReadRecord]) -> list[Entry]:
    """The rows that records make: replicates of one trial under one regime and one set of digests. Of several records
    of a trial the last one counts."""
    grouped: dict[str, list[ReadRecord]] = defaultdict(list)
    names: dict[Hashable, str] = {}
    for record in latest(records):
        key = (*_row_of(record.run), regime(record), id(record.made_by))  # lean records share what they are made by
        if not isinstance(record, LeanRecord) or key not in names:
            names[key] = _name(record)
        grouped[names[key]].append(record)
    entries = [Entry(name, group) for name, group in grouped.items()]
    _complete_digests(entries)
    return entries


def _name(record: ReadRecord) -> str:
    """What replicates of one row share, as text."""
    fields = {key: value for key, value in record.run.as_dict().items() if key != "replicate"}
    return json.dumps([fields, regime(record), record.made_by], sort_keys=True)


def is_official(protocol: str, digest: str | None, released: Mapping[str, str] | None) -> bool:
    """Whether a protocol is a released one: its id has no parameters (`x-v1:scale=0.1` is a miniature) and, where
    `released` (id -> digest) is known, its digest is the released one."""
    if ":" in protocol:
        return False
    return released is None or (digest is not None and released.get(protocol) == digest)


def entry_order(entry: Entry) -> tuple[Any, ...]:
    """Where an entry stands in a list that does not rank: data set, ipc, student, method, labels, protocol."""
    trial = entry.trial
    place = (natural(trial["dataset"]), trial["ipc"], natural(trial["student"]), natural(trial["method"]))
    label = (trial["compressor"] or "", budget_order(trial["budget"]))
    return (*place, *label, natural(trial["protocol"]), entry.labels, entry.fixed, entry.name)


def budget_order(budget: str | None) -> tuple[int, float]:
    """No budget, then ratios from small to large, then bytes from many to few."""
    if budget is None:
        return (0, 0.0)
    value = float(budget[:-1])
    return (1, value) if budget.endswith("x") else (2, -value)


def natural(text: str) -> tuple[tuple[int, str], ...]:
    """classes=20 comes before classes=100."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text))


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
