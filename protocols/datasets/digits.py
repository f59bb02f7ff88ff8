"""Handwritten digits, 8x8 grey, 10 classes: 1,197 train and 600 test images (scikit-learn)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from bench.api import Dataset
from protocols.datasets._arrays import ArraySource, stratified_split

CITATION = "E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits. UCI Machine Learning Repository, 1998."
ARITHMETIC = "portable"


def load(root: Path) -> Dataset:
    """The data set. Nothing is written: scikit-learn carries the images.

    Args:
        root: cache folder, not used.
    """
    return Dataset(
        num_classes=10,
        channels=1,
        size=8,
        source_size=8,
        mirror=False,
        mean=(0.3052,),
        std=(0.3756,),
        train=lambda: _splits()[0],
        test=lambda: _splits()[1],
        class_names=tuple("0123456789"),
    )


@lru_cache(maxsize=1)
def _splits() -> tuple[ArraySource, ArraySource]:
    from sklearn.datasets import load_digits

    data = load_digits()
    # Values 0..16, ink high; 255/16 maps them to whole levels after rounding.
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = data.target.astype(np.int64)
    train, test = stratified_split(images, labels, 600, "dataset", "digits", "split")
    return ArraySource(images[train], labels[train]), ArraySource(images[test], labels[test])
