"""`check records`: an honest board passes, and one changed value is found under the name of the rule that it breaks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.checks.records.check_records import check_records
from bench.checks.records.prescribed import Prescribed
from bench.checks.records.rules import RULES, together
from bench.cli import cli
from bench.errors import LockError, UserError
from bench.finding import Finding
from bench.lock import errata, lock_file
from bench.plugins.registry import Registry, discover
from bench.records.files import Record
from bench.records.schema import line_digest
from bench.trials.trial import Trial
from tests.worlds.honest import altered, board, findings, honest, write

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


@pytest.fixture(scope="module")
def store(tmp_path_factory, registry: Registry) -> Path:
    """A store in which `digits` was opened once."""
    from bench.artifacts.describe import describe
    from bench.artifacts.refs import Workspace

    folder = tmp_path_factory.mktemp("store")
    describe(Workspace(folder, registry), "digits")
    return folder


@pytest.fixture(scope="module")
def prescribed(registry: Registry, store: Path) -> Prescribed:
    return Prescribed(registry, store)


@pytest.fixture(autouse=True)
def released(monkeypatch, prescribed: Prescribed) -> None:
    """Both protocols stand in the lock, whatever the project has released so far."""
    digests = {name: prescribed.protocol(name).digest for name in ("small-soft-v1", "small-hard-v1")}
    monkeypatch.setattr(lock_file, "released", lambda: digests)


@pytest.fixture
def check(tmp_path: Path, registry: Registry, store: Path) -> Callable[..., tuple[Finding, ...]]:
    def of(lines: list[Record], baseline: list[Record] | None = None) -> tuple[Finding, ...]:
        before = None if baseline is None else write(tmp_path / "before", baseline)
        return findings(write(tmp_path / "results", lines), registry, store, before)

    return of


def test_an_honest_board_gives_no_finding_at_all(prescribed, tmp_path, registry, store):
    everything = [
        *board(prescribed, "herding", "el2n"),
        *board(prescribed, "herding", "el2n", protocol="small-hard-v1", ipc=1),
        *board(prescribed, "herding", "el2n", compressor="none", budget=None),
    ]
    checked = check_records(write(tmp_path, everything), registry=registry, store=store)
    assert checked.findings == ()
    assert checked.summary == f"27 records in 2 cells, {checked.rules} rules"


CHANGES = {
    "more-epochs": {"epochs": 400},
    "fewer-epochs": {"epochs": 3},
    "other-steps": {"steps": 5},
    "other-steps ": {"images_seen": 10},
    "other-recipe": {"recipe": "0" * 64},
    "other-labels": {"labels": "online"},
    "other-labels ": {"num_views": 7},
    "best-epoch": {"measured_after": 17},
    "best-epoch ": {"test_opened": 30},
    "other-teacher": {"made_by": {"teacher": "1" * 64}},
    "other-dataset": {"made_by": {"dataset": "2" * 64}},
    "stale": {"made_by": {"protocol": "3" * 64}},
    "stale ": {"made_by": {"engine": "0.1"}},
    "foreign-code": {"made_by": {"method": "4" * 64}},
    "foreign-code ": {"made_by": {"compressor": "5" * 64}},
    "budget-exceeded": {"bytes_labels": {"total": 40_000_000}},
    "wrong-reference": {"bytes_labels_reference": 10**9},
    "class-balance": {"condensed": {"per_class": (9, 11)}},
    "class-balance ": {"num_images": 120},
    "class-balance  ": {"class_balance": "free"},
    "test-leak": {"condensed": {"in_test_exact": 3}},
    "near-test": {"condensed": {"in_test_near": 60}},
    "impossible-value": {"accuracy": 0.8001},
    "impossible-value ": {"test_loss": 0.01},
    "impossible-value  ": {"seconds": {"train": -1.0}},
    "impossible-value   ": {"bytes_labels": {"blobs": 10**6}},
    "impossible-value    ": {"finished": (NOW + timedelta(days=2)).isoformat()},
    "impossible-value     ": {"num_test": 1200},
    "impossible-value      ": {"num_classes": 20},
    "impossible-value       ": {"invalid_labels": {"values": 10**9, "rows": 0}},
    "impossible-value        ": {"invalid_labels": {"values": 0, "rows": 10**9}},
    "non-finite": {"test_loss": float("nan")},
}


@pytest.mark.parametrize("rule", CHANGES)
def test_one_changed_value_is_an_error_under_the_name_of_its_rule(rule, prescribed, check):
    lines = board(prescribed, "herding")
    lines[-1] = altered(lines[-1], **CHANGES[rule])
    found = [f for f in check(lines) if f.severity == "error"]
    assert rule.strip() in {f.rule for f in found}
    for each in found:
        assert each.where.endswith("records.jsonl:6"), each


def test_a_digest_that_differs_from_the_rest_of_the_cell_is_found_without_knowing_the_right_one(
    prescribed, tmp_path, registry
):
    """In a fresh clone a data set that is not released was never opened; the cell itself tells."""
    lines = [altered(r, made_by={"teacher": "1" * 64}) for r in board(prescribed, "herding", dataset="heldout")]
    lines[-1] = altered(lines[-1], made_by={"teacher": "2" * 64})
    (found,) = findings(write(tmp_path / "results", lines), registry, tmp_path / "empty")
    assert found.rule == "other-teacher"
    assert "5 of 6 records" in found.message


def test_a_whole_board_of_another_version_is_one_finding(prescribed, check):
    lines = [altered(record, made_by={"engine": "0.1"}) for record in board(prescribed, "herding")]
    (found,) = check(lines)
    assert (found.rule, found.where.partition("records.jsonl:")[2]) == ("stale", "1, 2, 3, 4 and 2 more")
    assert "the engine is 0.1 in the record, " in found.message
    assert "--rerun stale" in found.message


def test_replicates_with_gaps_are_picked_ones_and_fewer_are_missing_ones(prescribed, check):
    lines = (
        board(prescribed)
        + [honest(prescribed, "herding", r) for r in (1, 4, 7)]
        + [honest(prescribed, "el2n", r) for r in (0, 1)]
    )
    found = {f.rule: f for f in check(lines)}
    assert set(found) == {"picked-replicates", "missing-replicates"}
    assert "herding svd@10x: replicates 1, 4, 7 stand here, 0, 1, 2 belong here" in found["picked-replicates"].message
    assert "el2n svd@10x: 2 replicates, and other rows have 3" in found["missing-replicates"].message


def test_random_must_stand_in_every_group_that_has_a_result(prescribed, check):
    lines = board(prescribed, "herding") + [honest(prescribed, "herding", r, budget="20x") for r in range(3)]
    (found,) = check(lines)
    assert found.rule == "no-random"
    assert "'random svd@20x' was not run" in found.message


def test_a_group_in_which_nothing_fits_the_budget_needs_no_random(prescribed, check):
    values = {"status": "infeasible", "accuracy": None, "smallest_bytes": 900, "budget": "60x"}
    assert check(board(prescribed, "herding") + [honest(prescribed, "herding", r, **values) for r in range(3)]) == ()


def test_a_failed_trial_is_an_error_and_says_what_it_raised(prescribed, check):
    lines = board(prescribed, "herding")
    error = {"type": "ValueError", "message": "no images left"}
    lines[-1] = honest(prescribed, "herding", 2, status="failed", accuracy=None, error=error)
    (found,) = check(lines)
    assert found.rule == "failed-trial"
    assert "ValueError: no images left" in found.message


def test_one_replicate_is_a_warning(prescribed, check):
    (found,) = check(board(prescribed, "herding", replicates=1))
    assert (found.rule, found.severity) == ("single-replicate", "warning")


FREE = {"protocol": "small-hard-v1:recipe.class_balance=free", "compressor": None, "budget": None}


def test_where_the_protocol_lets_classes_differ_they_may_and_the_whole_must_fit(prescribed, check):
    lines = [altered(record, class_balance="free") for record in board(prescribed, "herding", **FREE)]
    lines[3:] = [altered(line, condensed={"per_class": (0, 31), "empty_classes": 2}) for line in lines[3:]]
    assert {finding.rule for finding in check(lines)} == {"unofficial"}
    for spoilt in (
        {"condensed": {"per_class": (11, 31), "empty_classes": 0}},  # more than ipc of every class
        {"condensed": {"per_class": (0, 31), "empty_classes": None}},  # nothing told of classes without images
        {"num_images": 90},
        {"class_balance": None},
    ):
        errors = [each for each in check([*lines[:-1], altered(lines[-1], **spoilt)]) if each.severity == "error"]
        assert "class-balance" in {each.rule for each in errors}
        assert all(each.where.endswith("records.jsonl:6") for each in errors)


def test_larger_labels_under_one_name_are_an_error_where_no_budget_bounds_them(prescribed, check):
    lines = board(prescribed, "herding", compressor="none", budget=None)
    size = lines[0].bytes_labels.total
    lines[3:] = [altered(record, bytes_labels={"total": 2 * size}) for record in lines[3:]]
    (found,) = check(lines)
    assert (found.rule, found.severity) == ("larger-labels", "error")
    assert f"labels of {2 * size} bytes" in found.message


def test_a_code_whose_length_depends_on_the_content_is_only_warned_of(prescribed, check):
    lines = board(prescribed, "herding", compressor="none", budget=None)
    lines = [altered(r, bytes_labels={"total": r.bytes_labels.total * (10 + n)}) for n, r in enumerate(lines)]
    assert {(f.rule, f.severity) for f in check(lines)} == {("larger-labels", "warning")}


def test_half_of_a_budget_left_unused_is_only_a_warning_to_the_others(prescribed, check):
    lines = board(prescribed, "herding")
    size = lines[0].bytes_labels.total
    half = {"total": size // 2, "blobs": size // 2 - 120}
    lines[3:] = [altered(record, bytes_labels=half) for record in lines[3:]]
    (found,) = check(lines)
    assert (found.rule, found.severity) == ("larger-labels", "warning")


def test_test_images_that_the_training_split_itself_holds_are_a_warning(prescribed, check):
    seen = {"in_test_exact": 2, "train_in_test": 5}
    found = check([altered(record, condensed=seen) for record in board(prescribed, "herding")])
    assert {(f.rule, f.severity) for f in found} == {("test-leak", "warning")}


def test_as_many_near_copies_as_random_has_are_natural(prescribed, check):
    found = check([altered(record, condensed={"in_test_near": 4}) for record in board(prescribed, "herding")])
    assert {(f.rule, f.severity) for f in found} == {("near-test", "warning")}


def test_repeated_images_are_a_warning(prescribed, check):
    lines = board(prescribed, "herding")
    lines[-1] = altered(lines[-1], condensed={"repeated": 2})
    (found,) = check(lines)
    assert (found.rule, found.severity) == ("repeated-images", "warning")


def test_float_pixels_beside_whole_levels_are_told_and_take_whole_values(prescribed, check):
    values, floats = 100 * 64, {"pixels": "float32"}
    made = [altered(line, bytes_images=4 * values, provenance=floats) for line in board(prescribed, "herding")]
    (finding,) = check([line for line in made if line.trial["method"] == "herding"] + board(prescribed))
    assert (finding.rule, finding.severity) == ("float-pixels", "note")
    assert "float pixels: herding; the other sets are whole grey levels" in finding.message
    assert check(made) == ()
    (finding,) = check([altered(made[0], bytes_images=4 * values - 1), *made[1:]])
    assert (finding.rule, finding.severity) == ("impossible-value", "error")
    assert "100 images of float32 take 25599 bytes" in finding.message


def test_two_replicates_with_the_same_bits_are_copies(prescribed, check):
    lines = board(prescribed, "herding")
    first = lines[3]
    lines[4] = altered(lines[4], accuracy=first.accuracy, test_loss=first.test_loss, train_loss=first.train_loss)
    (found,) = check(lines)
    assert found.rule == "copied-replicate"
    assert "replicates 0, 1" in found.message


def test_two_methods_with_the_same_bits_are_copies_unless_they_made_the_same_set(prescribed, check, tmp_path):
    lines = board(prescribed, "herding")
    same = {"accuracy": lines[0].accuracy, "test_loss": lines[0].test_loss, "train_loss": lines[0].train_loss}
    copied = [*lines[:3], altered(lines[3], **same), *lines[4:]]
    assert [f.rule for f in check(copied)] == ["copied-replicate"]


def test_methods_that_choose_the_same_images_may_have_the_same_result(prescribed, check):
    lines = board(prescribed, "herding")
    same = {key: lines[0].fields()[key] for key in ("accuracy", "test_loss", "train_loss", "condensed")}
    assert check([*lines[:3], altered(lines[3], **same), *lines[4:]]) == ()


def test_the_best_of_several_runs_of_one_trial_is_found(prescribed, check):
    lines = board(prescribed, "herding")
    again = altered(lines[-1], accuracy=550 / 600, finished="2026-01-02T00:00:00+00:00")
    (found,) = check([*lines, again])
    assert found.rule == "rerun-differs"
    assert "0.9167" in found.message


def test_another_run_on_another_kind_of_machine_may_differ(prescribed, check):
    lines = board(prescribed, "herding")
    elsewhere = altered(lines[-1], accuracy=481 / 600, environment={"machine": "another processor"})
    assert check([*lines, elsewhere]) == ()


def test_a_line_changed_by_hand_is_named_with_its_file_and_number(prescribed, tmp_path, registry, store):
    folder = write(tmp_path / "results", board(prescribed, "herding"))
    path = folder / "records.jsonl"
    lines = path.read_text().splitlines()
    lines[4] = lines[4].replace('"accuracy":0.', '"accuracy":0.9', 1)
    path.write_text("\n".join(lines) + "\n")
    found = findings(folder, registry, store)
    assert [(f.rule, f.where) for f in found if f.rule == "edited-line"] == [("edited-line", f"{path}:5")]


def test_a_line_that_a_crash_cut_off_is_a_note_and_one_in_the_middle_a_warning(prescribed, tmp_path, registry, store):
    folder = write(tmp_path / "results", board(prescribed, "herding", "el2n"))
    path = folder / "records.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[0][:40], *lines[:1]]) + "\n" + lines[1][:50])
    found = [f for f in findings(folder, registry, store) if f.rule == "torn-line"]
    assert [(f.where, f.severity) for f in found] == [(f"{path}:10", "warning"), (f"{path}:12", "note")]


def test_an_id_that_does_not_belong_to_its_trial_is_found(prescribed, check):
    lines = board(prescribed, "herding")
    fields = lines[-1].fields()
    fields["trial"]["replicate"] = 3
    found = check([*lines[:-1], Record(**fields)])
    assert "wrong-id" in {f.rule for f in found}


def test_a_second_spelling_of_a_trial_is_found(prescribed, check):
    lines = board(prescribed, "herding")
    other = Trial.from_dict({**lines[-1].trial, "method": "herding:unit_norm=false"})
    lines[-1] = altered(lines[-1], id=other.id, trial={**other.as_dict(), "id": other.id})
    assert any(f.rule == "wrong-id" and "its one spelling is" in f.message for f in check(lines))


def test_a_method_that_is_not_known_here_asks_for_its_file(prescribed, check):
    lines = board(prescribed, "herding")
    other = Trial.from_dict({**lines[-1].trial, "method": "mine"})
    lines[-1] = altered(lines[-1], id=other.id, trial={**other.as_dict(), "id": other.id})
    (found,) = [f for f in check(lines) if f.rule == "unknown-name"]
    assert "No method is named 'mine'." in found.message
    assert "--plugin" in found.message


def test_an_unreleased_protocol_and_a_miniature_are_unofficial(prescribed, check, monkeypatch):
    monkeypatch.setattr(lock_file, "released", dict)
    (found,) = check(board(prescribed, "herding"))
    assert (found.rule, found.severity) == ("unofficial", "warning")
    assert "condensebench lock --release small-soft-v1" in found.message


def test_a_miniature_is_unofficial(prescribed, check):
    (found,) = check(board(prescribed, "herding", protocol="small-soft-v1:scale=0.05"))
    assert found.rule == "unofficial"
    assert "a miniature" in found.message


def test_a_withdrawn_protocol_is_named_with_its_reason(prescribed, check, monkeypatch):
    digest = prescribed.protocol("small-soft-v1").digest
    gone = errata.Withdrawal(protocol="small-soft-v1", digest=digest[:8], date=NOW.date(), reason="wrong batch")
    monkeypatch.setattr(errata, "withdrawn", lambda _, found: gone if found.startswith(gone.digest) else None)
    (found,) = check(board(prescribed, "herding"))
    assert found.rule == "withdrawn"
    assert "wrong batch" in found.message


def test_records_of_schema_1_say_what_cannot_be_checked(prescribed, tmp_path, registry, store):
    told_since = ("recipe", "images_seen", "measured_after", "num_test", "test_opened", "condensed")
    old = {**board(prescribed, "herding")[0].made_by, "protocol": "0" * 64}
    lines = [altered(r, made_by=old, **dict.fromkeys(told_since)) for r in board(prescribed, "herding")]
    checked = check_records(write(tmp_path, lines), registry=registry, store=store)
    (found,) = (f for f in checked.findings if f.rule == "not-checked")
    assert found.severity == "note"
    for rule in ("best-epoch", "other-recipe", "test-leak", "class-balance"):
        assert rule in found.message
    assert "of them not everywhere" in checked.summary


def test_the_verb_prints_text_or_json_and_ends_with_the_exit_code(prescribed, tmp_path, store):
    fair = write(tmp_path / "fair", board(prescribed, "herding"))
    unfair = write(tmp_path / "unfair", [honest(prescribed, "herding", r) for r in range(3)])
    answer = CliRunner().invoke(cli, ["check", "records", str(fair), f"--store={store}"])
    assert answer.exit_code == 0
    assert answer.stdout.endswith("rules: nothing found.\n")
    answer = CliRunner().invoke(cli, ["check", "records", str(unfair), f"--store={store}", "--json"])
    assert answer.exit_code == 1
    (found,) = json.loads(answer.stdout)
    assert found["rule"] == "no-random"


def test_a_folder_without_records_is_bad_input(tmp_path, registry):
    with pytest.raises(UserError, match="no records at"):
        check_records(tmp_path / "nowhere", registry=registry, store=tmp_path)
    (found,) = check_records(tmp_path, registry=registry, store=tmp_path).findings
    assert found.rule == "no-records"


def test_an_edited_protocol_stops_the_check(prescribed, check, monkeypatch):
    """`check` ends with exit code 3 then: there is nothing to hold records against."""
    was = lock_file.Released(digest="0" * 64, released=NOW.date(), canaries=())
    monkeypatch.setattr(lock_file, "read", lambda *_: lock_file.Lock(protocols={"small-soft-v1": was}))
    with pytest.raises(LockError, match=r"small-soft-v1\.toml"):
        check(board(prescribed, "herding"))


def test_places_are_told_once_for_each_file():
    places = ["a.jsonl:3", "a.jsonl:5", "b.jsonl:1", "b.jsonl:2", "b.jsonl:9"]
    assert together(places) == "a.jsonl:3, 5; b.jsonl:1, 2 and 1 more"
    assert together(["digits ipc=1", "digits ipc=2"]) == "digits ipc=1; digits ipc=2"


def test_every_rule_has_a_sentence_and_a_severity():
    assert all(severity in ("error", "warning", "note") and says for severity, says in RULES.values())
    assert {rule.strip() for rule in CHANGES} <= RULES.keys()
    assert dataclasses.is_dataclass(Finding)


EVIDENCE = ("recipe", "images_seen", "measured_after", "num_test", "test_opened", "condensed")


@pytest.mark.parametrize("hidden", [*((name,) for name in EVIDENCE), EVIDENCE], ids=", ".join)
def test_evidence_that_was_taken_out_is_found(prescribed, check, hidden: tuple[str, ...]):
    lines = board(prescribed, "herding")
    lines[-1] = altered(lines[-1], **dict.fromkeys(hidden))
    found = [f for f in check(lines) if f.rule == "hidden-evidence"]
    assert len(found) == 1
    assert all(name in found[0].message for name in hidden)


def test_a_record_rewritten_as_one_of_schema_1_is_found(prescribed, tmp_path, registry, store):
    lines = board(prescribed, "herding")
    fields = {k: v for k, v in lines[-1].fields().items() if k not in (*EVIDENCE, "labels")} | {"schema": 1}
    folder = write(tmp_path / "results", lines[:-1])
    with (folder / "records.jsonl").open("a") as file:
        file.write(json.dumps({**fields, "digest": line_digest(fields)}, separators=(",", ":")) + "\n")
    assert "hidden-evidence" in {f.rule for f in findings(folder, registry, store)}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("budget", "zzz", "Budget 'zzz'"),
        ("ipc", 0, "ipc must be at least 1"),
        ("replicate", -1, "replicate at least 0"),
        ("accuracy", 1.2, "accuracy"),
    ],
)
def test_a_whole_line_that_no_record_can_be_is_an_error_and_the_rest_is_checked(
    prescribed, tmp_path, registry, store, field, value, message
):
    lines = board(prescribed, "herding")
    fields = lines[-1].fields()
    fields |= {field: value} if field in fields else {"trial": {**fields["trial"], field: value}}
    folder = write(tmp_path / "results", lines[:-1])
    with (folder / "records.jsonl").open("a") as file:
        file.write(json.dumps({**fields, "digest": line_digest(fields)}, separators=(",", ":")) + "\n")
    found = [f for f in findings(folder, registry, store) if f.rule == "impossible-value"]
    assert [f.severity for f in found] == ["error"]
    assert message in found[0].message
    assert found[0].where.endswith(f"records.jsonl:{len(lines)}")


def test_an_edited_line_does_not_make_the_rest_of_its_row_look_picked(prescribed, tmp_path, registry, store):
    folder = write(tmp_path / "results", board(prescribed, "herding"))
    path = folder / "records.jsonl"
    lines = path.read_text().splitlines()
    lines[0] = lines[0].replace('"accuracy":0.', '"accuracy":0.9', 1)
    path.write_text("\n".join(lines) + "\n")
    found = {f.rule for f in findings(folder, registry, store) if f.severity == "error"}
    assert found == {"edited-line"}
