"""Canaries: short training runs through the engine that `run` uses, on images and networks made here.

Nothing is read from a file: images are integer arithmetic, a student and two teachers are one convolution each. What
comes out moves when the code of losses, augmentation, schedules, seeds, labels or optimisers does, or torch under it.

The student computes in float64, so that what remains of the machine are the float32 rounding of the images and of the
losses that the engine reports, and the tolerances (bench/lock/lock_file.py) can be sharp.

Measured with torch 2.15 on one processor, over the 70 canaries of 16 protocols, on one and two threads, with kernels
for AVX-512 and for none of it: losses agree to 1e-4, test loss to 6e-7 and weights to 2e-7 of their value. Weight decay
0.02 instead of 0.01 (AdamW) moves the weights by 5e-5, a smallest crop of 0.09 instead of 0.08 the losses by 5e-2.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import NoReturn, cast

import numpy as np
import torch
from torch import nn

from bench.api import Dataset
from bench.labels.label_file import LabelFile
from bench.labels.learned import LearnedLabels
from bench.labels.making import label_views, teacher_logits
from bench.labels.reader import EncodedLabels
from bench.protocol.recipe import Recipe
from bench.seeds import seed
from bench.stages.points import Point, points
from bench.teachers.ensemble import Ensemble, Member, ensemble_of
from bench.training.feed import LabelReader
from bench.training.loop import evaluate, train
from bench.training.normalisation import statistics
from bench.training.slimming import slimmed

CLASSES, IMAGES, TEST_IMAGES = 3, 22, 32  # 22 images in batches of 8: the last one is short
SIZE = 12  # pixels, unless the patch grid asks for another
MEAN, STD = (0.5, 0.45, 0.4), (0.25, 0.2, 0.3)
SHARPNESS = 16.0  # of the teachers: logits of about -5 to 5

FINENESS = 8  # stored labels are whole multiples of 1/8


@dataclass(frozen=True)
class Outcome:
    """What a canary's run comes to."""

    losses: tuple[float, ...]  # of every epoch
    test_loss: float
    weights: float  # Euclidean norm of all parameters in the end


class _Network(nn.Module):
    """Convolution, batch norm, SiLU, pooling, linear: float32 in and out, float64 within.

    Not ReLU: at its kink the last bit of an activation can decide over a gradient.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed("canary", name))
            self.layers = nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1, bias=False),
                nn.BatchNorm2d(8),
                nn.SiLU(),
                nn.AdaptiveAvgPool2d(3),
                nn.Flatten(),
                nn.Linear(72, CLASSES),
            )
        self.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(x.double())
        return logits.float()


class _Teacher(_Network):
    """Its logits are whole numbers, so that what is rounded to float16 does not hang on the last bit of an image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(x.double())
        return (SHARPNESS * logits).round().float()


@contextmanager
def _one_thread() -> Iterator[None]:
    """More would only wait for each other over networks of this size."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def run(recipe: Recipe, teachers: int) -> Outcome:
    """Train the student by a short recipe (bench.protocol.miniature.short) on one thread, and test it.

    Args:
        recipe: of any label regime.
        teachers: how many are asked; more than two count as two.
    """
    size = _size(recipe)
    images, labels = _images(0, IMAGES, size)
    test_images, test_labels = _images(IMAGES, TEST_IMAGES, size)
    mean, std = statistics(recipe.normalisation, _dataset(size))
    members = [Member(_Teacher(f"teacher {k}").eval(), MEAN, STD) for k in range(min(teachers, 2))]
    ensemble = ensemble_of(members, recipe)
    losses: list[float] = []
    for point in points(recipe, CLASSES, ("canary",)):
        whole = _Network("student")
        student = whole if point.kept is None else slimmed(_scaled(whole), point.kept)
        rows = point.rows(labels.numpy())
        log = train(
            student,
            images[rows],
            labels[rows],
            recipe,
            coordinates=("canary", *point.name),
            mean=mean,
            std=std,
            mirror=True,
            reader=_reader(recipe, ensemble, images, point),
            teacher=ensemble.online(mean, std) if recipe.labels == "online" else None,
        )
        losses += log.losses
    tested = evaluate(student, test_images, test_labels, mean=mean, std=std)
    weights = torch.stack([p.detach().square().sum() for p in student.parameters()]).sum().sqrt()
    return Outcome(tuple(losses), tested.loss, float(weights))


def _size(recipe: Recipe) -> int:
    grid = recipe.augment.patch_grid
    return grid * -(-SIZE // grid)


def _images(first: int, count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 [count, 3, size, size] and int64 [count]: ramps whose slope tells the class, each at a place of its own."""
    n = torch.arange(first, first + count).view(-1, 1, 1, 1)
    channel, row, column = torch.meshgrid(torch.arange(3), torch.arange(size), torch.arange(size), indexing="ij")
    kind = n % CLASSES
    pixels = (7 + 5 * kind) * row + (3 + n % 4) * column * (1 + channel) + 29 * n + 40 * channel * kind
    return ((pixels + row * column * (n % 3)) % 256).to(torch.uint8), kind.flatten()


def _dataset(size: int) -> Dataset:
    def split() -> NoReturn:
        raise NotImplementedError("a canary's data set has no splits")

    return Dataset(CLASSES, 3, size, size, True, MEAN, STD, split, split)


def _scaled(network: _Network) -> _Network:
    """The network with scales of batch norm that are all different, in no order."""
    with torch.no_grad():
        for layer in network.layers:
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.copy_(1 + torch.arange(len(layer.weight)) * 3 % 8 / 8)
    return network


def _reader(recipe: Recipe, ensemble: Ensemble, images: torch.Tensor, point: Point) -> LabelReader | None:
    """Stored labels as `run` makes them, or labels of a method as training reads them."""
    if recipe.labels == "stored":
        return _stored(recipe, ensemble, images)
    if recipe.labels != "learned":
        return None
    rows = point.rows(np.arange(len(images)) % CLASSES)
    # Whole eighths, a row for each image.
    labels = ((np.arange(len(images))[:, None] * 5 + np.arange(CLASSES) * 7) % 33 - 16) / FINENESS
    coordinates = ("canary", *point.name)
    values = labels[rows].astype(np.float32)
    return LearnedLabels(values, recipe, size=images.shape[-1], mirror=True, coordinates=coordinates)


def _stored(recipe: Recipe, ensemble: Ensemble, images: torch.Tensor) -> EncodedLabels:
    """Labels as `run` makes them and as training reads them. In between they are rounded, see _Teacher."""
    n, size = len(images), images.shape[-1]
    views = label_views(recipe, n, protocol="canary", dataset="canary", size=size, mirror=True)
    logits = teacher_logits(ensemble, images, views, np.arange(n)).float()

    def decode(blob: bytes, rows: list[int]) -> torch.Tensor:
        return torch.from_numpy(np.frombuffer(blob, np.float32).reshape(n, -1, CLASSES)[:, rows]) / FINENESS

    file = LabelFile(views.to_bytes(), b"", ((logits * FINENESS).round().numpy().tobytes(),))
    return EncodedLabels(file, cast(ModuleType, SimpleNamespace(decode=decode)), n, "canary")


LIBRARY_NETWORKS = ("torchvision:resnet18", "timm:test_resnet")


def network(name: str) -> tuple[float, ...]:
    """Logits of a freshly initialised network in eval mode for two images of 32 px, one after the other."""
    from protocols.networks import build

    images, _ = _images(0, 2, 32)
    model = build(name, channels=3, size=32, num_classes=CLASSES, seed=seed("canary", name)).eval()
    with torch.inference_mode():
        return tuple(model((images / 255 - 0.5) / 0.25).double().flatten().tolist())
