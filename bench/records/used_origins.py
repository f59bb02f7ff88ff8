"""What records were made from, less the teachers that they name and did not use.

Records of earlier versions name the protocol's teacher under class labels as well, whether or not the method asked for
it. A record of the same trial by the same code that names none shows that it was not used.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from bench.records.lean import LeanRecord
from bench.records.schema import Record
from bench.trials.trial import Trial

_Origins = Mapping[str, str | None]


def used_origins(records: Sequence[Record | LeanRecord]) -> list[_Origins]:
    """`made_by` of each record; without the teacher where another replicate of the trial, made by the same data, code
    and protocol, has a result and names none. Records that share a mapping go on sharing one."""
    others: dict[int, frozenset[tuple[str, str | None]]] = {}
    without: dict[int, _Origins] = {}
    key = partial(_without_teacher, others)
    unused = {key(each) for each in records if each.status == "ok" and each.made_by.get("teacher") is None}
    if not unused:
        return [each.made_by for each in records]
    return [
        without.setdefault(id(each.made_by), {**each.made_by, "teacher": None}) if key(each) in unused else each.made_by
        for each in records
    ]


def _without_teacher(
    others: dict[int, frozenset[tuple[str, str | None]]], record: Record | LeanRecord
) -> tuple[Trial, Hashable]:
    """What must agree: all of the trial but its replicate, and all digests but the teacher's.

    `others`: the digests by the identity of the mapping that holds them, which the records keep alive.
    """
    made_by = record.made_by
    digests = others.get(id(made_by))
    if digests is None:
        kept = ((key, value) for key, value in made_by.items() if key != "teacher" and value is not None)
        digests = others[id(made_by)] = frozenset(kept)
    return replace(record.run, replicate=0), digests
