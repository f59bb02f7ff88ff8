"""Protocols that extend others, and protocols with other values behind a colon."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import show
from bench.errors import LockError, UserError
from bench.lock import before_run, lock_file
from bench.lock.release import release
from bench.plugins.registry import Registry, discover
from bench.protocol import definition
from bench.protocol.inherit import merged
from bench.protocol.options import parse_options

REGISTRY = discover()
NAMES = REGISTRY.protocol_names()
CELL = {"dataset": "cifar10", "ipc": 10, "student": "convnet:width=16", "classes": 10}


def content(name: str) -> dict:
    return tomllib.loads(REGISTRY.protocol_file(name)[1])


def own(tmp_path: Path, text: str, name: str = "mine-v1") -> Registry:
    file = tmp_path / f"{name}.toml"
    file.write_text(text, encoding="utf-8")
    return discover([file])


# --- extends ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_child_that_changes_nothing_has_the_digest_of_its_parent(tmp_path: Path, name: str) -> None:
    child = definition.load(own(tmp_path, f'extends = "{name}"\n'), "mine-v1")
    parent = definition.load(REGISTRY, name)
    assert (child.digest, child.values, child.parents) == (parent.digest, parent.values, (name, *parent.parents))
    assert child.written == ()


@pytest.mark.parametrize("name", [name for name in NAMES if "extends" not in content(name)])
def test_a_child_has_the_digest_of_a_copy_that_writes_everything_down(tmp_path: Path, name: str) -> None:
    child = definition.load(own(tmp_path, f'extends = "{name}"\n[recipe.augment]\nflip = 0.125\n'), "mine-v1")
    copy = content(name)
    copy["recipe"]["augment"] = merged(copy["recipe"]["augment"], {"flip": 0.125})
    assert child.digest == definition.parse("copy-v1", copy, tmp_path / "copy-v1.toml").digest
    assert child.digest != definition.load(REGISTRY, name).digest
    assert child.written == ("recipe.augment.flip",)


def test_a_value_goes_into_every_branch_of_a_part_and_a_table_with_by_replaces_a_value() -> None:
    parent = {
        "a": {"by": "dataset", "x": {"lr": 1, "wd": 2}, "default": {"lr": 3, "wd": 4}},
        "b": 5,
        "c": {"by": "ipc"},
    }
    child = {"a": {"lr": 9}, "b": {"by": "ipc", "default": 1}, "c": {"by": "dataset", "default": 7}}
    assert merged(parent, child) == {
        "a": {"by": "dataset", "x": {"lr": 9, "wd": 2}, "default": {"lr": 9, "wd": 4}},
        "b": {"by": "ipc", "default": 1},
        "c": {"by": "dataset", "default": 7},
    }


def test_grandchildren_inherit_through_their_parents(tmp_path: Path) -> None:
    (tmp_path / "a-v1.toml").write_text('extends = "edc-v1"\n[recipe]\nema = 0.5\n', encoding="utf-8")
    (tmp_path / "b-v1.toml").write_text('extends = "a-v1"\n[recipe.schedule]\nzeta = 1.5\n', encoding="utf-8")
    fixed = definition.load(discover([tmp_path / "a-v1.toml", tmp_path / "b-v1.toml"]), "b-v1")
    assert fixed.parents == ("a-v1", "edc-v1")
    recipe = fixed.recipe(**CELL)
    assert (recipe.ema, recipe.schedule.zeta) == (0.5, 1.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = "edc-v9"', r"extends = 'edc-v9'.*edc-v"),
        ("extends = 3", "must be the name of one protocol"),
        ('extends = "edc-v1:scale=0.1"', "must be the name of one protocol"),
        ('extends = "mine-v1"', "goes in a circle: mine-v1.toml -> mine-v1.toml"),
        ('extends = "edc-v1"\n[recipe]\nbach = 3', "bach.*batch"),
        ('extends = "edc-v1"\n[recipe]\nbatch = "x"', "batch"),
    ],
)
def test_mistakes_in_a_child_are_named_with_its_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"(?s)mine-v1\.toml.*({message})"):
        definition.load(own(tmp_path, text), "mine-v1")


@pytest.mark.trains
def test_a_child_is_released_with_its_parent_or_after_it_and_not_alone(tmp_path: Path) -> None:
    """Else the parent could still change, and the child with it."""
    path = tmp_path / "lock.json"
    lock_file.write(lock_file.Lock(), path)
    (tmp_path / "teachers").mkdir()
    teacher = Path(REGISTRY.protocol_file("small-hard-v1")[0]).parent / "teachers" / "small-teacher-v1.toml"
    (tmp_path / "teachers" / teacher.name).write_text(teacher.read_text(encoding="utf-8"), encoding="utf-8")
    parent = REGISTRY.protocol_file("small-hard-v1")[1]
    (tmp_path / "parent-v1.toml").write_text(parent, encoding="utf-8")
    child = 'title = "t"\nsource = "s"\nextends = "parent-v1"\n[recipe]\nbatch = 40\n'
    (tmp_path / "child-v1.toml").write_text(child, encoding="utf-8")
    with pytest.raises(LockError, match="child-v1 extends parent-v1, which is not released"):
        release(["child-v1"], path, REGISTRY)
    assert "child-v1" in release(["parent-v1", "child-v1"], path, REGISTRY)
    assert set(lock_file.released(path)) == {"parent-v1", "child-v1"}


def test_before_a_run_the_released_parent_of_an_own_protocol_is_held_to_the_lock(tmp_path: Path, monkeypatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(before_run, "_try_canaries", lambda name, *_: tried.append(name))
    registry = own(tmp_path, 'extends = "small-hard-v1"\n[recipe]\nbatch = 40\n')
    before_run.guard(registry, ["mine-v1", "small-soft-v1:recipe.batch=40"], tmp_path / "store")
    assert tried == ["small-hard-v1", "small-soft-v1"]


# --- other values behind a colon -------------------------------------------------------------------------------------


def test_any_value_is_set_by_its_dotted_name_and_the_id_has_one_spelling() -> None:
    text = "small-soft-v1:recipe.schedule.zeta=1,recipe.batch=100,recipe.augment.crop_scale=[0.5, 1],scale=0.5"
    fixed = definition.load(REGISTRY, text)
    assert fixed.id == (
        "small-soft-v1:recipe.augment.crop_scale=[0.5,1.0],recipe.batch=100,recipe.schedule.zeta=1.0,scale=0.5"
    )
    assert definition.load(REGISTRY, fixed.id).digest == fixed.digest
    recipe, whole = (definition.load(REGISTRY, each).recipe(**CELL) for each in (fixed.id, "small-soft-v1"))
    assert (recipe.batch, recipe.schedule.zeta, recipe.augment.crop_scale) == (100, 1.0, (0.5, 1.0))
    assert recipe.epochs == round(whole.epochs / 2)


def test_a_value_that_the_protocol_has_already_changes_neither_id_nor_digest() -> None:
    plain = definition.load(REGISTRY, "small-soft-v1")
    same = definition.load(REGISTRY, "small-soft-v1:recipe.batch=20,recipe.schedule.zeta=2")
    assert (same.id, same.digest) == ("small-soft-v1", plain.digest)


@pytest.mark.parametrize("name", NAMES)
def test_other_values_are_those_of_a_child_that_writes_them(tmp_path: Path, name: str) -> None:
    value = definition.load(REGISTRY, f"{name}:recipe.ema=0.25,recipe.optimizer.weight_decay=0.125")
    text = f'extends = "{name}"\n[recipe]\nema = 0.25\n[recipe.optimizer]\nweight_decay = 0.125\n'
    assert value.digest == definition.load(own(tmp_path, text), "mine-v1").digest


def test_students_and_teachers_with_parameters_are_values_too() -> None:
    fixed = definition.load(REGISTRY, 'small-soft-v1:student="convnet:depth=2,width=32",teacher=small-wide-teacher-v1')
    assert fixed.student("digits") == "convnet:depth=2,width=32"
    assert fixed.teachers("digits") == ("small-wide-teacher-v1",)
    assert definition.load(REGISTRY, fixed.id).values == fixed.values


@pytest.mark.parametrize(
    "written", ['["small-teacher-v1", "small-wide-teacher-v1"]', "[small-teacher-v1,small-wide-teacher-v1]"]
)
def test_several_teachers_may_be_typed_with_and_without_quotes_and_the_id_is_read_back(written: str) -> None:
    both = definition.load(REGISTRY, f"edc-v2:recipe.batch=20,teacher={written}")
    assert both.id == "edc-v2:recipe.batch=20,teacher=[small-teacher-v1,small-wide-teacher-v1]"
    assert both.teachers("digits") == ("small-teacher-v1", "small-wide-teacher-v1")
    assert definition.load(REGISTRY, both.id).values == both.values


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("batch=100", r"no value is named 'batch'. Did you mean 'recipe.batch'\?"),
        ("recipe.bach=100", "recipe.batch"),
        ("recipe.batch", "is not key=value"),
        ("", "is not key=value"),
        ("recipe.batch=1,recipe.batch=2", "given twice"),
        ("recipe.batch=x", "valid integer"),
        ("recipe.batch=0", "greater than or equal to 1"),
        ("recipe.schedule.name=cosin", "'cosine'"),
        ("recipe.schedule.warmup=10000", "warmup"),
        ("recipe.labels=hard", "recipe.labels"),
        ("labels=hard", "does not go with labels"),
        ("scale=2", "only a scale between 0 and 1"),
        ("scale=.5,scale=.5", "given twice"),
        ("recipe.batch=[1", "valid integer"),
        ("recipe.batch=[1,x]", "valid integer"),
        ("teacher=[]", "list of names"),
        ("teacher=[small-teacher-v1,small-teacher-v1]", "'small-teacher-v1' twice"),
    ],
)
def test_what_is_no_value_is_refused_with_what_is_allowed(options: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        definition.load(REGISTRY, f"small-soft-v1:{options}")


def test_pieces_are_parted_at_commas_outside_brackets_and_quotes() -> None:
    parsed = parse_options("p", 'student="a:b=1,c=2",recipe.optimizer.betas=[0.5,0.75],recipe.batch=3')
    assert dict(parsed.values) == {
        "recipe.batch": 3,
        "recipe.optimizer.betas": [0.5, 0.75],
        "student": "a:b=1,c=2",
    }


# --- side by side ----------------------------------------------------------------------------------------------------


def shown(*arguments: str) -> str:
    outcome = CliRunner().invoke(show.command, arguments, catch_exceptions=False)
    return outcome.output


def test_protocols_side_by_side_are_what_differs() -> None:
    """Rethinking, table 1: the settings that papers compare methods under are not the same."""
    at = ("--dataset", "imagenet-1k", "--ipc", "10", "--classes", "1000", "--student", "torchvision:resnet18")
    text = shown("rded-v1", "edc-v1", "sre2l-v1", "--side-by-side", *at)
    values = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line and line[0].isalpha()}
    recipes = [definition.load(REGISTRY, name) for name in ("rded-v1", "edc-v1", "sre2l-v1")]
    cell = {"dataset": "imagenet-1k", "ipc": 10, "classes": 1000, "student": "torchvision:resnet18"}
    assert values["batch"] == [str(each.recipe(**cell).batch) for each in recipes] == ["100", "100", "1024"]
    assert values["loss.name"] == ["kl", "mse", "kl"]
    assert "optimizer.name" not in values  # AdamW in all of them


def test_a_child_tells_what_it_writes_and_what_it_comes_to(tmp_path: Path) -> None:
    own(tmp_path, 'extends = "small-soft-v1"\n[recipe]\nbatch = 40\n')
    text = shown("mine-v1", "--plugin", str(tmp_path / "mine-v1.toml"))
    assert 'extends: ["small-soft-v1"]' in text
    assert 'written in the file: ["recipe.batch"]' in text
    assert "    batch: 40" in text
    assert "      temperature: 4.0" in text
