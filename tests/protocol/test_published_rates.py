"""The learning rate of every epoch of the literature's protocols, as the optimiser really gets it, against formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from bench.plugins.registry import discover
from bench.protocol import definition
from bench.protocol.recipe import Optimizer, Recipe, Schedule
from bench.training.loop import train
from tests.worlds.published import CLASSES, PUBLISHED

Rates = Callable[[int, int], float]  # (epoch from 0, epochs) -> rate


def to_zero(lr: float) -> Rates:
    return lambda e, of: lr * (1 + math.cos(math.pi * e / of)) / 2


def to_half(lr: float) -> Rates:
    return lambda e, of: lr * math.cos(math.pi * e / (4 * of)) ** 2  # (1 + cos(2x)) / 2 = cos(x)^2


def warmed_up(e: int, of: int) -> float:
    return 0.2 * (0.01 + 0.99 * e / 5) if e < 5 else 0.2 * (1 + math.cos(math.pi * (e - 5) / (of - 5))) / 2


def ssrs(lr: float) -> Rates:
    level = (1 + math.cos(5 * math.pi / 12)) / 2  # half a cosine at five sixths of the way
    return lambda e, of: to_half(lr)(e, of) if 6 * e <= 5 * of else lr * level * (1 - e / of)


def steps(e: int, of: int) -> float:
    assert of == 1000
    return 1e-3 / 2 ** ((e >= 800) + (e >= 900) + (e >= 950))


def dropped(epoch: int) -> Rates:
    """The loop of DC and DC-BENCH in code: epochs 0 to `epoch`, the rate falls after epoch // 2 + 1 was trained."""

    def rate(e: int, of: int) -> float:
        assert of == epoch + 1
        return 0.01 if e <= epoch // 2 + 1 else 0.001

    return rate


def published(name: str, dataset: str) -> Rates:
    """The formula of a protocol for a data set, with the published student."""
    tiny, cifar100 = dataset == "tiny-imagenet", dataset == "cifar100"
    if name in ("sre2l-v1", "lpld-v1", "dwa-v1") and tiny:
        return warmed_up
    if name in ("rded-v1", "dd-ranking-v1"):
        return to_half(1e-3)
    if name == "gvbsm-v1":
        return to_zero(0.1 if tiny or cifar100 else 1e-3)
    if name == "edc-v1":
        return steps if dataset == "cifar10" else to_half(0.1 if tiny or cifar100 else 1e-3)
    if name == "edc-ssrs-v1":
        return ssrs(0.1 if tiny or cifar100 else 1e-3)
    special = {"standard-hard-sgd-v1": to_zero(0.1), "dc-bench-v1": dropped(300), "dc-v1": dropped(300)}
    special["dsa-v1"] = dropped(1000)
    if name == "score-v1" and dataset == "imagenette":
        return to_zero(5e-4)
    return special.get(name, to_zero(1e-3))


class Lines(nn.Module):
    """A student of eight weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(1))


@cache
def observed(epochs: int, optimizer: Optimizer, schedule: Schedule) -> tuple[list[float], list[int]]:
    """(rate, number of the optimiser) at every epoch of a training of one step an epoch."""
    recipe = Recipe(labels="hard", epochs=epochs, batch=2, optimizer=optimizer, schedule=schedule)
    rates: list[float] = []
    optimizers: dict[int, torch.optim.Optimizer] = {}

    def watch(optimizer: torch.optim.Optimizer, *_: object) -> None:
        optimizers[id(optimizer)] = optimizer  # kept alive, so that ids stay apart
        rates.append(optimizer.param_groups[0]["lr"])
        made.append(list(optimizers).index(id(optimizer)))

    made: list[int] = []
    handle = register_optimizer_step_pre_hook(watch)
    try:
        images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 2, 2).contiguous()
        train(
            Lines(), images, torch.tensor([0, 1]), recipe, coordinates=("rates",), mean=(0.5,), std=(0.5,), mirror=False
        )
    finally:
        handle.remove()
    return rates, made


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_epoch_runs_at_the_rate_of_the_source(name: str) -> None:
    fixed = definition.load(discover(), name)
    for dataset, classes in CLASSES.items():
        for ipc in (1, 50):
            cell = fixed.recipe(dataset=dataset, ipc=ipc, student=fixed.student(dataset), classes=classes)
            rates, _ = observed(cell.epochs, cell.optimizer, cell.schedule)
            formula = published(name, dataset)
            assert rates == pytest.approx([formula(e, cell.epochs) for e in range(cell.epochs)], rel=1e-9, abs=1e-15)


def ends(name: str, dataset: str) -> list[float]:
    fixed = definition.load(discover(), name)
    cell = fixed.recipe(dataset=dataset, ipc=10, student="torchvision:resnet18", classes=CLASSES[dataset])
    return [rate / cell.optimizer.lr for rate in observed(cell.epochs, cell.optimizer, cell.schedule)[0]]


def test_the_last_epochs_run_at_the_published_shares() -> None:
    assert ends("standard-soft-v1", "imagenet-1k")[-1] == pytest.approx(2.7e-5, rel=0.02)
    assert ends("rded-v1", "imagenet-1k")[-1] == pytest.approx(0.503, abs=5e-4)
    assert ends("edc-v1", "imagenet-1k")[-1] == pytest.approx(0.503, abs=5e-4)
    jump = ends("edc-ssrs-v1", "imagenet-1k")
    assert jump[250] == pytest.approx(0.629, abs=5e-4)
    assert jump[251] == pytest.approx(0.103, abs=5e-4)


def test_dc_dsa_and_dc_bench_go_on_with_a_new_optimiser_and_no_other_protocol_does() -> None:
    renewed = {"dc-bench-v1": [152, 149], "dc-v1": [152, 149], "dsa-v1": [502, 499]}  # epochs of each optimiser
    for name in PUBLISHED:
        cell = definition.load(discover(), name).recipe(dataset="digits", ipc=1, student="convnet", classes=10)
        _, made = observed(cell.epochs, cell.optimizer, cell.schedule)
        assert made == [number for number, epochs in enumerate(renewed.get(name, [300])) for _ in range(epochs)]
