"""The lock: whatever changes a released protocol is found, whatever does not is left alone."""

from __future__ import annotations

import copy
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.cli import cli
from bench.errors import LockError, UserError
from bench.lock import before_run, differences, lock_file, release
from bench.protocol import definition, miniature
from bench.protocol.recipe import Loss, Recipe
from tests.worlds import ROOT
from tests.worlds.locked import FOLDER, MINE, edit, folder, registry, released, toml

PROJECT = sorted(FOLDER.glob("*-v*.toml"))


@pytest.fixture(autouse=True)
def no_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of libraries have tests of their own; importing timm takes seconds."""
    monkeypatch.setattr(release, "LIBRARY_NETWORKS", ())


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The lock of mine-v1, as text."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release, "LIBRARY_NETWORKS", ())
        return released(tmp_path_factory.mktemp("original")).read_text()


@pytest.fixture
def path(tmp_path: Path, original: str) -> Path:
    """A lock in whose folder mine-v1 is released."""
    found = folder(tmp_path, mine_v1=MINE)
    found.write_text(original)
    return found


def ask(path: Path, *names: str) -> None:
    """What `run` does before it runs."""
    before_run.guard(registry(path), names or ("mine-v1",), path.parent.parent / "store", path)


# --- what is caught --------------------------------------------------------------------------------------------------


def leaves(value: Any, at: tuple = ()) -> list[tuple]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*at, key))]
    if isinstance(value, list):
        return [leaf for index, inner in enumerate(value) for leaf in leaves(inner, (*at, index))]
    return [at]


def changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    return f"{value}x" if isinstance(value, str) else value + 1


def digest_of(content: dict[str, Any]) -> str:
    return definition.parse("any", content, ROOT / "protocols" / "any.toml").digest


@pytest.mark.parametrize("file", PROJECT, ids=lambda file: file.stem)
def test_every_single_value_of_every_protocol_counts(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        definition, "check_branches", lambda *_: None
    )  # a value out of range is refused before the lock
    content = tomllib.loads(file.read_text())
    fixed = {key: content[key] for key in ("labels", "teacher", "student", "recipe") if key in content}
    before, found = digest_of(content), leaves(fixed)
    assert len(found) > (0 if "extends" in content else 40)
    for leaf in found:
        other = copy.deepcopy(content)
        inner: Any = other
        for key in leaf[:-1]:
            inner = inner[key]
        inner[leaf[-1]] = changed(inner[leaf[-1]])
        assert digest_of(other) != before, leaf


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("weight_decay = 0.05", "weight_decay = 0.06"),
        ("flip = 0.5", "flip = 0.25"),
        ('"1-10" = 20', '"1-11" = 20'),
        ('labels = { by = "dataset", digits', 'labels = { by = "dataset", glyphs'),
        ('student = "convnet:width=4"', 'student = "convnet"'),
        ("ema = 0.9\n", ""),
        ("warmup = 0\n", "warmup = 0\nsurprise = 1\n"),
        ("[recipe]", "[recipe"),
    ],
)
def test_an_edited_file_stops_a_run_and_names_the_file_and_the_next_version(path: Path, old: str, new: str) -> None:
    file = path.parent / "mine-v1.toml"
    edit(file, old, new)
    with pytest.raises(LockError, match=r"never changes.*mine-v2\.toml") as caught:
        ask(path)
    assert str(file) in str(caught.value)
    assert caught.value.exit_code == 3


def test_the_message_tells_both_digests(path: Path) -> None:
    was = lock_file.released(path)["mine-v1"]
    edit(path.parent / "mine-v1.toml", "batch = 10", "batch = 11")
    is_ = differences.load(path.parent / "mine-v1.toml").digest
    with pytest.raises(LockError, match=rf"{is_[:16]}.*{was[:16]}"):
        ask(path)


def test_a_file_that_is_gone_stops_even_where_a_plugin_takes_its_name(path: Path, tmp_path: Path) -> None:
    (path.parent / "mine-v1.toml").unlink()
    with pytest.raises(LockError, match="file is gone"):
        ask(path)
    own = tmp_path / "mine-v1.toml"
    own.write_text(MINE)
    with pytest.raises(LockError, match="file is gone"):
        before_run.guard(registry(path, own), ["mine-v1"], tmp_path / "store", path)


def test_a_miniature_is_checked_as_its_protocol_is(path: Path) -> None:
    ask(path, "mine-v1:scale=0.5")
    edit(path.parent / "mine-v1.toml", "batch = 10", "batch = 11")
    with pytest.raises(LockError):
        ask(path, "mine-v1:scale=0.5")


def test_an_edited_teacher_recipe_stops_the_protocols_that_name_it(path: Path) -> None:
    teacher = path.parent / "teachers" / "small-teacher-v1.toml"
    edit(teacher, 'title = "', 'title = "Reworded. ')
    ask(path)
    edit(teacher, "weight_decay = 0.05", "weight_decay = 0.06")
    with pytest.raises(LockError, match=r"small-teacher-v1\.toml: digest"):
        ask(path)
    teacher.unlink()
    with pytest.raises(LockError, match="no file"):
        ask(path)


def test_a_changed_default_stops_every_released_protocol(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loss.model_fields["temperature"], "default", 2.0)
    with pytest.raises(LockError, match=r"default of loss\.temperature is 2\.0.*holds 1\.0"):
        ask(path)


def test_a_field_that_disappears_stops_as_well(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(Loss.model_fields, "hard_weight")
    with pytest.raises(LockError, match=r"loss\.hard_weight is gone"):
        ask(path)


def test_a_changed_default_is_told_alone_since_no_file_was_edited(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loss.model_fields["temperature"], "default", 2.0)
    assert [finding.rule for finding in differences.everything(lock_file.read(path), path)] == ["lock-default"]
    with pytest.raises(LockError) as caught:
        ask(path)
    assert "never changes" not in str(caught.value)


def test_a_new_field_at_its_default_is_no_change(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class LaterLoss(Loss):
        label_smoothing: float = 0.0

    class LaterRecipe(Recipe):
        loss: LaterLoss = LaterLoss()

    for module in (definition, differences, miniature):
        monkeypatch.setattr(module, "Recipe", LaterRecipe)
    assert differences.load(path.parent / "mine-v1.toml").values["recipe"]["loss"]["label_smoothing"] == 0.0
    ask(path)


def test_another_reading_of_an_unedited_file_is_found(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = miniature.resolve

    def default_first(value: Any, cell: Any, where: str) -> Any:
        if isinstance(value, dict) and "by" in value and "default" in value:
            return original(value["default"], cell, where)
        if isinstance(value, dict) and "by" not in value:
            return {key: default_first(inner, cell, where) for key, inner in value.items()}
        return original(value, cell, where)

    monkeypatch.setattr(miniature, "resolve", default_first)
    with pytest.raises(LockError, match="unedited, but for"):
        ask(path)


# --- what is not -----------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(order=st.lists(st.integers(0, 9), min_size=4, max_size=4))
def test_reordering_and_reformatting_change_nothing(order: list[int]) -> None:
    content = tomllib.loads(MINE)
    content |= {"title": "Other words", "notes": "New\nones"}
    keys = list(content)[order[0] % len(content) :] + list(content)[: order[0] % len(content)]
    again = "# Another comment\n" + "\n\n".join(f"{key}   =  {toml(content[key], order)}" for key in keys)
    assert digest_of(tomllib.loads(again)) == digest_of(tomllib.loads(MINE))


def test_a_reformatted_file_runs(path: Path) -> None:
    file = path.parent / "mine-v1.toml"
    content = tomllib.loads(MINE)
    file.write_text("\n".join(f"{key} = {toml(content[key], [3, 1, 2])}  # reordered" for key in reversed(content)))
    ask(path)


def test_what_was_never_released_is_let_through(path: Path, tmp_path: Path) -> None:
    edit(path.parent / "mine-v1.toml", "batch = 10", "batch = 11")
    (path.parent / "next-v1.toml").write_text(MINE)
    own = tmp_path / "own.toml"
    own.write_text(MINE)
    before_run.guard(registry(path, own), ["next-v1", "own"], tmp_path / "store", path)


def test_an_empty_or_missing_lock_holds_nothing(tmp_path: Path) -> None:
    path = folder(tmp_path, mine_v1=MINE)
    ask(path)
    assert lock_file.released(path) == {}


def test_the_projects_own_lock_is_never_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_file, "ROOT", tmp_path)
    with pytest.raises(LockError, match=r"lock\.json is missing"):
        lock_file.read(tmp_path / "protocols" / "lock.json")


# --- canaries are remembered -----------------------------------------------------------------------------------------


def test_canaries_that_passed_run_again_only_when_something_changed(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[str] = []
    original = differences.moved_canaries
    monkeypatch.setattr(differences, "moved_canaries", lambda name, held: runs.append(name) or original(name, held))
    ask(path)
    ask(path)
    assert runs == ["mine-v1"]
    code = tmp_path / "code"
    code.mkdir()
    (code / "engine.py").write_text("changed = True")
    monkeypatch.setattr(before_run, "CODE", code)
    ask(path)
    assert runs == ["mine-v1"] * 2


def test_a_canary_that_moved_is_told_with_both_values_and_is_not_remembered(path: Path) -> None:
    content = json.loads(path.read_text())
    content["protocols"]["mine-v1"]["canaries"][0]["losses"][2] *= 1.01
    path.write_text(json.dumps(content))
    for _ in range(2):
        with pytest.raises(
            LockError, match=r"canary 1 \(hard, ce, adamw, cosine, cutmix\): epoch 3: expected .* found"
        ):
            ask(path)


# --- releasing -------------------------------------------------------------------------------------------------------


def test_the_lock_has_one_spelling_and_says_what_was_released(path: Path) -> None:
    held = lock_file.read(path)
    assert path.read_text() == lock_file.to_text(held)
    assert held.protocols["mine-v1"].digest == differences.load(path.parent / "mine-v1.toml").digest
    assert set(held.teachers) == {"small-teacher-v1", "small-dynamics-v1"}
    assert [canary.recipe["labels"] for canary in held.protocols["mine-v1"].canaries] == ["hard", "stored"]
    assert [canary.teachers for canary in held.protocols["mine-v1"].canaries] == [1, 2]


def test_an_id_is_released_once(path: Path) -> None:
    before = path.read_text()
    with pytest.raises(LockError, match=r"copy its file to .*mine-v2\.toml"):
        release.release(["mine-v1"], path, registry(path))
    edit(path.parent / "mine-v1.toml", "batch = 10", "batch = 11")
    with pytest.raises(LockError, match="a released protocol never changes"):
        release.release(["mine-v1"], path, registry(path))
    assert path.read_text() == before


def test_a_second_release_leaves_the_first_as_it_was(path: Path) -> None:
    before = lock_file.read(path).protocols["mine-v1"]
    (path.parent / "mine-v2.toml").write_text(MINE.replace("batch = 10", "batch = 12"))
    release.release(["mine-v2"], path, registry(path))
    held = lock_file.read(path)
    assert held.protocols["mine-v1"] == before
    assert set(held.protocols) == {"mine-v1", "mine-v2"}


def test_a_release_locks_the_defaults_of_new_fields(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads(path.read_text())
    del content["defaults"]["loss"]["hard_weight"]  # as if the field were newer than the lock
    path.write_text(json.dumps(content))
    (path.parent / "mine-v2.toml").write_text(MINE)
    release.release(["mine-v2"], path, registry(path))
    assert lock_file.read(path).defaults["loss"]["hard_weight"] == 0.0


def test_nothing_is_released_while_the_lock_is_broken(path: Path) -> None:
    edit(path.parent / "mine-v1.toml", "batch = 10", "batch = 11")
    (path.parent / "mine-v2.toml").write_text(MINE)
    with pytest.raises(LockError, match="while the lock is broken"):
        release.release(["mine-v2"], path, registry(path))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("flip = 0.5\n", "", r"left to the default: recipe\.augment\.flip"),
        ('source = "This test."\n', "", "no-source"),
        ('digits = "small-teacher-v1"', 'digits = "nobody-v1"', "unknown-teacher"),
        ('student = "convnet:width=4"', 'student = "convent"', "unknown-student"),
    ],
)
def test_a_file_that_fails_its_check_is_not_released(tmp_path: Path, old: str, new: str, why: str) -> None:
    path = folder(tmp_path, mine_v1=MINE)
    edit(path.parent / "mine-v1.toml", old, new)
    with pytest.raises(UserError, match=why):
        release.release(["mine-v1"], path, registry(path))
    assert not path.exists()


def test_all_are_released_or_none(tmp_path: Path) -> None:
    path = folder(tmp_path, mine_v1=MINE)
    with pytest.raises(UserError, match="No protocol file is named 'nobody-v1'"):
        release.release(["mine-v1", "nobody-v1"], path, registry(path))
    assert not path.exists()


# --- the file and the verb -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 1, "surprise": 0}', '{"schema": 99}', "{}"])
def test_a_damaged_lock_is_told_as_such(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lock.json"
    path.write_text(text)
    with pytest.raises(LockError, match=r"lock\.json"):
        lock_file.read(path)


@pytest.mark.parametrize(("check", "ids"), [(False, ()), (True, ("mine-v1",))])
def test_the_verb_wants_one_of_its_two_options(check: bool, ids: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="--check, or --release ID"):
        CliRunner().invoke(
            cli,
            ["lock", *(["--check"] if check else []), *(f"--release={name}" for name in ids)],
            catch_exceptions=False,
        )


def test_the_project_s_own_lock_is_whole() -> None:
    """Files and defaults only; `lock --check` runs the canaries as well."""
    held = lock_file.read()
    assert lock_file.PATH.read_text() == lock_file.to_text(held)
    broken = differences.changed_defaults(held, lock_file.PATH)
    for name in held.protocols:
        broken += differences.changed_protocol(name, held, lock_file.PATH)
    assert broken == []
    assert set(differences.recipe_defaults(Recipe)) == set(Recipe.model_fields) - {"labels"}
