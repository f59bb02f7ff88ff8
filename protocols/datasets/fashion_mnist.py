"""Fashion-MNIST, 28x28 grey, 10 classes: 60,000 train and 10,000 test images."""

from __future__ import annotations

from pathlib import Path

from bench.api import Dataset
from protocols.datasets import _idx
from protocols.datasets._files import Look

NAME = "fashion-mnist"
CITATION = (
    "H. Xiao, K. Rasul, R. Vollgraf: Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning "
    "Algorithms. arXiv 1708.07747, 2017."
)
CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip


def load(root: Path) -> Dataset:
    """The data set, read from its four idx files (`condensebench data` says where).

    Args:
        root: cache folder, not used.
    """
    # Mirrored clothes are clothes: DSA's and DM's published evaluation flips them.
    return _idx.load(NAME, Look(CLASSES, 1, 28, True, (0.2861,), (0.3530,)))
