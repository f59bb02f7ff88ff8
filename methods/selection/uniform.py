"""Images drawn uniformly without replacement, the same number from each class."""

from __future__ import annotations

import numpy as np

from bench.api import Context, Train
from methods._quota import class_members

NAME = "random"
CITATION = "The baseline of every coreset and condensation paper, e.g. Guo et al., DeepCore, DEXA 2022."


def select(train: Train, ipc: int, ctx: Context) -> np.ndarray:
    """Draw `ipc` images of every class.

    Returns:
        int64 [num_classes * ipc], unique, class after class.

    Raises:
        ValueError: a class has fewer than `ipc` images.
    """
    rng = ctx.numpy("draw")
    return np.concatenate([rng.choice(own, ipc, replace=False) for _, own in class_members(train, ipc)])
