"""`leaderboard --by student`: condensed sets under networks that the protocol did not choose."""

from __future__ import annotations

import csv
import io

import pytest
from click.testing import CliRunner

from bench.cli.leaderboard import command
from bench.records import files
from bench.records.files import Record
from bench.reports.leaderboard.by_student import COLUMNS, by_student, render_students
from bench.stats.intervals import summary
from tests.worlds.records import cell, made_by, record

OTHERS = {"torchvision:resnet18": 0.1, "cifar_mobilenet_v2": -0.05}


def story() -> list[Record]:
    """Two methods under three students; SCORE was never trained with the third."""
    records = [*cell(0.40), *cell(0.45, seed=1, method="score")]
    for place, (student, gain) in enumerate(OTHERS.items()):
        network = {"student": student, "made_by": made_by(network=str(place + 2) * 64)}
        records += cell(0.40 + gain, **network)
        if gain > 0:
            records += cell(0.45 + gain, seed=1, method="score", **network)
    return records


def lines(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


def test_a_row_of_the_frame_is_an_entry_under_one_student() -> None:
    frame = by_student(story())
    assert list(frame.columns) == list(COLUMNS)
    found = frame[(frame["method"] == "score") & (frame["student"] == "torchvision:resnet18")].iloc[0]
    expected = summary(each.accuracy for each in cell(0.55, seed=1) if each.accuracy is not None)
    assert (found["n"], found["mean"], found["ci95"]) == (3, expected.mean, expected.half)
    assert frame["shared_digest"].nunique() == 1  # the network is all that differs
    assert frame["network_digest"].nunique() == 3


def test_a_table_has_a_column_for_each_student_and_the_mean_of_those_that_every_row_has() -> None:
    text = render_students(by_student(story()), "md")
    (head,) = lines(text, "| method")
    cells = [each.strip() for each in head.strip("|").split("|")]
    assert len(cells) == 6
    assert "cifar_mobilenet_v2" in cells[2]
    assert "resnet18" in head
    assert "mean of 2 students" in head
    (random,), (score,) = lines(text, "| random"), lines(text, "| score")
    assert "35.0" in random
    assert random.split("|")[-2].strip() == "45.0"  # of 40 and 50
    assert score.split("|")[-2].strip() == "50.0"
    assert score.split("|")[3].strip() == "-"


def test_students_of_two_protocols_or_regimes_share_no_table() -> None:
    records = [*story(), *cell(0.5, protocol="small-hard-v1", labels="hard", compressor=None, budget=None)]
    assert render_students(by_student(records), "md").count("###") == 2
    other = [*story(), *cell(0.5, made_by=made_by(teacher="e" * 64))]
    assert render_students(by_student(other), "md").count("###") == 2


def test_a_network_that_was_edited_under_its_name_is_another_student() -> None:
    text = render_students(by_student([*cell(0.4), *cell(0.5, method="score", made_by=made_by(network="e" * 64))]))
    assert "(eeeeeeee)" in text


def test_failures_stay_visible_and_csv_has_raw_numbers() -> None:
    failed = [record(None, method="el2n", replicate=r, status="failed") for r in range(3)]
    frame = by_student([*story(), *failed])
    (line,) = lines(render_students(frame), "el2n")
    assert "failed" in line
    rows = list(csv.DictReader(io.StringIO(render_students(frame, "csv"))))
    assert [float(row["mean"]) for row in rows if row["n"] != "0"] == list(frame["mean"].dropna())


def test_many_students_fit_into_150_columns() -> None:
    names = [f"torchvision:network_number_{i}" for i in range(9)]
    text = render_students(by_student([each for name in names for each in cell(0.4, student=name)]))
    assert max(map(len, text.splitlines())) <= 150
    assert "students 2 of 2" in text


@pytest.mark.parametrize("format", ["text", "md", "csv", "json", "latex"])
def test_the_verb_prints_it(tmp_path, format: str) -> None:
    for each in story():
        files.append(tmp_path / "records.jsonl", each)
    result = CliRunner().invoke(command, ["--results", str(tmp_path), "--by", "student", "--format", format])
    assert "mobilenet" in result.output
