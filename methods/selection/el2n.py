"""The easiest (or hardest) images of each class by EL2N, summed over the first epochs of training."""

from __future__ import annotations

from typing import Literal

import numpy as np

from bench.api import Context, Train
from methods._el2n import el2n_scores
from methods._quota import class_members

CITATION = (
    "Paul, Ganguli, Dziugaite, Deep Learning on a Data Diet, NeurIPS 2021 (the score); summed over 10 epochs of one "
    "run as in Zheng et al., Coverage-centric Coreset Selection, ICLR 2023."
)
PUBLISHED = {"imagenet1k": {"epochs": 10, "end": "easy"}}


def select(
    train: Train, ipc: int, ctx: Context, *, epochs: int = 10, end: Literal["easy", "hard"] = "easy"
) -> np.ndarray:
    """Take the `ipc` images of every class at one end of the score. Deterministic: ties go to the lowest index.

    Deviations: the dynamics are those of one run, logged on the images as they are after each epoch. Paul et al. take
    the mean over networks at one epoch; the code of Zheng et al. logs augmented images, in training mode.

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives the training dynamics.
        epochs: first epochs of training over which the score is summed; at least 1.
        end: "easy" takes the lowest scores, "hard" the highest.

    Returns:
        int64 [num_classes * ipc], unique, class after class, most extreme score first.

    Raises:
        ValueError: an argument is out of range, or a class has fewer than `ipc` images.
    """
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; it must be at least 1")
    if end not in ("easy", "hard"):
        raise ValueError(f'end is {end!r}; it must be "easy" or "hard"')
    groups = list(class_members(train, ipc))
    scores = el2n_scores(ctx.dynamics_scores(epochs))
    if end == "hard":
        scores = -scores
    return np.concatenate([own[np.argsort(scores[own], kind="stable")[:ipc]] for _, own in groups])


def scores(train: Train, ctx: Context, *, epochs: int, **_: object) -> np.ndarray:
    """What `select` ranks by, float64 [N]: low is easy. `condensebench probe --scores` shows it."""
    return el2n_scores(ctx.dynamics_scores(epochs))
