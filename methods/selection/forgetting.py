"""The least (or most) often forgotten images of each class."""

from __future__ import annotations

from typing import Literal

import numpy as np

from bench.api import Context, Train
from methods._dynamics import forgetting
from methods._order import one_of
from methods._quota import class_members

CITATION = "Toneva et al., An Empirical Study of Example Forgetting during Deep Neural Network Learning, ICLR 2019."
PUBLISHED = {"cifar": {"epochs": 200}, "imagenet1k": {"epochs": 60, "never": "easiest"}}


def select(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    epochs: int = 30,
    never: Literal["hardest", "easiest"] = "hardest",
    end: Literal["easy", "hard"] = "easy",
) -> np.ndarray:
    """Take the images of every class that went from right to wrong least (or most) often. Ties are drawn by lot.

    Counts are whole numbers and most images share the count 0, so the lot decides much: it is a draw of the context,
    another one in every replicate and class. Deviations: an image is looked at as it is, once after each epoch (the
    published runs look at its augmented copy within the epoch), and starts as wrong; the ends are those of each class
    (the paper orders all images together).

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives the training dynamics and the lots.
        epochs: epochs that are watched, from the first; at least 1.
        never: what an image counts as that was never right. "hardest": forgotten more often than any other (Toneva
            et al. set it to infinity). "easiest": never forgotten, as in the code of Zheng et al.
        end: "easy" takes the fewest events, "hard" the most.

    Returns:
        int64 [num_classes * ipc], unique, class after class, most extreme count first.

    Raises:
        ValueError: an argument is out of range, a class has too few images, or a probability is not finite.
    """
    one_of("never", never, "hardest", "easiest")
    one_of("end", end, "easy", "hard")
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; it must be at least 1")
    groups = list(class_members(train, ipc))
    events, learnt = forgetting(ctx.dynamics_scores(epochs))
    if never == "hardest":
        events[~learnt] = epochs
    keys = events if end == "easy" else -events
    picks = []
    for label, own in groups:
        shuffled = ctx.numpy("ties", label).permutation(own)
        picks.append(shuffled[np.argsort(keys[shuffled], kind="stable")[:ipc]])
    return np.concatenate(picks)


def scores(train: Train, ctx: Context, *, epochs: int, never: str, **_: object) -> np.ndarray:
    """The events that `select` ranks by, float64 [N]: low is easy."""
    events, learnt = forgetting(ctx.dynamics_scores(epochs))
    return np.where(learnt | (never == "easiest"), events, epochs).astype(np.float64)
