"""`leaderboard --by protocol`: one entry under several recipes, never a ranking."""

from __future__ import annotations

import csv
import io
import json

import pytest

from bench.errors import UserError
from bench.records.files import Record
from bench.reports.leaderboard.by_protocol import COLUMNS, WARNING, by_protocol, render_across
from bench.stats.intervals import summary
from tests.worlds.records import cell, made_by, record


def story() -> list[Record]:
    soft = cell(0.40) + cell(0.45, seed=1, method="rded")
    edc = {"protocol": "edc-v1", "labels": "online"}
    return [*soft, *cell(0.50, **edc), *cell(0.58, seed=1, method="rded", **edc)]


def test_a_row_is_an_entry_under_one_protocol() -> None:
    frame = by_protocol(story())
    assert list(frame.columns) == list(COLUMNS)
    found = frame[(frame["method"] == "rded") & (frame["protocol"] == "edc-v1")].iloc[0]
    expected = summary(each.accuracy for each in cell(0.58, seed=1) if each.accuracy is not None)
    assert (found["n"], found["mean"], found["ci95"]) == (3, expected.mean, expected.half)
    assert (found["labels"], found["status"]) == ("online", "ok")


def test_each_protocol_has_a_column_that_names_its_regime() -> None:
    text = render_across(by_protocol(story()), "md")
    header = next(line for line in text.splitlines() if line.startswith("| method"))
    assert "edc-v1 (online labels)" in header
    assert "small-soft-v1 (stored labels)" in header
    (line,) = [line for line in text.splitlines() if line.startswith("| rded")]
    assert "45.0" in line
    assert "58.0" in line


def test_uncompressed_labels_and_no_stored_labels_share_a_line() -> None:
    records = [
        *cell(0.4, compressor="none", budget=None),
        *cell(0.5, protocol="small-hard-v1", compressor=None, budget=None),
    ]
    text = render_across(by_protocol(records))
    (line,) = [line for line in text.splitlines() if line.startswith("random")]
    assert "40.0" in line
    assert "50.0" in line


@pytest.mark.parametrize("format", ["text", "md", "latex"])
def test_every_table_says_that_its_columns_do_not_compare(format: str) -> None:
    assert WARNING[:40] in render_across(by_protocol(story()), format)
    assert "rank" not in render_across(by_protocol(story()), format)


def test_one_protocol_under_two_regimes_or_two_digests_has_two_columns() -> None:
    two = by_protocol(cell(0.4, labels="stored") + cell(0.5, labels="online", method="rded"))
    assert two["column"].nunique() == 2
    edited = by_protocol(cell(0.4) + cell(0.5, method="rded", made_by=made_by(protocol="0" * 64)))
    assert edited["column"].nunique() == 2
    assert edited["column"].str.contains("fixed parts").all()


def test_what_an_edited_method_gave_stands_on_a_line_of_its_own() -> None:
    records = cell(0.4)[:2] + cell(0.9, made_by=made_by(method="0" * 64))[2:]
    text = render_across(by_protocol(records))
    assert sum(line.startswith("random") for line in text.splitlines()) == 2


def test_what_has_no_result_or_no_record_stays_visible() -> None:
    failed = [record(None, method="el2n", replicate=r, status="failed") for r in range(3)]
    text = render_across(by_protocol([*story(), *failed, *cell(0.5, method="herding", protocol="edc-v1")[:2]]))
    (line,) = [line for line in text.splitlines() if line.startswith("el2n")]
    assert line.split() == ["el2n", "-", "-", "-", "failed"]


def test_many_protocols_fit_into_150_columns_and_none_is_lost() -> None:
    names = [f"standard-hard-adamw-v{i}" for i in range(1, 12)]
    method = "score:alpha=5.0,beta=1.0,normaliser=running,order=round_robin"
    frame = by_protocol([each for name in names for each in cell(0.5, method=method, protocol=name)])
    text = render_across(frame)
    assert max(map(len, text.splitlines())) <= 150
    assert "protocols 3 of 3" in text
    assert [name for name in names if f"{name} " in text or f"{name}\n" in text] == names
    assert render_across(frame, "md").count("###") == 1


def test_csv_and_json_hold_raw_numbers() -> None:
    frame = by_protocol(story())
    rows = list(csv.DictReader(io.StringIO(render_across(frame, "csv"))))
    assert [float(each["mean"]) for each in rows] == list(frame["mean"])
    assert [each["mean"] for each in json.loads(render_across(frame, "json"))] == list(frame["mean"])
    assert json.loads(render_across(by_protocol([]), "json")) == []


def test_no_records_and_unknown_formats_say_what_to_type() -> None:
    assert "condensebench run" in render_across(by_protocol([]))
    with pytest.raises(UserError, match="--format md"):
        render_across(by_protocol([]), "xml")


@pytest.mark.parametrize(("format", "heading"), [("text", "unofficial)"), ("md", "edc-v1 (online labels, unofficial)")])
def test_a_protocol_that_is_no_released_one_is_marked_in_its_column(format: str, heading: str) -> None:
    released = {"small-soft-v1": made_by()["protocol"]}
    text = render_across(by_protocol(story(), released), format)
    assert heading in text
    assert text.count("unofficial)") == 1
    assert "unofficial: " in text
    assert "unofficial" not in render_across(by_protocol(story()), format)
