"""CIFAR-10, 32x32 RGB, 10 classes: 50,000 train and 10,000 test images."""

from __future__ import annotations

from pathlib import Path

from bench.api import Dataset
from protocols.datasets import _cifar
from protocols.datasets._files import Look

CITATION = "A. Krizhevsky: Learning Multiple Layers of Features from Tiny Images. University of Toronto, 2009."
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def load(root: Path) -> Dataset:
    """The data set, read from its binary or its Python version (`condensebench data` says where); both hold the same.

    Args:
        root: cache folder, not used.
    """
    look = Look(CLASSES, 3, 32, True, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
    return _cifar.load("cifar10", look, b"labels", label_bytes=1)
