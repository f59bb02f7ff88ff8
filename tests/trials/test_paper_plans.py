"""The plans of results/papers: every name is known; those of the real sets give each row its own training there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.plugins.registry import discover
from bench.protocol import definition
from bench.protocol.definition import default_recipes
from bench.protocol.effects import hold_to_effects
from bench.trials.plan import Plan, read_plan
from tests.worlds import ROOT

PLANS = sorted(set((ROOT / "results/papers").glob("*.toml")) - {ROOT / "results/papers/claims.toml"})
REAL_FOLDER = ROOT / "results/papers/real"
APPLICATIONS = REAL_FOLDER / "applications.toml"
REAL = sorted(set(REAL_FOLDER.glob("*.toml")) - {APPLICATIONS})
REAL_SETS = [
    "cifar10",
    "cifar100",
    "tiny-imagenet",
    "imagenette",
    "imagewoof",
    "imagenet-10",
    "imagenet-100",
    "imagenet-1k",
]
SMALLEST = 3  # replicates
REGISTRY = discover()


def with_dataset(path: Path, dataset: str) -> Plan:
    """The plan with another data set's name, which is all that its reader is to change."""
    return Plan([replace(grid, datasets=[dataset]) for grid in read_plan(path).grids])


def test_there_are_plans_for_each_paper():
    assert {path.stem.partition("-")[0] for path in PLANS} == {"score", "edc", "rethinking", "rivals"}
    assert {path.stem for path in REAL} == {"score", "edc", "rethinking"}


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_a_plan_is_understood_for_the_data_at_hand(path: Path):
    plan = read_plan(path)
    assert all(grid.replicates >= SMALLEST for grid in plan.grids)
    trials = plan.trials(REGISTRY)
    assert len(trials) > 10
    hold_to_effects(REGISTRY, ((each.protocol, each.dataset, each.ipc, each.student) for each in trials))


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
@pytest.mark.parametrize("dataset", REAL_SETS)
def test_a_plan_of_the_papers_takes_every_real_set_by_its_name(path: Path, dataset: str):
    """No default recipe, no value that changes nothing, and no two protocols of a grid that train alike."""
    plan = with_dataset(path, dataset)
    trials = plan.trials(REGISTRY)
    assert {trial.dataset for trial in trials} == {dataset}
    assert not default_recipes(REGISTRY, ((each.protocol, dataset) for each in trials))
    hold_to_effects(REGISTRY, ((each.protocol, dataset, each.ipc, each.student) for each in trials))
    for grid in plan.grids:
        for ipc in grid.ipcs:
            recipes = []
            for name in grid.protocols:
                protocol = definition.load(REGISTRY, name)
                student = protocol.student(dataset)
                recipe = protocol.recipe(dataset=dataset, ipc=ipc, student=student, classes=10)
                recipes.append((recipe, protocol.teachers(dataset)))
            assert len(set(recipes)) == len(recipes), f"two of {grid.protocols} train alike on {dataset}, ipc {ipc}"


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_every_grid_of_the_papers_has_random_images(path: Path):
    grids = read_plan(path).grids
    assert all("random" in grid.methods for grid in grids)


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_the_applications_take_cifar_by_its_name(dataset: str):
    trials = with_dataset(APPLICATIONS, dataset).trials(REGISTRY)
    assert not default_recipes(REGISTRY, ((each.protocol, dataset) for each in trials))
    assert {trial.student for trial in trials} <= {"torchvision:resnet18", "vgg"}
