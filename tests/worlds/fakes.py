"""A small real world for tests of methods: scikit-learn's digits behind the contracts of bench/api.py.

The teacher is a convolutional network with batch norm, trained in seconds, once per process. Nothing here is read by
the product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from bench.api import DynamicsScores, Stepped
from bench.seeds import Coordinate, numpy_generator, torch_generator
from bench.stages.steps import steps
from bench.teachers.dynamics import scores_of
from bench.training.course import Course


def scored(dynamics: np.ndarray, labels: np.ndarray) -> DynamicsScores:
    """The scores of class probabilities [epochs, N, C], as the harness takes them."""
    epochs = [scores_of(each, labels) for each in dynamics]
    return DynamicsScores(**{name: np.stack([each[name] for each in epochs]) for name in epochs[0]})


class FakeTrain:
    """Train over arrays: `sources` uint8 [N, c, S, S]; `images` are their means over squares of S / size pixels."""

    def __init__(self, sources: np.ndarray, labels: np.ndarray, *, size: int | None = None, mirror: bool = False):
        self._sources = torch.as_tensor(np.ascontiguousarray(sources))
        self.source_size = self._sources.shape[-1]
        self.size = size or self.source_size
        self.channels = self._sources.shape[1]
        self.labels = np.array(labels, dtype=np.int64)
        self.labels.flags.writeable = False
        self.num_classes = int(self.labels.max()) + 1
        self.mirror = mirror
        ratio = self.source_size // self.size
        self._images = (
            F.avg_pool2d(self._sources.float(), ratio).round().to(torch.uint8) if ratio > 1 else self._sources
        )

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, indices: Sequence[int] | np.ndarray) -> torch.Tensor:
        return self._images[torch.as_tensor(np.asarray(indices))]

    def sources(self, indices: Sequence[int] | np.ndarray) -> torch.Tensor:
        return self._sources[torch.as_tensor(np.asarray(indices))]

    def batches(self, batch: int = 256, indices: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        order = np.arange(len(self)) if indices is None else np.asarray(indices)
        for start in range(0, len(order), batch):
            own = order[start : start + batch]
            yield own, self.images(own)

    def class_indices(self, label: int) -> np.ndarray:
        return np.flatnonzero(self.labels == label)


class SmallNet(nn.Module):
    """Two convolutions with batch norm, global pooling, a linear head; any image size from 4 pixels on."""

    def __init__(self, channels: int, classes: int, width: int = 16):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Linear(8 * width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images))


class FakeContext:
    """Context over a FakeTrain; `asked` collects the names of the generators that a method asked for."""

    def __init__(self, train: FakeTrain, teacher: nn.Module, *, replicate: int = 0, scratch: Path = Path()):
        self.train = train
        self.teacher = teacher.eval()
        self.device = torch.device("cpu")
        self.scratch = scratch
        self.replicate = replicate
        self.asked: list[tuple[Coordinate, ...]] = []

    def teachers(self, choice: int | str) -> list[nn.Module]:
        """The teacher, and narrower networks that learnt the digits of the same size."""
        widths = (8, 6, 4)[: int(choice) - 1]
        return [self.teacher, *(trained_teacher(self.train.size, width=width) for width in widths)]

    def numpy(self, *name: str | int) -> np.random.Generator:
        self.asked.append(name)
        return numpy_generator("fake", self.replicate, *name)

    def torch(self, *name: str | int) -> torch.Generator:
        self.asked.append(name)
        return torch_generator("fake", self.replicate, *name)

    def steps(self, count: int, state: Mapping[str, Stepped]) -> Iterator[int]:
        """Kept in the scratch folder, where a test gave one of its own."""
        course = Course(folder=None if self.scratch == Path() else self.scratch / "steps", unit="step")
        return steps(course, count, state, dict, lambda _: None)

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        return (images.float() / 255.0 - 0.3) / 0.35

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([self.teacher(self.normalise(part)) for part in images.split(512)])

    def features(self) -> np.ndarray:
        body = self.teacher.body
        assert isinstance(body, nn.Module)
        with torch.no_grad():
            return np.concatenate([body(self.normalise(part)).numpy() for _, part in self.train.batches(512)])

    def logits(self) -> np.ndarray:
        return np.concatenate([self.predict(part).numpy() for _, part in self.train.batches(512)])

    def dynamics(self, epochs: int) -> np.ndarray:
        """Softmax regression on the pixels by full-batch gradient descent: one step is one epoch."""
        pixels = self.train.images(np.arange(len(self.train))).flatten(1).double().numpy() / 255.0
        target = np.eye(self.train.num_classes)[self.train.labels]
        weight = np.zeros((pixels.shape[1], self.train.num_classes))
        log = np.empty((epochs, *target.shape), dtype=np.float16)
        for epoch in range(epochs):
            logits = pixels @ weight
            share = np.exp(logits - logits.max(axis=1, keepdims=True))
            share /= share.sum(axis=1, keepdims=True)
            log[epoch] = share
            weight -= 0.5 * pixels.T @ (share - target) / len(pixels)
        return log

    def dynamics_scores(self, epochs: int) -> DynamicsScores:
        return scored(self.dynamics(epochs), self.train.labels)

    def soft_labels(self, images: torch.Tensor | None, k: int, **_views: float) -> np.ndarray:
        """Logits of k shifted copies (0, 1, -1, 2, ... pixels to the right); crops and mixing are left out."""
        own = self.train.images(np.arange(len(self.train))) if images is None else images
        shifts = [(turn + 1) // 2 * (1 if turn % 2 else -1) for turn in range(k)]
        return np.stack([self.predict(own.roll(shift, -1)).numpy() for shift in shifts], axis=1)


@lru_cache(maxsize=8)
def trained_teacher(size: int = 8, epochs: int = 12, width: int = 16) -> SmallNet:
    """A SmallNet that has learnt the first 1,200 digits at `size` pixels; frozen, eval mode."""
    train = digits(size=size)
    generator = torch_generator("fakes", "teacher", size)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = SmallNet(1, 10, width)
    context = FakeContext(train, net)
    images, labels = context.normalise(train.images(np.arange(len(train)))), torch.as_tensor(train.labels.copy())
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(train), generator=generator).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(images[rows]), labels[rows]).backward()
            optimizer.step()
    return net.eval().requires_grad_(False)


@lru_cache(maxsize=4)
def digits(size: int = 8) -> FakeTrain:
    """The first 1,200 digits, 8 pixels as sources, `size` pixels (8 or 4) as images."""
    data = load_digits()
    pixels = np.clip(data.images[:1200] * (255 / 16), 0, 255).astype(np.uint8)[:, None]
    return FakeTrain(pixels, data.target[:1200], size=size)


def digits_context(size: int = 8, replicate: int = 0) -> FakeContext:
    """A context over `digits(size)` with its trained teacher."""
    return FakeContext(digits(size), trained_teacher(size), replicate=replicate)
