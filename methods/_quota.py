"""Class quotas: the images of each class, refused with a clear message where a class cannot fill its quota."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.api import Train


def class_members(train: Train, ipc: int, need: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (label, int64 indices, ascending) of every class, in the order of the labels.

    Args:
        train: the training split.
        ipc: images per class that were asked for; at least 1.
        need: images that a class must have; None stands for `ipc`.

    Raises:
        ValueError: `ipc` is below 1, or a class has too few images (all are looked at before the first is yielded).
    """
    if ipc < 1:
        raise ValueError(f"ipc is {ipc}; it must be at least 1")
    least = ipc if need is None else need
    groups = [(label, train.class_indices(label)) for label in range(train.num_classes)]
    for label, indices in groups:
        if len(indices) < least:
            raise ValueError(f"class {label} has {len(indices)} images, too few for ipc {ipc} (it needs {least})")
    yield from groups
