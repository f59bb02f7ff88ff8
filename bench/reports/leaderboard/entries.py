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

from bench.records.files import ReadRecord, Record, Regime, latest
from bench.records.schema import FIXED
from bench.records.used_origins import used_origins

# The rows that all others are compared with; the only methods that the harness knows by name. `random` hands in no
# labels: where students learn from those, random images with soft labels stand in its place.
REFERENCE_METHOD, LEARNED_REFERENCE = "random", "random-soft"
_NAMES = ("dataset", "protocol", "ipc", "student")
_row_of = attrgetter(*_NAMES, "method", "compressor", "budget")


@dataclass
class Entry:
    """The replicates of one row. `accuracies`: replicate -> fraction, of those that have a result."""

    name: str  # unique
    records: list[ReadRecord]
    made_by: Mapping[str, str | None]  # of all of them, see bench.records.used_origins

    def __post_init__(self) -> None:
        self.trial = self.records[0].trial
        self.accuracies = {r.run.replicate: r.accuracy for r in self.records if r.accuracy is not None}
        self.labels = regime(self.records[0])
        self.names = (*(self.trial[key] for key in _NAMES), self.labels)
        self.digests: tuple[str | None, ...] = tuple(self.made_by.get(key) for key in FIXED)

    @property
    def whole(self) -> list[Record]:
        """The records, where they were read whole (see bench.records.files.load)."""
        return [record for record in self.records if isinstance(record, Record)]

    @property
    def lacks(self) -> set[str]:
        """The fixed parts of which it has no digest."""
        return {part for part, digest in zip(FIXED, self.digests, strict=True) if digest is None}

    @property
    def fixed(self) -> str:
        """Digest of all that the protocol fixes."""
        return hashlib.sha256(json.dumps(self.digests).encode()).hexdigest()

    def comparable(self, other: Entry, *parts: str) -> bool:
        """Whether both were made under the same fixed parts (all, or the named ones). Whoever used no teacher can be
        compared with users of any teacher."""
        for part in parts or FIXED:
            mine, theirs = self.digest(part), other.digest(part)
            if mine != theirs and not (part == "teacher" and None in (mine, theirs)):
                return False
        return True

    def with_digests(self, digests: tuple[str | None, ...]) -> Entry:
        """The entry as it stands in the table of these digests."""
        copied = Entry(json.dumps([self.name, digests]), self.records, self.made_by)
        copied.digests = digests
        return copied

    def digest(self, part: str) -> str | None:
        """Of one of the parts that the protocol fixes."""
        return self.digests[FIXED.index(part)]

    @property
    def teachers(self) -> str | None:
        """The teachers that were used, with what they have on the test split; None where none was, or none is told."""
        facts = next((record.teachers for record in self.records if record.teachers), None)
        if facts is None:
            return None
        return "; ".join(f"{each.recipe} ({each.network}), {100 * each.accuracy:.1f} %" for each in facts)

    @property
    def default_recipe(self) -> bool:
        """Whether the protocol has no entry for the data set."""
        return any(record.default_recipe for record in self.records)

    def official(self, released: Mapping[str, str] | None) -> bool:
        """Whether the protocol is a released one (see `is_official`) that has an entry for the data set."""
        return not self.default_recipe and is_official(self.trial["protocol"], self.digest("protocol"), released)

    @property
    def unbalanced(self) -> bool:
        """Whether the protocol lets classes have different numbers of images."""
        return any(record.class_balance == "free" for record in self.records)

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


def reference_of(labels: str | None) -> str:
    """The method that others are compared with under a label regime."""
    return LEARNED_REFERENCE if labels == "learned" else REFERENCE_METHOD


def is_reference(method: str, labels: str | None) -> bool:
    """Whether a row is the one that others are compared with."""
    return method == reference_of(labels)


def entries_of(records: Iterable[ReadRecord]) -> list[Entry]:
    """The rows that records make: replicates of one trial under one regime and one set of digests. Of several records
    of a trial the last one counts."""
    grouped: dict[str, list[ReadRecord]] = defaultdict(list)
    origins: dict[str, Mapping[str, str | None]] = {}
    names: dict[Hashable, str] = {}
    last = latest(records)
    used = used_origins(last)
    for record, made_by in zip(last, used, strict=True):
        key = (*_row_of(record.run), regime(record), id(made_by))  # `used` holds what the id is of
        if key not in names:
            names[key] = _name(record, made_by)
        grouped[names[key]].append(record)
        origins[names[key]] = made_by
    entries = [Entry(name, group, origins[name]) for name, group in grouped.items()]
    _complete_digests(entries)
    return entries


def _name(record: ReadRecord, made_by: Mapping[str, str | None]) -> str:
    """What replicates of one row share, as text."""
    fields = {key: value for key, value in record.run.as_dict().items() if key != "replicate"}
    return json.dumps([fields, regime(record), made_by], sort_keys=True)


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


def in_every_table(entries: Sequence[Entry]) -> list[Entry]:
    """The entries as tables show them: one that used no teacher, as the reference, stands in every teacher's table."""
    tables = _whole_digests(entries)
    shown = []
    for entry in entries:
        fitting = [each for each in tables[entry.names] if _fits(entry, each)]
        several = len(fitting) > 1 and entry.lacks == {"teacher"}
        shown += [entry.with_digests(each) for each in fitting] if several else [entry]
    return shown


def _complete_digests(entries: Sequence[Entry]) -> None:
    """An entry may lack digests (a method that uses no teacher; a trial that failed before its data set was read). It
    goes into the one table that it does not contradict."""
    tables = _whole_digests(entries)
    for entry in entries:
        fitting = [each for each in tables[entry.names] if _fits(entry, each)]
        if len(fitting) == 1:
            entry.digests = fitting[0]


def _whole_digests(entries: Sequence[Entry]) -> Mapping[Hashable, dict[tuple[str | None, ...], None]]:
    """By names: the digests of the entries that have all of them."""
    whole: dict[Hashable, dict[tuple[str | None, ...], None]] = defaultdict(dict)
    for entry in entries:
        if not entry.lacks:
            whole[entry.names][entry.digests] = None
    return whole


def _fits(entry: Entry, digests: tuple[str | None, ...]) -> bool:
    return all(mine in (None, other) for mine, other in zip(entry.digests, digests, strict=True))
