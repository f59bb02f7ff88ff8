"""Training dynamics are those of the data set's own recipe, and whoever used them says which."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.artifacts.refs import DatasetRef, Workspace
from bench.plugins.registry import Registry, discover
from bench.stages.origins import OriginDigests
from bench.teachers.dynamics_recipes import EMBEDDED, dynamics_identity, dynamics_recipe, recipe_name, shortened
from bench.trials.trial import Trial


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


@pytest.mark.parametrize(
    ("dataset", "size", "network", "epochs"),
    [
        ("digits", 8, "convnet:width=16", 10),
        ("glyphs:classes=100", 32, "convnet:width=16", 10),
        ("fashion-mnist", 28, "dc_convnet:width=32", 20),
        ("cifar10", 32, "torchvision:resnet18", 200),
        ("svhn", 32, "torchvision:resnet18", 200),
        ("somebodys", 48, "torchvision:resnet18", 200),
        ("tiny-imagenet", 64, "torchvision:resnet18", 50),
        ("imagewoof", 224, "torchvision:resnet18", 90),
        ("imagefolder:name=x", 128, "torchvision:resnet18", 90),
        ("imagenet-1k", 224, "torchvision:resnet34", 60),
    ],
)
def test_every_data_set_has_the_recipe_of_its_kind(registry, dataset, size, network, epochs):
    recipe = dynamics_recipe(registry, dataset, size, 10)
    assert (str(recipe.network), recipe.recipe.epochs) == (network, epochs)


def test_every_shipped_data_set_that_is_embedded_keeps_its_dynamics(registry):
    for name in registry.names("dataset"):
        embedded = registry.get("dataset", name).constants.get("ARITHMETIC") == "portable"
        assert (recipe_name(name, 32) == EMBEDDED) == embedded, name


def test_the_first_epochs_are_those_of_the_whole_recipe_where_the_rate_falls(registry):
    falling = dynamics_recipe(registry, "cifar10", 32, 10).recipe
    assert shortened(falling, 10) == (falling, 10)
    assert shortened(falling, 300)[0].epochs == 300
    constant = dynamics_recipe(registry, "digits", 8, 10).recipe
    assert shortened(constant, 3) == (constant.model_copy(update={"epochs": 3}), None)


def test_records_name_the_dynamics_that_a_method_used(registry, tmp_path):
    origins = OriginDigests(Workspace(tmp_path, registry))
    dataset = DatasetRef("cifar10", "0" * 64, 10, 3, 32, True, 50_000, "1" * 64, "2" * 64, 0)
    trial = Trial("cifar10", "standard-hard-sgd-v1", "forgetting", 1, None, None, "torchvision:resnet18", 0)
    assert origins.made_by(trial, dataset)["dynamics"] == dynamics_identity(registry, "cifar10", 32, 10)
    assert "dynamics" not in origins.made_by(replace(trial, method="random"), dataset)
    embedded = replace(dataset, spec="digits", size=8)
    assert "dynamics" not in origins.made_by(replace(trial, dataset="digits"), embedded)
