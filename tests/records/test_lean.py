"""Lean records: the same as the whole ones, from every line that there is and from lines that a stranger wrote."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UserError
from bench.plugins.former_code import FILE
from bench.records import lean
from bench.records.files import LeanRecord, Record, load, scan
from bench.records.lean import LeanReader
from bench.records.lines import LONGEST
from bench.records.schema import SCHEMA, line_digest
from speed._records import lines
from tests.worlds import ROOT
from tests.worlds.records import made_by, record

FIELDS = [name for name in LeanRecord.__struct_fields__ if name not in ("run", "provenance")]


def parts(value: Any) -> Any:
    """A part of either kind of record as plain values."""
    if isinstance(value, list):
        return [parts(each) for each in value]
    if isinstance(value, lean.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    return value.model_dump() if hasattr(value, "model_dump") else value


def same(ours: LeanRecord, whole: Record) -> bool:
    assert ours.run.as_dict() == {key: whole.trial[key] for key in ours.run.as_dict()}
    for name in FIELDS:
        mine, theirs = parts(getattr(ours, name)), parts(getattr(whole, name))
        assert (mine, type(mine)) == (theirs, type(theirs)), name
    kept = ("pixels", "counted_as")
    assert ours.provenance == {key: value for key, value in whole.provenance.items() if key in kept}
    return True


def both(path: Path) -> None:
    """Both readers give the same records, places and problems."""
    ours, whole = scan(path), load(path)
    assert ours.problems == whole.problems
    assert ours.places == whole.places
    assert len(ours) == len(whole)
    assert all(same(mine, theirs) for mine, theirs in zip(ours, whole, strict=True))


@pytest.mark.parametrize("folder", ["claims", "compressors", "default-plan", "full-data", "methods", "recipes"])
def test_every_committed_record_is_read_alike(folder: str, tmp_path: Path) -> None:
    written = (ROOT / "results" / folder / "records.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "a.jsonl").write_bytes(b"".join(written[::7]))  # of schema 1 to 4
    both(tmp_path)


def test_committed_and_synthetic_lines_take_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(line: bytes, place: str) -> Any:
        raise AssertionError(f"the slow way: {place}")

    monkeypatch.setattr(lean, "whole_fields", slow)
    reader, made = LeanReader(), lines()
    texts = (ROOT / "results/default-plan/records.jsonl").read_text(encoding="utf-8").splitlines()
    for line in [*texts, *(next(made) for _ in range(50))]:
        assert isinstance(reader.read(line.encode(), "a:1"), LeanRecord)


def signed(**changed: Any) -> str:
    """A line with any values and the digest that fits them."""
    fields = {**record(0.5).fields(), **changed}
    return json.dumps({**fields, "digest": line_digest(fields)}, separators=(",", ":"))


@pytest.mark.parametrize("schema", range(3, SCHEMA + 1))
def test_a_record_of_code_that_has_changed_without_changing_a_byte_counts_as_of_today(
    schema: int, tmp_path: Path
) -> None:
    """Of every schema: code goes on changing while a schema stays."""
    before, after = json.loads(FILE.read_text(encoding="utf-8"))["equal"][0]["digests"]["compressor rpca"]
    path = tmp_path / "records.jsonl"
    path.write_text(signed(schema=schema, made_by={**made_by(), "compressor": before}), encoding="utf-8")
    both(path)
    (only,) = scan(path)
    assert only.made_by["compressor"] == after


def of_trial(**changed: Any) -> dict[str, Any]:
    return {**record(0.5).trial, **changed}


SEEN = {"digest": "d", "per_class": [0, 3], "repeated": 0, "in_test_exact": 0, "in_test_near": 0, "train_in_test": 0}
STRANGE = {
    "text for a loss": {"test_loss": "abc"},
    "list for a loss": {"train_loss": [1.0]},
    "true for a loss": {"test_loss": True},
    "huge loss": {"test_loss": 10**400},
    "huge count": {"bytes_images": 10**30},
    "count of 2^53": {"bytes_images": 2**53},
    "huge ipc": {"trial": of_trial(ipc=10**4000)},
    "huge replicate": {"trial": of_trial(replicate=2**63)},
    "ipc that is true": {"trial": of_trial(ipc=True)},
    "an order in a name": {"trial": of_trial(method="x\x1b[31m")},
    "two lines in a name": {"trial": of_trial(method="x\nerror: all is well")},
    "no budget": {"trial": of_trial(budget="9" * 400 + "x")},
    "extra key": {"trial": of_trial(more=1)},
    "unknown field": {"more": 1},
    "accuracy above 1": {"accuracy": 1.5},
    "whole accuracy": {"accuracy": 1},
    "small loss": {"test_loss": 3.2e-05},
    "integer seconds": {"seconds": {"train": 3}},
    "null seconds": {"seconds": {"train": None}},
    "list for seconds": {"seconds": [1]},
    "other texts": {"environment": {"machine": "Ж"}, "provenance": {"by": "é", "list": [[1, [2.50]]]}},
    "environment of numbers": {"environment": {"threads": 1}},
    "made by a number": {"made_by": {**made_by(), "method": 3}},
    "time of another place": {"finished": "2026-01-01T00:00:00.000000+01:00"},
    "no time": {"finished": "yesterday"},
    "13th month": {"finished": "2026-13-01T00:00:00.000000+00:00"},
    "time without microseconds": {"finished": "2026-01-01T00:00:00+00:00"},
    "another id": {"id": "0" * 16},
    "status without its value": {"status": "infeasible"},
    "no status": {"status": "great"},
    "newer": {"schema": SCHEMA + 1},
    "schema 0": {"schema": 0},
    "schema 10^30": {"schema": 10**30},
    "teachers": {"teachers": [{"recipe": "r", "network": "n", "digest": "d", "accuracy": 0.5}]},
    "whole accuracy of a teacher": {"teachers": [{"recipe": "r", "network": "n", "digest": "d", "accuracy": 1}]},
    "no teachers": {"teachers": [{"recipe": "r"}]},
    "conduct": {"conduct": {"method": ["left: x", "é"]}, "limits": "none"},
    "no conduct": {"conduct": {"method": "left"}},
    "pixels": {"provenance": {"pixels": "float16"}},
    "count of images": {"provenance": {"counted_as": "png-rle"}},
    "not balanced": {"class_balance": "free", "condensed": {**SEEN, "empty_classes": 2}},
    "a balance that there is not": {"class_balance": "odd"},
    "no balance": {"class_balance": None, "condensed": {**SEEN, "empty_classes": None}},
    "memory": {"peak_bytes": {"train": 10**9}},
    "memory below nothing": {"peak_bytes": {"train": -1}},
    "no memory": {"peak_bytes": None},
    "deep": {"provenance": {"a": [[[[[[[[[[]]]]]]]]]]}},
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_strangers_line_costs_no_other_record_and_is_told_with_its_place(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([record(0.5).line(), signed(**STRANGE[name]), record(0.6, replicate=1).line()]) + "\n")
    both(path)
    loaded = load(path)
    assert [f"{path}:{number}" for number in (1, 3)] == [place for place in loaded.places if not place.endswith(":2")]
    harmless = {
        "extra key",
        "an order in a name",
        "whole accuracy",
        "small loss",
        "integer seconds",
        "other texts",
        "deep",
    }
    harmless |= {"not balanced", "no balance", "memory", "no memory"}
    harmless |= {"teachers", "whole accuracy of a teacher", "conduct", "pixels", "count of images"}
    assert len(loaded.problems) == (name not in harmless | {"time without microseconds"})
    assert all(problem.place == f"{path}:2" for problem in loaded.problems)
    assert all(len(str(problem)) < 1000 for problem in loaded.problems)


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000, b'{"schema":' * 100_000, b'{"schema":4,"a":' + b"9" * 10_000 + b"}", b"\xff\xfe{\x00}\x00",
        b'{"schema":4,"digest":[]}', b'{"schema":4,"trial":{"method":["x"]},"digest":""}', b"\x00" * 50,
        b"\xef\xbb\xbf",
    ],
)  # fmt: skip
def test_bytes_that_are_no_record_are_left_out(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(record(0.5).line().encode() + b"\r\n" + line + b"\n")
    both(tmp_path)
    assert len(load(tmp_path)) == 1


def test_bytes_that_are_no_text_are_seen_where_a_later_value_hides_them(tmp_path: Path) -> None:
    line = record(0.5).line().encode()
    at = line.index(b'"made_by"')
    (tmp_path / "a.jsonl").write_bytes(line[:at] + b'"made_by":{"\xe5":1},' + line[at:] + b"\n" + line + b"\n")
    both(tmp_path)
    assert len(load(tmp_path)) == 1


def test_a_byte_order_mark_costs_no_record(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + record(0.5).line().encode() + b"\r\n")
    both(tmp_path)
    assert load(tmp_path).problems == []


def test_a_line_that_no_record_needs_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.records.lines.LONGEST", 10_000)
    monkeypatch.setattr("bench.records.lean.LONGEST", 10_000)
    long = signed(provenance={"text": "x" * 50_000})
    (tmp_path / "a.jsonl").write_text(f"{long}\n{record(0.5).line()}\n{long}")
    both(tmp_path)
    assert [problem.kind for problem in scan(tmp_path).problems] == ["refused", "refused"]
    assert LONGEST > 10**7


def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_text(record(0.5).line() + "\n")
    both(tmp_path)
    assert [problem.text for problem in load(tmp_path).problems] == ["no regular file; it is left out"]
    with pytest.raises(UserError, match="no regular file"):
        load(tmp_path / "a.jsonl")


def test_only_newer_lines_say_upgrade_and_one_of_them_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(signed(schema=SCHEMA + 1) + "\n")
    for read in (load, scan):
        with pytest.raises(UserError, match="Upgrade"):
            read(path)
    path.write_text(signed(schema=SCHEMA + 1) + "\n" + record(0.5).line() + "\n")
    both(path)
    assert ["Upgrade" in problem.text for problem in load(path).problems] == [True]
