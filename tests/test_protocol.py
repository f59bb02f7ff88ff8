"""Protocols: what the digest covers, and what a value that depends on the cell comes to."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import protocol
from bench.errors import UserError
from bench.protocol import Protocol
from bench.recipe import Recipe
from bench.registry import discover

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
"""


def parsed(text: str) -> Protocol:
    return protocol.parse("mine", tomllib.loads(text), PATH)


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
CONTENT = {"labels": FIXED.labels, "teacher": FIXED.teacher, "student": FIXED.student, "recipe": FIXED.values}


def test_a_default_written_out_changes_nothing() -> None:
    assert len(leaves(CONTENT)) > 25
    assert protocol.parse("mine", CONTENT, PATH).digest == FIXED.digest
    for section in ("optimizer", "schedule", "loss", "augment"):
        sparse = copy.deepcopy(CONTENT)
        if section != "optimizer":
            del sparse["recipe"][section]
        assert protocol.parse("mine", sparse, PATH).digest == FIXED.digest


CHOICES = {
    "labels": ["hard"], "name": ["sgd", "constant", "kl", "cosine"], "decay": ["all"], "patches": ["shuffle"],
    "mix": ["cutmix", "mixup"], "mix_unit": ["batch"],
}  # fmt: skip


def other_value(path: tuple, value: Any) -> st.SearchStrategy:
    if isinstance(value, bool):
        return st.just(not value)
    if isinstance(value, str):
        return st.sampled_from([choice for choice in CHOICES.get(path[-1], ["other"]) if choice != value])
    if isinstance(value, int):
        return st.integers(1, 10**6).filter(lambda new: new != value)
    return st.floats(1e-6, 0.999).filter(lambda new: new != value)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(leaves(CONTENT)).flatmap(lambda leaf: st.tuples(st.just(leaf[0]), other_value(*leaf))))
def test_any_value_that_changes_changes_the_digest(change: tuple[tuple, Any]) -> None:
    path, new = change
    changed = with_leaf(CONTENT, path, new)
    try:
        assert protocol.parse("mine", changed, PATH).digest != FIXED.digest
    except UserError:
        assert path[-1] == "name"  # an optimizer's name is no schedule's


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
        fixed = protocol.load(registry, name)
        for dataset in ("digits", "mnist5k", "glyphs", "glyphs:classes=1000"):
            for ipc in (1, 2, 10, 50, 1000):
                for student in ("convnet", "convnet:width=64", "timm:resnet18"):
                    cell = fixed.recipe(dataset=dataset, ipc=ipc, student=student, classes=10)
                    assert (cell.views > 0) == (cell.labels == "stored")


# --- values that depend on the cell ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ipc", "expected"), [(1, 300), (2, 150), (5, 150), (10, 150), (11, 7), (49, 7), (50, 3), (900, 3)]
)
def test_exact_range_bound_and_default(ipc: int, expected: int) -> None:
    table = 'by = "ipc"\n"1" = 300\n"2-10" = 150\n">=50" = 3\ndefault = 7\n'
    assert epochs(table, ipc=ipc) == expected


def test_the_order_of_keys_does_not_matter_since_it_is_not_in_the_digest() -> None:
    narrow_first = 'by = "ipc"\n"5" = 1\n"1-10" = 2\n'
    wide_first = 'by = "ipc"\n"1-10" = 2\n"5" = 1\n'
    assert epochs(narrow_first, ipc=5) == epochs(wide_first, ipc=5) == 1
    assert epochs(narrow_first, ipc=6) == epochs(wide_first, ipc=6) == 2
    with pytest.raises(UserError, match=r"ipc = 5 has more than one value: 1-10, >=5"):
        epochs('by = "ipc"\n"1-10" = 2\n">=5" = 1\n', ipc=5)


def test_a_data_set_with_parameters_before_its_plain_name_before_the_default() -> None:
    table = 'by = "dataset"\nglyphs = 2\n"glyphs:classes=10" = 1\ndefault = 3\n'
    assert epochs(table, dataset="glyphs:classes=10") == 1
    assert epochs(table, dataset="glyphs:classes=20") == 2
    assert epochs(table, dataset="glyphs") == 2
    assert epochs(table, dataset="digits") == 3


def test_students_and_numbers_of_classes() -> None:
    assert epochs('by = "student"\n"timm:resnet18" = 1\ntimm = 2\nconvnet = 3\n', student="timm:resnet18") == 1
    assert epochs('by = "student"\n"timm:resnet18" = 1\ntimm = 2\nconvnet = 3\n', student="timm:vgg11") == 2
    assert epochs('by = "classes"\n"2-99" = 1\n">=100" = 2\n', classes=100) == 2
    assert epochs('by = "images"\n"1-99" = 1\n">=100" = 2\n', classes=100, ipc=1) == 2


def test_tables_nest() -> None:
    table = 'by = "ipc"\n"1" = 9\n[recipe.epochs.default]\nby = "dataset"\ndigits = 4\ndefault = 6\n'
    assert epochs(table, ipc=1) == 9
    assert epochs(table, ipc=2) == 4
    assert epochs(table, ipc=2, dataset="mnist5k") == 6


def test_no_match_is_explained() -> None:
    with pytest.raises(UserError, match=r"protocol mine, epochs: no value for ipc = 3; it has 1, 10, and no default"):
        epochs('by = "ipc"\n"1" = 1\n"10" = 2\n', ipc=3)
    with pytest.raises(UserError, match=r"by = 'size' is not one of dataset, ipc, classes"):
        epochs('by = "size"\ndefault = 2\n')


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
        ('student = "convnet"', "student = 5", "student = 5 must be text in quotes"),
        ('labels = "stored"', 'labels = "soft"', "labels: Input should be 'hard' or 'stored'"),
        ("views = 20\n", "", "labels = 'stored' needs recipe.views"),
        ("[recipe]", "[recipe]\nlabels = 'hard'", "'labels' stands at the top of the file"),
        ("epochs = 5", "epochs = {by = 'ipc', '1' = 10, default = 0}", "epochs: Input should be greater than or equal"),
        ("epochs = 5", "epochs = {by = 'ipc'}", "epochs: Input should be a valid integer"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_found_when_it_is_read(old: str, new: str, message: str) -> None:
    assert old in SOFT
    with pytest.raises(UserError, match=message):
        parsed(SOFT.replace(old, new))


def test_broken_toml_is_named_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("labels = \n")
    with pytest.raises(UserError, match=r"broken\.toml: .*line 1"):
        protocol.read_toml(path)


def test_an_unknown_protocol_gets_the_nearest_names() -> None:
    with pytest.raises(UserError, match="Did you mean 'small-soft-v1'"):
        protocol.load(discover(), "small-soft-v2")
