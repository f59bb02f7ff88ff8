"""Lines of record files: found within bounds, held against their digest, and turned into records or problems."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.errors import UserError
from bench.records.problems import Problem
from bench.records.schema import SCHEMA, TRIAL_KEYS, Record, line_digest, migrate
from bench.texts import cut, visible

FIRST_KEY = b'{"schema":'  # how every line begins
LONGEST = 16 * 2**20  # bytes of a line that is read
_BOM = b"\xef\xbb\xbf"
# What reading a line of a stranger may raise: no JSON, no object, no digest, nested a million deep.
_UNREADABLE = (ValueError, KeyError, AttributeError, TypeError, RecursionError, OverflowError, MemoryError)


def lines_of(file: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line) of every line that is not empty; of one that is longer than `LONGEST` only its beginning.

    Raises UserError where no line looks like a record's, unless the file is empty or holds nothing but the beginning of
    one.
    """
    written = recognised = False
    with file.open("rb") as opened:
        number = 0
        while line := opened.readline(LONGEST + 1):
            number += 1
            if number == 1:
                line = line.removeprefix(_BOM)
            start = line.strip(b" \r\n\0") if not line.startswith(FIRST_KEY) else line
            written = written or bool(start)
            recognised = recognised or start.startswith(FIRST_KEY) or (bool(start) and FIRST_KEY.startswith(start))
            if len(line) > LONGEST and not line.endswith(b"\n"):
                while (rest := opened.readline(LONGEST)) and not rest.endswith(b"\n"):
                    pass
            if line.strip():
                yield number, line
    if written and not recognised:
        raise UserError(
            f"{file} is no record file: expected lines of JSON that begin with {FIRST_KEY.decode()}. "
            "Name a folder of results, such as: condensebench leaderboard --results results"
        )


def record_files(path: Path) -> list[Path]:
    """The record files of a folder, or the one that is named. Raises UserError where there is no such file or folder,
    and where the one is no regular file, such as a pipe."""
    if not os.path.exists(path):
        raise UserError(
            f"no records at {path}: expected a folder with .jsonl record files, or one such file. "
            f"Make them with: condensebench run --results {path}"
        )
    if os.path.isdir(path):
        return sorted(path.glob("*.jsonl"))
    if not os.path.isfile(path):
        raise UserError(f"{path} is no regular file, so no records are read from it.")
    return [path]


def whole_fields(line: bytes, place: str) -> dict[str, Any] | Problem:
    """The fields of a line whose digest fits, without the digest; else what is wrong with it."""
    if len(line) > LONGEST:
        text = f"the line is longer than {LONGEST // 2**20} MiB, which no record needs; it is left out"
        return Problem("refused", "WARNING", place, text)
    try:
        fields = json.loads(line)
        changed = fields.pop("digest") != line_digest(fields)
    except _UNREADABLE:
        if not line.endswith(b"\n"):
            return Problem("torn", "note", place, "the last line was cut off, its trial counts as not run")
        text = "this line is no whole record (cut off by a crash, or edited); it is left out"
        return Problem("torn", "WARNING", place, text)
    if changed:
        text = "the line was changed after it was written (its digest does not fit)"
        return Problem("tampered", "", place, text, _trial_of(fields))
    return dict(fields)


def record_of(fields: dict[str, Any], place: str) -> Record | Problem:
    """The record of a line's fields; else why there is none."""
    schema = fields.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        text = (
            f"this line is of record schema {cut(repr(schema), 40)}, and this version reads up to {SCHEMA}; it is left "
            "out. Upgrade: pip install --upgrade condensebench"
        )
        return Problem("newer", "WARNING", place, text, _trial_of(fields))
    try:
        record = Record(**migrate(fields, place))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        reason = f"{'.'.join(map(str, first['loc']))} {first['msg']}"
    except (RecursionError, TypeError, UnicodeError) as error:  # nested too deeply; halves of letters
        reason = str(error)
    else:
        hidden = [key for key, value in record.trial.items() if isinstance(value, str) and not is_name(value)]
        if not hidden:
            return record
        reason = f"trial.{hidden[0]} holds a line break"
    text = f"not a record, it is left out: {cut(visible(reason), 500)}"
    return Problem("refused", "WARNING", place, text, _trial_of(fields))


def is_name(text: str) -> bool:
    """Whether a name of a trial is one line, so that no table or finding shows it as several."""
    return len(text.splitlines()) <= 1


def _trial_of(fields: dict[str, Any]) -> dict[str, Any] | None:
    """What a line that is left out tells of its trial: names, numbers and nothing else."""
    trial = fields.get("trial")
    if not isinstance(trial, dict):
        return None
    return {key: trial[key] for key, kinds in TRIAL_KEYS.items() if key in trial and _fits(trial[key], kinds)}


def _fits(value: Any, kinds: tuple[type, ...]) -> bool:
    return type(value) in kinds and (not isinstance(value, int) or abs(value) < 2**53)
