"""Unfair submissions, each made by a real run, and each caught by the name of what was done.

A submission that tells the truth about what it did is caught by `check records`, which trains nothing. One that lies in
its record, digests made anew, is caught by `verify`, which runs it again.
"""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from bench.checks.verify import elsewhere
from bench.checks.verify.rounding import Spread
from bench.cli import cli
from bench.stages.teach import teach
from bench.trials.trial import Trial
from tests.worlds.honest import altered, findings, write
from tests.worlds.submissions import HARD, from_elsewhere, lies, of, submission, under

pytestmark = pytest.mark.usefixtures("ray_for_all")


def test_the_honest_submission_passes_both(arena, honest, tmp_path):
    assert {record.status for record in honest} == {"ok"}
    assert arena.check(tmp_path, honest) == set()
    assert arena.verify(honest) == []


def test_the_verb_says_how_many_came_out_to_the_bit(arena, honest):
    options = ["--jobs=2", *(f"--plugin={file}" for file in arena.plugins)]
    answer = CliRunner().invoke(cli, ["verify", str(arena.root / "honest"), "--sample=3", *options])
    assert answer.exit_code == 0
    assert answer.stdout == "3 of 3 records run again, 3 as claimed to the bit: nothing found.\n"


def test_the_verb_ends_with_exit_code_1_for_programs_as_well(arena, honest, tmp_path):
    told = honest[0]
    lines = [altered(told, accuracy=round(600 * told.accuracy + 60) / 600), *honest[1:]]
    options = [f"--results={write(tmp_path, lines)}", "--jobs=2", *(f"--plugin={file}" for file in arena.plugins)]
    answer = CliRunner().invoke(cli, ["verify", told.id, "--json", *options])
    assert answer.exit_code == 1
    (found,) = json.loads(answer.stdout)
    assert (found["rule"], found["severity"]) == ("edited-accuracy", "error")


def test_more_epochs_are_caught(arena, hard, cheater, tmp_path):
    told = of(hard, 2)
    cheater.for_longer(3)
    longer = cheater.evaluated(Trial.from_dict(told.trial), [])
    assert longer["epochs"] == 36
    others = submission(hard, of(hard, 0), of(hard, 1))
    assert arena.check(tmp_path / "told", [*others, altered(told, **longer)]) == {"more-epochs", "other-steps"}


def test_more_epochs_that_the_record_denies_are_caught(arena, hard, cheater, tmp_path, monkeypatch):
    told = of(hard, 2)
    cheater.for_longer(3)
    longer = cheater.evaluated(Trial.from_dict(told.trial), [])
    monkeypatch.undo()
    denied = altered(told, **{key: longer[key] for key in ("accuracy", "test_loss", "train_loss")})
    lines = submission(hard, of(hard, 0), of(hard, 1), denied)
    assert arena.check(tmp_path, lines) == set()
    (found,) = arena.verify(lines)
    assert found.rule == "more-epochs"
    assert "the result of 36 epochs, 3 times those prescribed" in found.message


def test_test_images_among_the_condensed_ones_are_caught(arena, hard, tmp_path):
    leaky = [r for r in arena.run("leaky", protocols=[HARD], methods=["leaky"]) if r.status == "ok"]
    assert len(leaky) == 3
    assert arena.check(tmp_path, submission(hard, *leaky)) == {"test-leak", "test-reach"}


def test_what_a_method_did_is_seen_where_its_record_denies_it(arena, hard, tmp_path):
    *_, leaky = arena.run("leaky", protocols=[HARD], methods=["leaky"])
    denied = altered(leaky, condensed={"in_test_exact": 0, "in_test_near": 0}, conduct={"method": []})
    assert arena.check(tmp_path, submission(hard, denied)) == {"picked-replicates"}
    assert {finding.rule for finding in arena.verify(submission(hard, denied))} == {"test-leak", "test-reach"}


def test_labels_over_their_budget_are_caught(arena, honest, cheater, tmp_path):
    told = honest[-1]
    trial = Trial.from_dict(told.trial)
    labels = cheater.labels(replace(trial, budget="2000B"))
    larger = cheater.evaluated(trial, labels)
    assert larger["bytes_labels"]["total"] > 1200
    assert arena.check(tmp_path, [*honest[:-1], altered(told, **larger)]) == {"budget-exceeded"}


def test_labels_over_their_budget_that_the_record_denies_are_caught(arena, honest, cheater, tmp_path):
    told = honest[-1]
    trial = Trial.from_dict(told.trial)
    whole = replace(trial, compressor="none", budget=None)
    larger = cheater.evaluated(whole, cheater.labels(whole))
    denied = altered(told, **{key: larger[key] for key in ("accuracy", "test_loss", "train_loss")})
    lines = [*honest[:-1], denied]
    assert arena.check(tmp_path, lines) == set()
    (found,) = arena.verify(lines)
    assert found.rule == "other-labels"
    assert f"the labels of 'herding none', {larger['bytes_labels']['total']} bytes" in found.message


def test_labels_that_take_more_bytes_than_claimed_are_caught(arena, honest, tmp_path):
    told = honest[-1]
    assert told.bytes_labels is not None
    smaller = {"total": told.bytes_labels.total - 40, "blobs": told.bytes_labels.blobs - 40}
    (found,) = arena.verify([*honest[:-1], altered(told, bytes_labels=smaller)])
    assert found.rule == "other-bytes"
    assert f"here they take {told.bytes_labels.total}" in found.message


def test_the_best_epoch_is_caught(arena, hard, cheater, tmp_path):
    told = of(hard, 2)
    epoch, accuracy, loss = cheater.best_epoch(Trial.from_dict(told.trial), [])
    assert accuracy > told.accuracy
    best = altered(told, accuracy=accuracy, test_loss=loss, measured_after=epoch, test_opened=12)
    assert arena.check(tmp_path, submission(hard, of(hard, 0), of(hard, 1), best)) == {"best-epoch"}


@pytest.mark.parametrize("loss_too", [True, False], ids=["with its loss", "accuracy alone"])
def test_the_best_epoch_that_the_record_denies_is_caught(arena, hard, cheater, tmp_path, loss_too):
    told = of(hard, 2)
    epoch, accuracy, loss = cheater.best_epoch(Trial.from_dict(told.trial), [])
    denied = altered(told, accuracy=accuracy, **({"test_loss": loss} if loss_too else {}))
    lines = submission(hard, of(hard, 0), of(hard, 1), denied)
    assert arena.check(tmp_path, lines) == set()
    (found,) = arena.verify(lines)
    assert found.rule == "best-epoch"
    assert f"after epoch {epoch} of 12" in found.message


def test_another_teacher_is_caught(arena, honest, cheater, tmp_path):
    told = honest[-1]
    trial = Trial.from_dict(told.trial)
    other = teach(cheater.ws, "small-convnet-teacher-v1", cheater.dataset)
    measured = cheater.evaluated(trial, cheater.labels(trial, other))
    lines = [*honest[:-1], altered(told, **measured, made_by={"teacher": other.digest})]
    assert arena.check(tmp_path, lines) == {"other-teacher"}
    (found,) = arena.verify(lines)
    assert found.rule == "other-teacher"


def test_another_teacher_that_the_record_denies_is_caught(arena, honest, cheater, tmp_path):
    told = honest[-1]
    trial = Trial.from_dict(told.trial)
    other = teach(cheater.ws, "small-convnet-teacher-v1", cheater.dataset)
    measured = cheater.evaluated(trial, cheater.labels(trial, other))
    lines = [*honest[:-1], altered(told, **measured)]
    assert {found.rule for found in arena.verify(lines)} <= {"not-reproduced", "other-bytes"}
    assert arena.verify(lines)


def test_seeds_picked_out_of_ten_are_caught(arena, hard, tmp_path):
    best = sorted(range(10), key=lambda r: of(hard, r).accuracy)[-3:]
    assert sorted(best) != [0, 1, 2]
    assert "picked-replicates" in arena.check(tmp_path, submission(hard, *(of(hard, r) for r in best)))


def test_seeds_picked_out_of_ten_and_renumbered_are_caught(arena, hard, tmp_path):
    best = sorted(range(10), key=lambda r: of(hard, r).accuracy)[-3:]
    number = next(n for n, r in enumerate(best) if n != r)
    renumbered = [under(of(hard, r), n) for n, r in enumerate(best)]
    lines = submission(hard, *renumbered)
    assert arena.check(tmp_path, lines) == set()
    (found,) = arena.verify([*lines, renumbered[number]])
    assert found.rule == "picked-seed"
    assert f"the result of replicate {best[number]}, not {number}" in found.message


def test_an_accuracy_edited_by_hand_is_caught(arena, hard, tmp_path):
    folder = write(tmp_path / "results", submission(hard, *(of(hard, r) for r in range(3))))
    path = folder / "records.jsonl"
    lines = path.read_text().splitlines()
    fields = json.loads(lines[-1])
    lines[-1] = json.dumps({**fields, "accuracy": min(1.0, fields["accuracy"] + 0.03)}, separators=(",", ":"))
    path.write_text("\n".join(lines) + "\n")
    found = findings(folder, arena.registry, arena.store)
    assert [(f.rule, f.where) for f in found if f.rule == "edited-line"] == [("edited-line", f"{path}:6")]


def test_an_accuracy_edited_by_hand_with_its_digest_made_anew_is_caught(arena, hard, tmp_path):
    told = of(hard, 2)
    edited = altered(told, accuracy=round(600 * told.accuracy + 100) / 600)
    lines = submission(hard, of(hard, 0), of(hard, 1), edited)
    assert arena.check(tmp_path, lines) == set()
    (found,) = arena.verify(lines)
    assert found.rule == "edited-accuracy"


def test_a_careless_edit_is_no_whole_number_of_test_images(arena, hard, tmp_path):
    told = of(hard, 2)
    lines = submission(hard, of(hard, 0), of(hard, 1), altered(told, accuracy=told.accuracy + 0.0123))
    assert arena.check(tmp_path, lines) == {"impossible-value"}


def test_a_set_that_the_method_does_not_make_is_caught(arena, hard, tmp_path):
    lines = submission(hard, of(hard, 0), of(hard, 1), altered(of(hard, 2), condensed={"digest": "0" * 64}))
    (found,) = arena.verify(lines)
    assert found.rule == "other-images"


# --- under another instruction set ----------------------------------------------------------------------------------


def test_honest_records_of_another_instruction_set_are_not_accused(arena, honest, hard):
    for records in (honest, submission(hard, *(of(hard, r) for r in range(10)))):
        judged = arena.judge([from_elsewhere(record) for record in records], len(records))
        assert {finding.rule for finding in judged} == {"moved-within-noise"}
        assert all("another Python (0, " in finding.message for finding in judged)


def test_where_rounding_moves_nothing_the_same_bits_are_confirmed_and_others_are_not_judged(hard):
    """Without AVX-512 both arithmetics are the same, and their runs say nothing of what rounding does."""
    claim, silent, why = of(hard, 0), Spread(pairs=3), "another Python"
    line = SimpleNamespace(whole=claim, trial=None)
    confirmed = elsewhere._elsewhere(line, claim, claim, silent, 1, None, why)
    assert (confirmed.rule, why in confirmed.message) == ("moved-within-noise", True)
    rerun = altered(claim, test_loss=claim.test_loss * (1 + 1e-6))
    assert elsewhere._elsewhere(line, rerun, rerun, silent, 1, None, why).rule == "not-checked"


@pytest.mark.slow  # two minutes: every kind is run again in two kinds of arithmetic
def test_the_seven_planted_kinds_under_another_instruction_set(arena, honest, hard, cheater, monkeypatch):
    """All are found. Longer training is far enough from what its rounding was measured on that it may not be named."""
    submissions = lies(honest, hard, cheater)
    monkeypatch.undo()
    for rule, lines in submissions.items():
        (finding,) = arena.judge([from_elsewhere(each) for each in lines])
        assert finding.severity == "error"
        assert finding.rule in ({rule, "not-reproduced"} if rule == "more-epochs" else {rule})
