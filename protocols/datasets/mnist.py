"""MNIST, 28x28 grey, 10 classes: 60,000 train and 10,000 test images."""

from __future__ import annotations

from pathlib import Path

from bench.api import Dataset
from protocols.datasets import _idx
from protocols.datasets._files import Look

CITATION = (
    "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-based learning applied to document recognition. "
    "Proceedings of the IEEE 86(11), 1998."
)


def load(root: Path) -> Dataset:
    """The data set, read from its four idx files (`condensebench data` says where).

    Args:
        root: cache folder, not used.
    """
    return _idx.load("mnist", Look(tuple("0123456789"), 1, 28, False, (0.1307,), (0.3081,)))
