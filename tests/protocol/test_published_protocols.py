"""The literature's protocols: every value of every cell against tests/worlds/published.py, and the form of the
files."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from bench.plugins.registry import ROOT, discover
from bench.plugins.spec import parse
from bench.protocol import definition
from bench.protocol.conditions import NoValue, cells
from bench.protocol.definition import Protocol
from bench.protocol.recipe import Recipe, scaled
from bench.teachers.teacher_files import load_recipe
from bench.training.networks import build_network
from tests.worlds.published import CLASSES, EXPECTED, IPCS, PUBLISHED, SIZES, student, teachers

FOLDER = ROOT / "protocols"
FILES = [FOLDER / f"{name}.toml" for name in (*PUBLISHED, "small-soft-v1", "small-hard-v1")]
PARTS = [part for info in Recipe.model_fields.values() if hasattr(part := info.annotation, "model_fields")]


@cache
def loaded(name: str) -> Protocol:
    return definition.load(discover(), name)


def cell(name: str, dataset: str, ipc: int, who: str | None = None) -> Recipe:
    fixed = loaded(name)
    return fixed.recipe(dataset=dataset, ipc=ipc, student=who or fixed.student(dataset), classes=CLASSES[dataset])


# --- values -----------------------------------------------------------------------------------------------------------


def test_the_expectations_cover_every_data_set_and_ipc_of_every_protocol_once() -> None:
    met = [(name, dataset, ipc) for name, datasets, ipcs, *_ in EXPECTED for dataset in datasets for ipc in ipcs]
    assert len(met) == len(set(met)) == len(PUBLISHED) * len(CLASSES) * len(IPCS)
    assert len(PUBLISHED) == 16


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_cell_has_the_values_of_its_source(name: str) -> None:
    for _, datasets, ipcs, expected, normalisation in [each for each in EXPECTED if each[0] == name]:
        for dataset in datasets:
            wanted = Recipe.model_validate({**expected.model_dump(), "normalisation": normalisation(dataset)})
            for ipc in ipcs:
                assert cell(name, dataset, ipc) == wanted, (dataset, ipc)
            assert loaded(name).labels(dataset) == wanted.labels


@pytest.mark.parametrize("name", PUBLISHED)
def test_teachers_and_students_are_those_of_the_source(name: str) -> None:
    for dataset in CLASSES:
        assert loaded(name).teachers(dataset) == teachers(name, dataset), dataset
        assert loaded(name).student(dataset) == student(name, dataset), dataset


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_data_set_that_no_file_names_is_served_as_imagenet_1k_with_a_teacher_that_can_be_trained(name: str) -> None:
    fixed = loaded(name)
    for ipc in IPCS:
        unknown = fixed.recipe(dataset="my-photographs", ipc=ipc, student=fixed.student("?"), classes=1000)
        own = cell(name, "imagenet-1k", ipc).model_copy(update={"normalisation": unknown.normalisation})
        assert unknown == own
    assert unknown.normalisation == ("imagenet" if name == "rded-v1" else "dataset")
    assert set(fixed.teachers("my-photographs")) >= {"imagenet-subset-resnet18-v1"}


@pytest.mark.parametrize(
    ("who", "rate"),
    [
        ("torchvision:resnet18", 1e-3), ("torchvision:resnet50", 1e-3), ("torchvision:resnet101", 1e-3),
        ("convnet", 1e-3), ("convnet:depth=4,width=128", 1e-3), ("torchvision:efficientnet_b0", 2e-3),
        ("torchvision:mobilenet_v2", 2.5e-3), ("torchvision:vgg11", 5e-4), ("torchvision:alexnet", 1e-4),
        ("torchvision:vit_b_16", 1e-4), ("torchvision:swin_v2_t", 1e-4), ("timm:resnet18", 1e-3),
    ],
)  # fmt: skip
def test_the_learning_rate_of_rded_follows_the_student(who: str, rate: float) -> None:
    assert cell("rded-v1", "imagenet-1k", 10, who).optimizer.lr == rate
    assert cell("rded-v1", "cifar100", 50, who).optimizer.lr == rate


def test_the_variants_differ_in_what_their_names_say_and_in_nothing_else() -> None:
    def values(name: str) -> dict[str, Any]:
        return loaded(name).values

    def differing(one: dict[str, Any], other: dict[str, Any], at: str = "") -> set[str]:
        if not (isinstance(one, dict) and isinstance(other, dict) and "by" not in one and "by" not in other):
            return set() if one == other else {at}
        return set().union(*(differing(one[key], other[key], f"{at}.{key}") for key in one))

    assert differing(values("edc-v1"), values("edc-ssrs-v1")) == {
        ".recipe.schedule.name", ".recipe.schedule.milestones", ".recipe.schedule.gamma",
    }  # fmt: skip
    assert differing(values("standard-hard-adamw-v1"), values("standard-hard-sgd-v1")) == {
        f".recipe.optimizer.{key}" for key in ("name", "lr", "weight_decay", "momentum", "decay")
    }
    assert differing(values("standard-hard-adamw-v1"), values("pca-v1")) == {
        f".recipe.augment.{key}" for key in ("patches", "patch_grid", "crop_scale")
    }
    assert differing(values("standard-soft-v1"), values("lpld-v1")) >= {".recipe.draw"}
    assert len({loaded(name).digest for name in PUBLISHED}) == len(PUBLISHED)


# --- form -------------------------------------------------------------------------------------------------------------


def unwritten(content: Any, model: type[BaseModel] = Recipe, at: str = "recipe") -> Iterator[str]:
    """Names of the values that a file leaves to a default, in every branch."""
    if "by" in content:
        for key, branch in content.items():
            if key != "by":
                yield from unwritten(branch, model, f"{at}.{key}")
        return
    for key, info in model.model_fields.items():
        if at == "recipe" and key == "labels":
            continue
        if key not in content:
            yield f"{at}.{key}"
        elif isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from unwritten(content[key], info.annotation, f"{at}.{key}")


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_writes_every_value_out(path: Path) -> None:
    assert list(unwritten(read(path)["recipe"])) == []


def test_a_value_that_is_left_to_a_default_would_be_noticed() -> None:
    content = read(FOLDER / "rded-v1.toml")["recipe"]
    del content["ema"], content["augment"]["pad"]
    content["optimizer"] = {"by": "ipc", "1": {"lr": 1.0}, "default": content["optimizer"]}
    found = set(unwritten(content))
    assert {"recipe.ema", "recipe.augment.pad", "recipe.optimizer.1.name"} <= found
    assert not any(name.startswith("recipe.optimizer.default") for name in found)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_file_tells_its_source_its_deviations_and_where_each_value_comes_from(name: str) -> None:
    fixed = loaded(name)
    assert re.search(r"arXiv \d{4}\.\d{5}", fixed.source)
    assert "after the last epoch" in " ".join(fixed.notes.split())
    assert "reproduced" in fixed.notes or name in ("dc-bench-v1", "dc-v1", "dsa-v1")
    names = {field for model in (Recipe, *PARTS) for field in model.model_fields}
    before, explained = "", 0
    for line in fixed.path.read_text(encoding="utf-8").partition("\n[recipe]\n")[2].splitlines():
        value = re.match(r"(\w+) = ", line)
        if value and value[1] in names:
            assert "#" in line or before.startswith("#"), f"{fixed.path.name}: {line}"
            explained += 1
        before = line
    assert explained > 30


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_only_data_sets_and_students_that_exist_or_that_the_literature_knows_are_named(path: Path) -> None:
    registry = discover()

    def conditions(value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                if "by" in value and key not in ("by", "default"):
                    yield value["by"], key
                yield from conditions(inner)

    for condition, key in conditions(read(path)):
        if condition == "dataset":
            assert key in CLASSES or key in registry.names("dataset"), key
        elif condition == "student":
            parse(registry, "network", key)
            if key.startswith("torchvision:"):
                import torchvision

                assert key.partition(":")[2] in torchvision.models.list_models(module=torchvision.models)


def test_every_teacher_that_a_protocol_names_has_a_recipe_that_builds() -> None:
    registry, built = discover(), set()
    for dataset in CLASSES:
        for teacher in {each for name in PUBLISHED for each in teachers(name, dataset)}:
            network = load_recipe(registry, teacher, dataset, CLASSES[dataset]).network
            if SIZES[dataset] <= 64 and teacher not in built:
                build_network(network, channels=3, size=SIZES[dataset], classes=CLASSES[dataset], seed=0)
                built.add(teacher)
    assert len(built) == 8 + 5 + 4  # CIFAR, Tiny-ImageNet, embedded


@pytest.mark.parametrize("dataset", ["digits", "mnist5k", "glyphs", "cifar10", "tiny-imagenet", "imagenette"])
def test_every_default_student_fits_its_images(dataset: str) -> None:
    registry = discover()
    channels = 1 if dataset in ("digits", "mnist5k", "glyphs") else 3
    for spec in {loaded(name).student(dataset) for name in PUBLISHED}:
        build_network(parse(registry, "network", spec), channels=channels, size=SIZES[dataset], classes=10, seed=0)


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("scale", [0.5, 0.01, 1e-9])
def test_the_miniature_of_every_cell_is_a_valid_recipe(name: str, scale: float) -> None:
    fixed = loaded(name)
    for at in cells(fixed.values):
        try:
            whole = fixed.recipe(**{key: at[key] for key in ("dataset", "ipc", "student", "classes")})
        except NoValue:
            continue
        small = scaled(whole, scale)
        assert Recipe.model_validate(small.model_dump()) == small
        assert small.epochs >= 2
        assert (small.views >= 2) == (whole.views > 0)
        assert small.schedule.name != "multistep" or max(small.schedule.milestones) < small.epochs
