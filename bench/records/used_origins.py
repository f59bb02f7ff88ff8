"""What records were made from, less the teachers that they name and did not use.

Records of earlier versions name the protocol's teacher under class labels as well, whether or not the method asked for
it. A record of the same trial by the same code that names none shows that it was not used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from bench.records.schema import Record


def used_origins(records: Sequence[Record]) -> list[Mapping[str, str | None]]:
    """`made_by` of each record; without the teacher where another replicate of the trial, made by the same data, code
    and protocol, has a result and names none."""
    unused = {_without_teacher(each) for each in records if each.status == "ok" and each.made_by.get("teacher") is None}
    return [
        {**each.made_by, "teacher": None} if unused and _without_teacher(each) in unused else each.made_by
        for each in records
    ]


def _without_teacher(record: Record) -> str:
    """What must agree: all of the trial but its replicate, and all digests but the teacher's."""
    trial = {key: value for key, value in record.trial.items() if key not in ("id", "replicate")}
    digests = {key: value for key, value in record.made_by.items() if key != "teacher" and value is not None}
    return json.dumps([trial, digests], sort_keys=True)
