"""A value that is typed after a protocol's name and changes nothing is refused, not run under another name."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from bench.driver.prepared import RunOptions, prepare
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.protocol.definition import load
from bench.protocol.effects import USES, hold_to_effects, without_effect
from bench.protocol.recipe import Recipe
from bench.training.rates import factor

REGISTRY = discover()


def held(protocol: str, dataset: str = "digits") -> None:
    hold_to_effects(REGISTRY, [(protocol, dataset, 10, "convnet:width=16")])


@pytest.mark.parametrize(
    ("protocol", "dataset", "reason"),
    [
        (
            "edc-v2:recipe.schedule.zeta=1.5",
            "cifar10",
            "zeta changes nothing there: it belongs to recipe.schedule.name = "
            "cosine or ssrs, and there is recipe.schedule.name = multistep",
        ),
        ("small-hard-v1:recipe.optimizer.momentum=0.9", "digits", "belongs to recipe.optimizer.name = sgd"),
        ("dc-v1:recipe.optimizer.betas=[0.5,0.9]", "digits", "belongs to recipe.optimizer.name = adamw"),
        ("small-hard-v1:recipe.loss.temperature=4", "digits", "belongs to recipe.loss.name = kl or soft-ce"),
        ("small-hard-v1:recipe.augment.mix_alpha=0.2", "digits", "belongs to recipe.augment.mix = cutmix or mixup"),
        ("small-hard-v1:recipe.augment.cutout_probability=0.2", "digits", "belongs to recipe.augment.cutout above 0"),
        ("small-hard-v1:recipe.schedule.gamma=0.5", "digits", "belongs to recipe.schedule.name = multistep or"),
        ("small-hard-v1:recipe.schedule.warmup_start=0.5", "digits", "belongs to recipe.schedule.warmup above 0"),
        ("small-hard-v1:recipe.accumulation_weight=nominal", "digits", "belongs to recipe.accumulation above 1"),
        (
            "small-hard-v1:recipe.augment.patch_grid=2",
            "digits",
            "belongs to recipe.augment.patches = shuffle or extract",
        ),
        ("small-hard-v1:recipe.augment.patches=shuffle", "digits", "patch_grid = 1: the whole image is its only patch"),
    ],
)
def test_a_value_that_nothing_reads_is_refused_with_what_it_belongs_to(
    protocol: str, dataset: str, reason: str
) -> None:
    with pytest.raises(UserError, match=f"protocol '.*' on {dataset}: .*") as error:
        held(protocol, dataset)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    ("protocol", "dataset"),
    [
        ("edc-v2:recipe.schedule.zeta=1.5", "digits"),
        ("edc-v2:recipe.schedule.milestones=[],recipe.schedule.name=cosine,recipe.schedule.zeta=1.5", "cifar10"),
        ("small-hard-v1:recipe.augment.mix=cutmix,recipe.augment.mix_alpha=0.2", "digits"),
        ("small-hard-v1:recipe.optimizer.lr=0.1,recipe.optimizer.momentum=0.9,recipe.optimizer.name=sgd", "digits"),
        ("small-hard-v1:recipe.schedule.zeta=1.0", "digits"),  # its own value: nothing is typed
        ("small-hard-v1", "digits"),
        ("small-hard-v1:recipe.augment.patch_grid=2,recipe.augment.patches=shuffle", "digits"),
        ("pca-v1:recipe.augment.patches=none", "mnist5k"),
    ],
)
def test_a_value_that_is_read_may_be_typed(protocol: str, dataset: str) -> None:
    held(protocol, dataset)


def test_every_name_is_one_of_a_recipe() -> None:
    for name in USES:
        model: type[BaseModel] = Recipe
        *parts, last = name.split(".")[1:]
        for part in parts:
            model = model.model_fields[part].annotation  # type: ignore[assignment]
        assert last in model.model_fields


def test_values_that_nothing_reads_train_the_same_student() -> None:
    """The reason for refusing: the training of 'zeta' under steps is that without it, to the bit of its rates."""

    steps = load(REGISTRY, "edc-v2").recipe(dataset="cifar10", ipc=10, student="convnet", classes=10)
    other = load(REGISTRY, "edc-v2:recipe.schedule.zeta=1.5").recipe(
        dataset="cifar10", ipc=10, student="convnet", classes=10
    )
    assert without_effect(other, ["recipe.schedule.zeta"])
    assert steps != other
    rates = [[factor(each.schedule, epoch, each.epochs) for epoch in range(each.epochs)] for each in (steps, other)]
    assert rates[0] == rates[1]


def test_a_run_is_refused_before_anything_is_trained(tmp_path) -> None:
    with pytest.raises(UserError, match="changes nothing there"):
        prepare(
            RunOptions(tmp_path / "results", tmp_path / "store"),
            datasets=["digits"],
            protocols=["small-hard-v1:recipe.augment.mix_alpha=0.2"],
            methods=["random"],
            ipcs=[1],
        )
    assert not (tmp_path / "results").exists()
