"""Records of several people: what they share counts once, what contradicts is named, and nothing is averaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.errors import UserError
from bench.records import files
from bench.records.union import disagreements
from tests.worlds.records import made_by, record

PORTABLE = {"arithmetic": "portable", "machine": "a CPU"}


def write(folder: Path, *records: files.Record) -> str:
    for each in records:
        files.append(folder / "records.jsonl", each)
    return str(folder)


def merged(*arguments: str) -> tuple[int, str]:
    answer = CliRunner().invoke(cli, ["merge", *arguments], catch_exceptions=False)
    return answer.exit_code, answer.output


def test_a_line_of_two_folders_is_written_once_and_merging_again_adds_nothing(tmp_path: Path) -> None:
    both, mine, yours = (record(0.5 + r / 10, replicate=r) for r in range(3))
    folders = write(tmp_path / "a", both, mine), write(tmp_path / "b", both, yours)
    into = str(tmp_path / "all")
    assert merged(*folders, "--into", into) == (0, f"{into}: 3 lines added, 0 were there; 0 contradictions\n")
    assert merged(*folders, "--into", into) == (0, f"{into}: 0 lines added, 3 were there; 0 contradictions\n")
    assert [each.accuracy for each in files.load(into)] == [0.5, 0.6, 0.7]


def test_two_results_of_one_trial_are_named_and_both_kept(tmp_path: Path) -> None:
    first, second = (
        record(value, environment=PORTABLE, finished=f"2026-01-0{day}T00:00:00+00:00")
        for day, value in ((1, 0.5), (2, 0.6))
    )
    into = tmp_path / "all"
    code, output = merged(write(tmp_path / "a", first), write(tmp_path / "b", second), "--into", str(into))
    assert code == 1
    assert "conflict: glyphs:classes=100 small-soft-v1 random none convnet ipc=10 replicate=0" in output
    assert "50.00 %, 60.00 %; the last one counts" in output
    assert [each.accuracy for each in files.load(into)] == [0.5, 0.6]
    assert files.latest(files.load(into))[0].accuracy == 0.6


def test_results_of_other_code_are_no_contradiction() -> None:
    pair = [record(0.5), record(0.6, made_by={**made_by(), "method": "f" * 64})]
    assert [case.kind for case in disagreements(files.Loaded(pair, ["a:1", "b:1"]))] == ["other-code"]


def test_a_failure_elsewhere_and_the_same_result_twice_are_no_disagreement() -> None:
    again = record(0.5, finished="2026-01-02T00:00:00+00:00")
    loaded = files.Loaded([record(0.5), again, record(None, status="failed")], ["a:1", "b:1", "c:1"])
    assert disagreements(loaded) == []


def test_a_folder_is_not_merged_into_itself(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", record())
    with pytest.raises(UserError, match="one of the folders to read"):
        merged(folder, "--into", folder)
