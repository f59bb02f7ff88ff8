"""The easiest (or hardest) images of each class by EL2N, summed over the first epochs of training."""

from __future__ import annotations

from typing import Literal

import numpy as np

from bench.api import Context, Train
from methods._quota import class_members

CITATION = (
    "Paul, Ganguli, Dziugaite, Deep Learning on a Data Diet, NeurIPS 2021 (the score); summed over 10 epochs of one "
    "run as in Zheng et al., Coverage-centric Coreset Selection, ICLR 2023."
)
PUBLISHED = {"imagenet1k": {"epochs": 10, "end": "easy"}}

_CHUNK_VALUES = 1 << 21  # probabilities that are held in float64 at once (16 MiB)


def el2n_scores(dynamics: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Sum over epochs of ||probabilities - one-hot label||_2, float64 [N]; low is easy, at most sqrt(2) per epoch.

    Args:
        dynamics: [epochs, N, C] class probabilities, any float type; may be memory-mapped: it is read in chunks.
        labels: int64 [N].

    Raises:
        ValueError: a probability is NaN or infinite.
    """
    epochs, count, classes = dynamics.shape
    step = max(1, _CHUNK_VALUES // classes)
    scores = np.zeros(count)
    for start in range(0, count, step):
        stop = min(start + step, count)
        rows, own = np.arange(stop - start), labels[start:stop]
        for epoch in range(epochs):
            error = dynamics[epoch, start:stop].astype(np.float64)
            error[rows, own] -= 1.0
            scores[start:stop] += np.sqrt(np.einsum("nc,nc->n", error, error))
    if not np.isfinite(scores).all():
        raise ValueError(f"the training dynamics of image {int(np.argmin(np.isfinite(scores)))} are not finite")
    return scores


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
    scores = el2n_scores(ctx.dynamics(epochs), train.labels)
    if end == "hard":
        scores = -scores
    return np.concatenate([own[np.argsort(scores[own], kind="stable")[:ipc]] for _, own in groups])
