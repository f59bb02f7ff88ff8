"""Tiny data sets by hand, on which every method is checked: `load(root, *, world=...)`, a data set as any other.

The pixels are made of whole numbers and a seeded generator, so they are the same on every machine. No project data set
is opened: a check costs milliseconds, and whatever a plugin reads of the real ones can be told apart.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from bench.api import Dataset
from bench.seeds import numpy_generator

WORLDS = ("plain", "colour", "one-class", "gap", "duplicates", "equal", "relabelled")
SIZES = (7, 9, 8)  # images of each class
RELABELLED = (2, 0, 1)  # what the classes 0, 1, 2 of `plain` are called in `relabelled`
SIZE = 8  # pixels


class Source:
    """A `bench.api.ImageSource` in one array [N, channels, side, side]."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self._images = images
        self.labels = labels
        self.labels.flags.writeable = False

    def __len__(self) -> int:
        return len(self._images)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Copies, uint8 [n, channels, side, side]."""
        return np.array(self._images[np.asarray(indices, dtype=np.int64)])

    def digest(self) -> str:
        """Hex sha256 of what the arrays hold now: a changed pixel shows."""
        return hashlib.sha256(self._images.tobytes() + self.labels.astype("<i8").tobytes()).hexdigest()


def load(root: Path, *, world: str = "plain") -> Dataset:  # noqa: ARG001 (every `load` is given a cache folder)
    """One of `WORLDS`. All have three classes of 7 to 9 grey images, sources of 16 pixels, but for what a name says.

    Args:
        root: cache folder, not used.
        world: "plain"; "colour" (three channels, mirrored, sources of 8 pixels); "one-class"; "gap" (class 1 has no
            images); "duplicates" (every image twice); "equal" (one image throughout); "relabelled" (`plain` with other
            class numbers).
    """
    images, labels = _draw("train", channels=3 if world == "colour" else 1)
    if world == "colour":
        images = np.ascontiguousarray(images[:, :, ::2, ::2])
    elif world == "one-class":
        images, labels = images[labels == 1], labels[labels == 1] - 1
    elif world == "gap":
        images, labels = images[labels != 1], labels[labels != 1]
    elif world == "duplicates":
        images, labels = images.repeat(2, axis=0), labels.repeat(2)
    elif world == "equal":
        images = images[:1].repeat(len(images), axis=0)
    elif world == "relabelled":
        labels = np.array(RELABELLED)[labels]
    channels = images.shape[1]
    source = Source(images, labels)
    return Dataset(
        num_classes=1 if world == "one-class" else len(SIZES),
        channels=channels,
        size=SIZE,
        source_size=images.shape[-1],
        mirror=world == "colour",
        mean=(0.4,) * channels,
        std=(0.3,) * channels,
        train=lambda: source,
        test=open_test,
    )


def open_test() -> Source:
    """The test split of every world. Nothing in the checks opens it: a call comes from a plugin."""
    return Source(*_draw("test", channels=1))


def _draw(split: str, *, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """(images uint8 [N, channels, 16, 16], labels int64 [N]): a bar per class, shifted and noisy, classes mixed up."""
    rng = numpy_generator("checks", "world", split)
    labels = rng.permutation(np.repeat(np.arange(len(SIZES)), SIZES))
    side = 2 * SIZE
    images = rng.integers(0, 90, (len(labels), channels, side, side))
    for image, label, shift in zip(images, labels, rng.integers(-2, 3, len(labels)), strict=True):
        start = 4 * label + 2 + shift
        image[:, start : start + 4] += 140
        image[:, :, start : start + 3] += 25 * label
    return images.clip(0, 255).astype(np.uint8), labels
