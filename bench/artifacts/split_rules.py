"""What must hold of a data set before anything is trained on it. A message names data set, rule and file."""

from __future__ import annotations

from collections import Counter

import numpy as np

from bench.api import Dataset, ImageSource
from bench.errors import PluginError


def check_class_names(dataset: Dataset, name: str, where: str) -> None:
    """One name for each class, and no name twice. Raises PluginError."""
    names = dataset.class_names
    if names and len(names) != dataset.num_classes:
        raise PluginError(
            f"dataset '{name}': class_names has {len(names)} names for {dataset.num_classes} classes ({where})."
        )
    if twice := [each for each, count in Counter(names).items() if count > 1]:
        raise PluginError(f"dataset '{name}': {names.count(twice[0])} classes are named '{twice[0]}' ({where}).")


def check_split(source: ImageSource, dataset: Dataset, what: str, where: str) -> None:
    """Labels are whole numbers, one for each image, and name classes. Raises PluginError.

    Args:
        source: the split.
        dataset: that it belongs to.
        what: how a message names the split.
        where: the file or folder it comes from.
    """
    labels, last = np.asarray(source.labels), dataset.num_classes - 1
    if labels.shape != (len(source),) or not np.issubdtype(labels.dtype, np.integer):
        raise PluginError(
            f"{what}: labels must be {len(source)} whole numbers; they are {labels.dtype} {list(labels.shape)} "
            f"({where})."
        )
    outside = np.flatnonzero((labels < 0) | (labels > last))
    if len(outside):
        raise PluginError(
            f"{what}: labels must lie in 0..{last}, and {len(outside):,} of {len(labels):,} do not: the first is image "
            f"{outside[0]} with label {labels[outside[0]]} ({where})."
        )


def check_classes(labels: np.ndarray, dataset: Dataset, what: str, where: str) -> None:
    """Every class has test images: else accuracy says nothing of it. In the training split a class may lack images; a
    method refuses what it cannot fill. Raises PluginError."""
    empty = np.flatnonzero(np.bincount(labels, minlength=dataset.num_classes) == 0)
    if len(empty):
        named = f" ({dataset.class_names[empty[0]]})" if dataset.class_names else ""
        raise PluginError(
            f"{what}: every class must have images, and {len(empty):,} of {dataset.num_classes:,} have none: the first "
            f"is class {empty[0]}{named} ({where})."
        )


def check_images(images: np.ndarray, dataset: Dataset, what: str, where: str) -> None:
    """What a source's `read` gave has the size that was announced. Raises PluginError."""
    _check_side(images, dataset, dataset.source_size, what, where)


def check_test_images(images: np.ndarray, dataset: Dataset, what: str, where: str) -> None:
    """Test images may be of `size` already: evaluation resizes a photograph once. Raises PluginError."""
    side = dataset.size if images.shape[-1] == dataset.size else dataset.source_size
    _check_side(images, dataset, side, what, where)


def _check_side(images: np.ndarray, dataset: Dataset, side: int, what: str, where: str) -> None:
    if images.dtype != np.uint8 or images.shape[1:] != (dataset.channels, side, side):
        raise PluginError(
            f"{what}: images must be square, uint8, {dataset.channels}x{side}x{side} (channels and source_size as "
            f"announced); they are {images.dtype}, {'x'.join(map(str, images.shape[1:]))} ({where})."
        )
