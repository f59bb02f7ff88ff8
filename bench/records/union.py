"""Records of several folders as one: what they have in common counts once, what contradicts is reported."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.machine import must_agree
from bench.records.files import Loaded, Record


@dataclass(frozen=True)
class Disagreement:
    """One trial of which several records say different things. The last of them counts; they are never averaged."""

    kind: Literal["conflict", "other-machine", "other-code"]
    trial: str  # its name, for people
    places: tuple[str, ...]  # FILE:LINE
    text: str


MEANINGS = {
    "conflict": "several results by the same code on machines that must agree",
    "other-machine": "several results by the same code on different kinds of machines",
    "other-code": "results by different code or data",
}


def disagreements(loaded: Loaded[Record]) -> list[Disagreement]:
    """The trials with several different results, contradictions first.

    A trial that failed in one place and has a result in another is no disagreement.
    """
    by_trial: dict[str, list[tuple[Record, str]]] = defaultdict(list)
    for record, place in zip(loaded.records, loaded.places, strict=True):
        if record.status != "failed":
            by_trial[record.id].append((record, place))
    cases = [_disagreement(pairs) for pairs in by_trial.values()]
    order = list(MEANINGS)
    return sorted((case for case in cases if case is not None), key=lambda case: order.index(case.kind))


def _disagreement(pairs: Sequence[tuple[Record, str]]) -> Disagreement | None:
    records = [record for record, _ in pairs]
    if len({_result(record) for record in records}) < 2:
        return None
    same_code: dict[Hashable, list[Record]] = defaultdict(list)
    for record in records:
        same_code[tuple(sorted(record.made_by.items()))].append(record)
    kind: Literal["conflict", "other-machine", "other-code"] = "other-code"
    for group in same_code.values():
        if len({_result(record) for record in group}) > 1:
            kind = "conflict" if any(_contradict(a, b) for a in group for b in group) else "other-machine"
            if kind == "conflict":
                break
    shown = ", ".join("infeasible" if r.accuracy is None else f"{100 * r.accuracy:.2f} %" for r in records)
    text = f"{len(records)} records, {MEANINGS[kind]}: {shown}; the last one counts"
    return Disagreement(kind, _name(records[0]), tuple(place for _, place in pairs), text)


def _contradict(first: Record, second: Record) -> bool:
    return _result(first) != _result(second) and must_agree(first.environment, second.environment)


def _result(record: Record) -> tuple[object, ...]:
    return record.status, record.accuracy, record.test_loss, record.train_loss


def _name(record: Record) -> str:
    parts = ("dataset", "protocol", "method", "compressor", "budget", "student")
    named = [str(record.trial[part]) for part in parts if record.trial[part] is not None]
    return " ".join([*named, f"ipc={record.trial['ipc']}", f"replicate={record.trial['replicate']}"])
