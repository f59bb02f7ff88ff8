"""The whole way of a submission, from one person's records to another's leaderboard, with real trainings on both sides.

What a sender does is in tests/worlds/submissions.py; the archive and the folder are in tests/submission.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bench.cli import cli
from bench.foreign.plain_zip import packed, unpacked
from bench.records import files
from bench.records.files import Record
from bench.stages.teach import teach
from bench.trials.trial import Trial
from tests.worlds.honest import altered, write
from tests.worlds.submissions import (
    HARD,
    Arena,
    Cheater,
    from_elsewhere,
    lies,
    of,
    sent,
    submission,
)

pytestmark = pytest.mark.usefixtures("ray_for_all")


def accept(arena: Arena, archive: Path, board: Path, *options: str) -> Result:
    """The verb, with findings for programs."""
    arguments = ["accept", str(archive), f"--into={board}", f"--store={arena.store}", "--jobs=2", "--json", *options]
    return CliRunner().invoke(cli, arguments, catch_exceptions=False)


def refused(arena: Arena, folder: Path, lines: list[Record], *plugins: Path) -> set[str]:
    """The names of the errors by which the last of the records is refused; the others are on the leaderboard."""
    board = write(folder / "board", lines[:-1])
    before = (board / "records.jsonl").read_bytes()
    answer = accept(arena, sent(arena, folder, lines, *plugins), board)
    assert answer.exit_code == 1, answer.output
    assert "refused, nothing was added" in answer.stderr
    assert [path.name for path in board.iterdir()] == ["records.jsonl"]
    assert (board / "records.jsonl").read_bytes() == before
    return {each["rule"] for each in json.loads(answer.stdout) if each["severity"] == "error"}


def test_an_honest_submission_comes_from_one_folder_into_another(arena, honest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine", honest)
    plugins = [f"--plugin={path}" for path in arena.protocols]
    packed = CliRunner().invoke(cli, ["submit", "mine", "--sample=1", f"--store={arena.store}", "--jobs=2", *plugins])
    assert packed.exit_code == 0, packed.output
    assert "12 records, 1 of 1 records run again, 1 as claimed to the bit" in packed.stdout
    assert "condensebench accept mine-submission.zip --into DIR takes it" in packed.stdout
    answer = accept(arena, tmp_path / "mine-submission.zip", tmp_path / "board", "--sample=2")
    assert answer.exit_code == 0, answer.output
    assert "12 records added; 2 of 2 records run again, 2 as claimed to the bit" in answer.stderr
    assert {record.digest for record in files.load(tmp_path / "board")} == {record.digest for record in honest}
    shown = CliRunner().invoke(cli, ["check", "records", "board", "--plugin=board/plugins", f"--store={arena.store}"])
    assert shown.exit_code == 0, shown.output


def test_an_honest_one_of_another_kind_of_machine_is_accepted_by_statistics(arena, hard, tmp_path):
    lines = [from_elsewhere(record) for record in submission(hard, *(of(hard, r) for r in range(3)))]
    answer = accept(arena, sent(arena, tmp_path, lines), tmp_path / "board", "--sample=1")
    assert answer.exit_code == 0, answer.output
    notes = [each["message"] for each in json.loads(answer.stdout) if each["rule"] == "moved-within-noise"]
    assert len(notes) == 1
    assert "another Python (0, " in notes[0]
    assert len(files.load(tmp_path / "board")) == 6


def told(kind: str, arena: Arena, honest: list[Record], hard: list[Record], cheater: Cheater) -> list[Record]:
    """A submission whose last record tells what was done, as it was done."""
    last, trial = of(hard, 2), Trial.from_dict(of(hard, 2).trial)
    soft, labelled = honest[-1], Trial.from_dict(honest[-1].trial)
    others = submission(hard, of(hard, 0), of(hard, 1))
    if kind == "more-epochs":
        cheater.for_longer(3)
        return [*others, altered(last, **cheater.evaluated(trial, []))]
    if kind == "best-epoch":
        epoch, accuracy, loss = cheater.best_epoch(trial, [])
        return [*others, altered(last, accuracy=accuracy, test_loss=loss, measured_after=epoch, test_opened=12)]
    if kind == "budget-exceeded":
        larger = cheater.evaluated(labelled, cheater.labels(replace(labelled, budget="2000B")))
        return [*honest[:-1], altered(soft, **larger)]
    if kind == "other-teacher":
        other = teach(cheater.ws, "small-convnet-teacher-v1", cheater.dataset)
        measured = cheater.evaluated(labelled, cheater.labels(labelled, other))
        return [*honest[:-1], altered(soft, **measured, made_by={"teacher": other.digest})]
    if kind == "picked-replicates":
        return submission(hard, of(hard, 0), of(hard, 1), of(hard, 7))
    assert kind == "impossible-value"
    return [*others, altered(last, accuracy=last.accuracy + 0.0123)]


@pytest.mark.parametrize(
    "kind", ["more-epochs", "best-epoch", "budget-exceeded", "other-teacher", "picked-replicates", "impossible-value"]
)
def test_an_unfair_one_that_tells_what_it_did_is_refused_by_name(kind, arena, honest, hard, cheater, tmp_path):
    lines = told(kind, arena, honest, hard, cheater)
    assert kind in refused(arena, tmp_path, lines)


def test_an_accuracy_edited_by_hand_is_refused_by_name(arena, hard, tmp_path):
    lines = submission(hard, *(of(hard, r) for r in range(3)))
    archive = sent(arena, tmp_path, lines)
    edited = archive.read_bytes()
    content = unpacked(archive)
    content["records.jsonl"] = content["records.jsonl"].replace(b'"accuracy":0.', b'"accuracy":0.9', 1)
    archive.write_bytes(packed(content))
    assert archive.read_bytes() != edited
    answer = accept(arena, archive, tmp_path / "board")
    assert {each["rule"] for each in json.loads(answer.stdout)} == {"altered-file"}
    assert not (tmp_path / "board").exists()


def test_a_method_that_leaks_is_refused_by_name_before_it_runs(arena, hard, tmp_path):
    leaky = [r for r in arena.run("leaky", protocols=[HARD], methods=["leaky"]) if r.status == "ok"]
    assert refused(arena, tmp_path, submission(hard, *leaky), arena.leaky) >= {"test-leak", "test-reach"}


def test_an_accuracy_edited_with_its_digests_is_refused_by_name(arena, hard, tmp_path):
    last = of(hard, 2)
    lie = altered(last, accuracy=round(600 * last.accuracy + 100) / 600)
    assert refused(arena, tmp_path, submission(hard, of(hard, 0), of(hard, 1), lie)) == {"edited-accuracy"}


@pytest.mark.slow  # a minute: every kind is run again
def test_the_seven_planted_kinds_that_lie_are_refused_by_name(arena, honest, hard, cheater, monkeypatch, tmp_path):
    planted = lies(honest, hard, cheater)
    monkeypatch.undo()
    for rule, lines in planted.items():
        folder = tmp_path / rule
        folder.mkdir()
        assert refused(arena, folder, lines) == {rule}


@pytest.mark.slow  # `check plugins` trains teachers
def test_a_method_that_leaks_and_denies_it_is_refused_by_its_contract(arena, hard, tmp_path):
    leaky = arena.run("leaky", protocols=[HARD], methods=["leaky"])
    denied = [
        altered(each, condensed={"in_test_exact": 0, "in_test_near": 0}, conduct={"method": []}) for each in leaky
    ]
    rules = refused(arena, tmp_path, submission(hard, *denied), arena.leaky)
    assert rules
    assert not rules & {"test-leak"}  # its contract already stops it: none of its records runs again
