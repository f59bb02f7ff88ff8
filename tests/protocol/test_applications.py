"""Second versions of the applications: on embedded data the first ones' values, on real data the literature's."""

from __future__ import annotations

import pytest

from bench.plugins.registry import discover
from bench.protocol import definition
from bench.protocol.definition import Protocol
from bench.protocol.recipe import Recipe
from bench.teachers.teacher_files import load_recipe

REGISTRY = discover()
EMBEDDED = ["digits", "mnist5k", "glyphs", "heldout"]


def protocol(name: str) -> Protocol:
    return definition.load(REGISTRY, name)


def recipe(of: Protocol, dataset: str, ipc: int) -> Recipe:
    return of.recipe(dataset=dataset, ipc=ipc, student=of.student(dataset), classes=10)


@pytest.mark.parametrize("name", ["continual-5", "continual-10", "slimming"])
@pytest.mark.parametrize("dataset", EMBEDDED)
def test_on_embedded_data_nothing_but_the_name_differs(name: str, dataset: str) -> None:
    former, now = protocol(f"{name}-v1"), protocol(f"{name}-v2")
    assert former.teachers(dataset) == now.teachers(dataset)
    assert former.student(dataset) == now.student(dataset)
    assert [recipe(former, dataset, ipc) for ipc in (1, 10, 50)] == [recipe(now, dataset, ipc) for ipc in (1, 10, 50)]


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "tiny-imagenet", "imagewoof", "imagenet-10", "imagenet-1k"])
@pytest.mark.parametrize("steps", [5, 10])
def test_on_real_data_a_step_is_trained_as_the_standard_recipe_says(steps: int, dataset: str) -> None:
    now, standard = protocol(f"continual-{steps}-v2"), protocol("standard-hard-adamw-v1")
    assert now.teachers(dataset) == standard.teachers(dataset)
    assert now.student(dataset) == standard.student(dataset)
    expected = recipe(standard, dataset, 10).model_copy(update={"class_steps": steps})
    assert recipe(now, dataset, 10) == expected


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_on_cifar_the_network_that_is_slimmed_has_its_full_width(dataset: str) -> None:
    now = protocol("slimming-v2")
    network = str(load_recipe(REGISTRY, now.teachers(dataset)[-1], dataset, 10).network)
    assert network == now.student(dataset) == "vgg"
    assert recipe(now, dataset, 10).kept_channels == (0.8, 0.6, 0.4, 0.2)
