"""Random images with soft labels: what an expert that was stopped early says of each image."""

from __future__ import annotations

import numpy as np
import torch

from bench.api import Condensed, Context, Train
from methods._quota import class_members

NAME = "random-soft"
CITATION = "Qin, Deng, Alvarez-Melis, A Label is Worth a Thousand Images in Dataset Distillation, NeurIPS 2024."

_SMALLEST = 2.0**-24  # below it, probabilities are stored as 0; the logarithm takes them for that number


def synthesize(train: Train, ipc: int, ctx: Context, *, epochs: int = 10) -> Condensed:
    """Draw `ipc` images of every class, and label them with an expert of so many epochs.

    The expert is the network whose training dynamics the data set has a recipe for. Its labels are those of the image
    as it is, not augmented. Where students learn from class labels, this is `random` with other draws.

    Deviations: the paper chooses the expert's epoch for every data set and ipc; here it is a parameter.

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives generators, and the expert's probabilities of the whole training split.
        epochs: after which the expert is asked, at least 1.

    Returns:
        Condensed with uint8 images [num_classes * ipc, channels, size, size], class after class, and the logarithms of
        the expert's probabilities, float32.

    Raises:
        ValueError: a class has fewer than `ipc` images, or `epochs` is below 1.
    """
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; it must be at least 1")
    picks = [ctx.numpy("draw", label).choice(own, ipc, replace=False) for label, own in class_members(train, ipc)]
    indices = np.concatenate(picks)
    probabilities = np.asarray(ctx.dynamics(epochs)[epochs - 1, indices], dtype=np.float32)
    return Condensed(
        images=train.images(indices),
        labels=torch.from_numpy(train.labels[indices]),
        indices=indices,
        soft_labels=torch.from_numpy(np.log(np.maximum(probabilities, np.float32(_SMALLEST)))),
    )
