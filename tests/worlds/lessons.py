"""A lesson small enough for tests of the training loop: images, a network, stored labels, recipes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.protocol.recipe import Augment, Loss, Optimizer, Recipe
from bench.training.feed import Feed, Teacher
from bench.training.loop import TrainLog, train
from bench.views.parameters import View, Views

MEAN, STD, N, SIZE, CLASSES = (0.5,), (0.25,), 23, 8, 3
CROP_MIX = Augment(crop_scale=(0.5, 1.0), mix="cutmix")
# For two trainings that agree up to rounding. The bias before batch norm has no gradient but rounding; Adam takes a
# whole step by its sign, so that another order of sums, another processor, moves that bias by .004 in three epochs.
SGD = Optimizer(name="sgd", lr=0.1, momentum=0.9)


def task(n: int = N, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise with a bright row that tells the class."""
    labels = torch.arange(n) % CLASSES
    images = torch.randint(0, 120, (n, 1, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    for image, label in zip(images, labels, strict=True):
        image[0, 1 + 2 * int(label)] = 250
    return images, labels


def network(dropout: float = 0.0, norm: bool = True, seed: int = 0) -> nn.Sequential:
    """One convolution, batch norm if wanted, one linear layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.Conv2d(1, 8, 3, padding=1)]
        layers += [nn.BatchNorm2d(8)] if norm else []
        layers += [nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Dropout(dropout)]
        return nn.Sequential(*layers, nn.Linear(8 * (SIZE // 2) ** 2, CLASSES))


class Stored:
    """A label reader over a table; remembers what was asked of it."""

    def __init__(self, views: Sequence[View], logits: torch.Tensor, available: Sequence[int] | None = None) -> None:
        self.views, self.logits = views, logits
        self.available = np.arange(len(views)) if available is None else np.asarray(available)
        self.asked: list[list[int]] = []

    def rows(self, views: Sequence[int]) -> torch.Tensor:
        self.asked.append(list(views))
        return self.logits[:, list(views)]


def stored(k: int = 5, available: Sequence[int] | None = None, augment: Augment = CROP_MIX, batch: int = 5) -> Stored:
    """Random logits for k views of `task()`."""
    views = Views(augment, N, SIZE, mirror=False, batch=batch, seed=4, count=k)
    return Stored(views, torch.randn(N, k, CLASSES, generator=torch.Generator().manual_seed(1)), available)


def hard(epochs: int = 2, **more: Any) -> Recipe:
    """Class labels."""
    return Recipe(**{"labels": "hard", "epochs": epochs, "batch": 5, **more})


def soft(epochs: int = 2, augment: Augment = CROP_MIX, **more: Any) -> Recipe:
    """Stored labels, KL at T = 4, unless told otherwise."""
    loss = Loss(name="kl", temperature=4.0)
    return Recipe(
        **{"labels": "stored", "views": 5, "epochs": epochs, "batch": 5, "augment": augment, "loss": loss} | more
    )


def online(epochs: int = 2, **more: Any) -> Recipe:
    """A teacher that answers while the student trains; else as `soft`."""
    return soft(epochs, **{"labels": "online", "views": 0, **more})


def run(student: nn.Module, recipe: Recipe, *, replicate: int = 0, data: Any = None, **more: Any) -> TrainLog:
    """`train` on `task()`, named by its replicate."""
    images, labels = data or task()
    named = {"coordinates": ("story", replicate), "mean": MEAN, "std": STD, "mirror": False}
    return train(student, images, labels, recipe, **named, **more)


def feed(
    recipe: Recipe,
    reader: Stored | None = None,
    replicate: int = 0,
    block_bytes: int = 2**20,
    teacher: Teacher | None = None,
    data: Any = None,
) -> Feed:
    """The batches that `run` trains on."""
    images, labels = data or task()
    names = {"coordinates": ("story", replicate), "mean": MEAN, "std": STD, "mirror": False, "block_bytes": block_bytes}
    return Feed(images, labels, recipe, device=torch.device("cpu"), reader=reader, teacher=teacher, **names)


def weights(student: nn.Module) -> list[torch.Tensor]:
    """Copies of parameters and buffers."""
    return [value.clone() for value in student.state_dict().values()]


def same(left: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> bool:
    """Whether all tensors agree to the bit."""
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def close(left: Sequence[torch.Tensor], right: Sequence[torch.Tensor], atol: float = 1e-6) -> bool:
    """Whether all tensors agree up to rounding."""
    return all(torch.allclose(a, b, atol=atol) for a, b in zip(left, right, strict=True))
