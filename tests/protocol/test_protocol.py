"""Protocols: what the digest covers, and what a value that depends on the cell comes to."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import UserError
from bench.plugins.registry import discover
from bench.protocol import definition
from bench.protocol.definition import Protocol
from bench.protocol.recipe import Recipe, scaled
from bench.protocol.toml_file import read_toml

PATH = Path("mine.toml")
SOFT = """
title = "A protocol"
labels = "stored"
teacher = "small-teacher-v1"
student = "convnet"
[recipe]
views = 20
epochs = 5
batch = 10
[recipe.optimizer]
lr = 1.0
[recipe.loss]
name = "kl"
"""


def parsed(text: str) -> Protocol:
    return definition.parse("mine", tomllib.loads(text), PATH)


def recipe(text: str, **cell: Any) -> Recipe:
    return parsed(text).recipe(**{"dataset": "digits", "ipc": 10, "student": "convnet", "classes": 10, **cell})


def epochs(table: str, **cell: Any) -> int:
    return recipe(SOFT.replace("epochs = 5\n", "") + "[recipe.epochs]\n" + table, **cell).epochs


# --- the digest ------------------------------------------------------------------------------------------------------


def test_order_format_and_words_do_not_matter() -> None:
    other = """
        student = 'convnet'   # the default
        teacher = "small-teacher-v1"
        labels = "stored"
        notes = "reworded"
        recipe.loss.name = "kl"
        recipe.optimizer = { lr = 1 }
        recipe.batch = 10.0
        recipe.epochs = 5
        recipe.views = 20
    """
    assert parsed(other).digest == parsed(SOFT).digest


def leaves(value: Any, path: tuple = ()) -> list[tuple[tuple, Any]]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*path, key))]
    if isinstance(value, list):
        return [leaf for index, inner in enumerate(value) for leaf in leaves(inner, (*path, index))]
    return [(path, value)]


def with_leaf(values: dict, path: tuple, new: Any) -> dict:
    changed = copy.deepcopy(values)
    inner: Any = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return changed


FIXED = parsed(SOFT)
CONTENT = FIXED.values


def test_a_default_written_out_changes_nothing() -> None:
    assert len(leaves(CONTENT)) > 45
    assert definition.parse("mine", CONTENT, PATH).digest == FIXED.digest
    for section in ("optimizer", "schedule", "loss", "augment"):
        sparse = copy.deepcopy(CONTENT)
        for key, default in definition.defaults(definition.defaults(Recipe)[section]).items():
            if sparse["recipe"][section][key] == default:
                del sparse["recipe"][section][key]
        assert len(sparse["recipe"][section]) < len(CONTENT["recipe"][section])
        assert definition.parse("mine", sparse, PATH).digest == FIXED.digest


CHOICES = {
    "labels": ["online"], "draw": ["batch"], "ensemble": ["norm-mean"], "teacher_mode": ["train"],
    "accumulation_weight": ["nominal"], "normalisation": ["imagenet"], "name": ["sgd", "linear", "mse", "soft-ce"],
    "decay": ["all"], "per": ["step"], "patches": ["shuffle"], "mix": ["cutmix", "mixup"], "mix_unit": ["batch"],
    "precision": ["tf32", "bf16"], "memory_format": ["contiguous", "channels_last"], "class_balance": ["free"],
}  # fmt: skip


def other_value(path: tuple, value: Any) -> st.SearchStrategy:
    if isinstance(value, bool):
        return st.just(not value)
    if isinstance(value, str):
        return st.sampled_from([choice for choice in CHOICES.get(path[-1], ["other"]) if choice != value])
    if isinstance(value, int):
        return st.integers(1, 10**6).filter(lambda new: new != value)
    return st.floats(1e-6, 0.999).filter(lambda new: new != value)


FITS_ALONE = {"accumulation", "warmup", "labels", "mix_labels", "draw", "name", "views"}  # must fit another value


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(leaves(CONTENT)).flatmap(lambda leaf: st.tuples(st.just(leaf[0]), other_value(*leaf))))
def test_any_value_that_changes_changes_the_digest(change: tuple[tuple, Any]) -> None:
    path, new = change
    changed = with_leaf(CONTENT, path, new)
    try:
        assert definition.parse("mine", changed, PATH).digest != FIXED.digest
    except UserError:
        assert FITS_ALONE & set(path) or new > 30


def with_a_new_field(default: Any) -> type[Recipe]:
    class Later(Recipe):
        brand_new: int = default

    return Later


def test_a_field_that_a_later_version_adds_changes_no_digest_while_it_is_off() -> None:
    later = with_a_new_field(0)
    values = definition.with_defaults(later, CONTENT["recipe"], PATH, "recipe")
    assert values["brand_new"] == 0
    assert definition.without_defaults(later, values) == definition.without_defaults(Recipe, CONTENT["recipe"])
    assert definition.without_defaults(later, values | {"brand_new": 3})["brand_new"] == 3


def test_defaults_are_written_out_inside_branches_too() -> None:
    by = SOFT.replace("[recipe.optimizer]\nlr = 1.0\n", "") + '[recipe.optimizer]\nby = "ipc"\n'
    short = by + '[recipe.optimizer."1"]\nlr = 0.5\n[recipe.optimizer.default]\nlr = 1\n'
    full = by + '[recipe.optimizer.default]\nlr = 1.0\nname = "adamw"\n[recipe.optimizer."1"]\nlr = 0.5\nmomentum = 0\n'
    assert parsed(short).digest == parsed(full).digest
    assert recipe(short, ipc=1).optimizer.lr == 0.5
    assert recipe(short, ipc=2).optimizer.lr == 1.0
    with pytest.raises(UserError, match=r"No key is named 'lrr'. Did you mean 'lr'"):
        parsed(by + '[recipe.optimizer."1"]\nlr = 1\n[recipe.optimizer.default]\nlrr = 1\n')


def test_the_projects_protocols_resolve_for_every_cell() -> None:
    registry = discover()
    for name in registry.protocol_names():
        fixed = definition.load(registry, name)
        for dataset in ("digits", "mnist5k", "glyphs", "glyphs:classes=1000"):
            for ipc in (1, 2, 10, 50, 1000):
                for student in ("convnet", "convnet:width=64", "timm:resnet18"):
                    cell = fixed.recipe(dataset=dataset, ipc=ipc, student=student, classes=10)
                    assert (cell.views > 0) == (cell.labels == "stored")


# --- values that depend on the cell ----------------------------------------------------------------------------------


def test_a_value_may_depend_on_the_number_of_classes_and_of_images() -> None:
    assert epochs('by = "classes"\n"2-99" = 1\n">=100" = 2\n', classes=100) == 2
    assert epochs('by = "images"\n"1-99" = 1\n">=100" = 2\n', classes=100, ipc=1) == 2
    assert epochs('by = "images"\n"1-99" = 1\n">=100" = 2\n', classes=11, ipc=9) == 1


def test_regime_teachers_and_student_depend_on_the_data_set() -> None:
    fixed = parsed("""
        labels = { by = "dataset", digits = "stored", default = "online" }
        teacher = { by = "dataset", digits = ["one", "two"], default = "one" }
        student = { by = "dataset", digits = "convnet", glyphs = "resnet" }
        [recipe]
        epochs = 5
        batch = 10
        views = { by = "dataset", digits = 7, default = 0 }
        loss.name = "kl"
    """)
    assert (fixed.labels("digits"), fixed.labels("glyphs")) == ("stored", "online")
    assert (fixed.teachers("digits"), fixed.teachers("glyphs")) == (("one", "two"), ("one",))
    assert (fixed.student("digits"), fixed.student("glyphs:classes=9")) == ("convnet", "resnet")
    with pytest.raises(UserError, match="protocol mine, student: no value for dataset = mnist5k"):
        fixed.student("mnist5k")
    digits, glyphs = (fixed.recipe(dataset=name, ipc=1, student="convnet", classes=10) for name in ("digits", "glyphs"))
    assert (digits.labels, digits.views) == ("stored", 7)
    assert (glyphs.labels, glyphs.views) == ("online", 0)


def test_a_miniature_has_an_id_and_a_digest_of_its_own_and_keeps_the_rest() -> None:
    registry = discover()
    whole, small = (definition.load(registry, name) for name in ("small-soft-v1", "small-soft-v1:scale=0.123456789"))
    assert small.id == "small-soft-v1:scale=0.123456789"
    assert definition.load(registry, small.id).digest == small.digest != whole.digest
    at = {"dataset": "digits", "ipc": 10, "student": "convnet", "classes": 10}
    assert small.recipe(**at) == whole.recipe(**at).model_copy(update={"epochs": 15, "views": 12})
    for wrong in ("0", "1", "-1", "x", "nan"):
        with pytest.raises(UserError, match="only a scale between 0 and 1"):
            definition.load(registry, f"small-soft-v1:scale={wrong}")
    with pytest.raises(UserError, match=r"no value is named 'epochs'. Did you mean 'recipe.epochs'\?"):
        definition.load(registry, "small-soft-v1:epochs=3")


def test_a_miniature_keeps_warm_up_and_milestones_inside_its_epochs() -> None:
    stepped = recipe(
        SOFT.replace("epochs = 5", "epochs = 100").replace(
            "[recipe.loss]",
            '[recipe.schedule]\nname = "multistep"\nwarmup = 10\nmilestones = [40, 60, 99]\n[recipe.loss]',
        )
    )
    tenth = scaled(stepped, 0.1)
    assert (tenth.epochs, tenth.views, tenth.schedule.warmup) == (10, 2, 1)
    assert tenth.schedule.milestones == (4, 6, 9)
    least = scaled(stepped, 1e-6)
    assert (least.epochs, least.views, least.schedule.warmup, least.schedule.milestones) == (2, 2, 1, (1,))
    assert Recipe.model_validate(least.model_dump()) == least


def test_what_is_typed_beside_a_scale_is_taken_as_it_stands() -> None:
    registry = discover()
    at = {"dataset": "digits", "ipc": 10, "student": "convnet", "classes": 10}
    small = definition.load(registry, "small-soft-v1:scale=0.05").recipe(**at)
    typed = definition.load(registry, "small-soft-v1:recipe.views=31,scale=0.05")
    assert typed.recipe(**at) == small.model_copy(update={"views": 31})
    whole = definition.load(registry, "small-soft-v1").recipe(**at)
    same = definition.load(registry, f"small-soft-v1:recipe.epochs={whole.epochs},scale=0.05")
    assert same.id == f"small-soft-v1:recipe.epochs={whole.epochs},scale=0.05"  # its own value, and not scaled
    assert same.recipe(**at) == small.model_copy(update={"epochs": whole.epochs})
    with pytest.raises(UserError, match=r"small-soft-v1:recipe.schedule.warmup=20,scale=0.05.*warmup = 20 must be"):
        definition.load(registry, "small-soft-v1:recipe.schedule.warmup=20,scale=0.05").recipe(**at)


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("epochs = 5", "epocs = 5", r"mine.toml, \[recipe\]: No key is named 'epocs'. Did you mean 'epochs'"),
        ("lr = 1.0", "lrr = 1.0", r"mine.toml, \[recipe.optimizer\]: No key is named 'lrr'"),
        ("epochs = 5\n", "", r"\[recipe\]: 'epochs' is missing"),
        ("epochs = 5", "epochs = 0", "epochs: Input should be greater than or equal to 1"),
        ("epochs = 5", "epochs = 'five'", "epochs: Input should be a valid integer"),
        ("lr = 1.0", "lr = inf", "optimizer.lr: Input should be a finite number"),
        ("lr = 1.0", "lr = -1", "optimizer.lr: Input should be greater than 0"),
        ("[recipe.optimizer]\nlr = 1.0", "optimizer = 3", r"\[recipe.optimizer\] must be a table, not 3"),
        ("title =", "titel =", "No key is named 'titel'. Did you mean 'title'"),
        ('teacher = "small-teacher-v1"\n', "", "'teacher' is missing"),
        ('student = "convnet"', "student = 5", "student = 5 must be a name in quotes"),
        ('teacher = "small-teacher-v1"', "teacher = []", r"teacher = \[\] must be a name in quotes or a list of names"),
        ('teacher = "small-teacher-v1"', "teacher = [1]", r"teacher = \[1\] must be a name in quotes or a list"),
        ("title = ", "notes = 3\ntitle = ", "notes = 3 must be text in quotes"),
        ('labels = "stored"', 'labels = "soft"', "No label regime is named 'soft'"),
        ('labels = "stored"', 'labels = "hard"', "loss 'kl' does not go with labels = 'hard': ce is for hard labels"),
        ('labels = "stored"', "labels = {by = 'ipc', default = 'hard'}", "labels: by = 'ipc' is not one of dataset"),
        ('name = "kl"', 'name = "ce"', "loss 'ce' does not go with labels = 'stored'"),
        ("views = 20\n", "", "must be at least 1 for labels = 'stored' and 0 otherwise"),
        ("views = 20", "views = 20\ndraw = 'batch'", "draw = 'batch' needs labels = 'stored' and augment.mix_unit"),
        ("views = 20", "views = 20\naccumulation = 3", "accumulation = 3 does not divide batch = 10"),
        ("[recipe.loss]", "[recipe.schedule]\nwarmup = 5\n[recipe.loss]", "warmup = 5 must be below epochs = 5"),
        ("[recipe.loss]", "[recipe.schedule]\nmilestones = [2]\n[recipe.loss]", "milestones belong to multistep"),
        ("[recipe.loss]", "[recipe.schedule]\nname = 'multistep'\n[recipe.loss]", "multistep, which needs at least"),
        (
            "[recipe.loss]", "[recipe.schedule]\nname = 'loss-driven'\nper = 'step'\n[recipe.loss]",
            "schedule.per = 'epoch' belongs to loss-driven",
        ),
        ("epochs = 5", "epochs = 5\nclass_balance = 'odd'", "class_balance: Input should be 'equal' or 'free'"),
        ("[recipe]", "[recipe]\nlabels = 'hard'", "'labels' stands at the top of the file"),
        ("epochs = 5", "epochs = {by = 'ipc', '1' = 10, default = 0}", "epochs: Input should be greater than or equal"),
        ("epochs = 5", "epochs = {by = 'ipc'}", "mine.toml: a table with by = 'ipc' has no value"),
        ("epochs = 5", "epochs = {by = 3, default = 2}", "epochs: by = 3 is not one of dataset, ipc"),
        ("epochs = 5", "epochs = {by = ['ipc'], default = 2}", r"epochs: by = \['ipc'\] is not one of dataset, ipc"),
        ("epochs = 5", "epochs = {by = 'ipc', '9-2' = 1, default = 2}", "the key '9-2' is none of 10, 2-10, >=50"),
        ("epochs = 5", "epochs = {by = 'ipc', few = 1, default = 2}", "the key 'few' is none of 10, 2-10, >=50"),
        ("epochs = 5", "epochs = {by = 'ipc', '1-9' = 1, '>=5' = 2}", "ipc = 5 has more than one value: 1-9, >=5"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_found_when_it_is_read(old: str, new: str, message: str) -> None:
    assert old in SOFT
    with pytest.raises(UserError, match=message):
        parsed(SOFT.replace(old, new))


def test_an_error_in_one_branch_names_the_cell_it_is_in() -> None:
    table = "epochs = 5\nbatch = {by = 'dataset', digits = 9, default = 10}\naccumulation = 2"
    with pytest.raises(
        UserError, match=r"mine.toml \(dataset = digits\): .*accumulation = 2 does not divide batch = 9"
    ):
        parsed(SOFT.replace("batch = 10\n", "").replace("epochs = 5", table))


def test_tables_that_leave_no_cell_with_all_its_values_are_refused() -> None:
    apart = "epochs = {by = 'dataset', digits = 5}\nbatch = {by = 'dataset', glyphs = 10}"
    with pytest.raises(
        UserError, match=r"no cell at all has every value it needs; for instance .*no value for dataset"
    ):
        parsed(SOFT.replace("batch = 10\n", "").replace("epochs = 5", apart))


def test_broken_toml_is_named_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("labels = \n")
    with pytest.raises(UserError, match=r"broken\.toml: .*line 1"):
        read_toml(path)


def test_an_unknown_protocol_gets_the_nearest_names() -> None:
    with pytest.raises(UserError, match="Did you mean 'small-soft-v1'"):
        definition.load(discover(), "small-soft-v2")
