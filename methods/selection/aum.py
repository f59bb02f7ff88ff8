"""The easiest (or hardest) images of each class by the area under the margin of training."""

from __future__ import annotations

from typing import Literal

import numpy as np

from bench.api import Context, Train
from methods._dynamics import margins
from methods._order import lowest, one_of
from methods._quota import class_members

CITATION = (
    "Pleiss et al., Identifying Mislabeled Data using the Area Under the Margin Ranking, NeurIPS 2020; on "
    "probabilities as in Zheng et al., Coverage-centric Coreset Selection, ICLR 2023."
)
# ImageNet-1K: Rethinking Large-scale Dataset Compression, D.6; Zheng et al. have 60 epochs.
PUBLISHED = {"cifar": {"epochs": 200, "space": "probability"}, "imagenet1k": {"epochs": 90, "space": "probability"}}


def select(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    epochs: int = 30,
    space: Literal["probability", "logit"] = "probability",
    end: Literal["easy", "hard"] = "easy",
) -> np.ndarray:
    """Take the `ipc` images of every class at one end of the score. Deterministic: ties go to the lowest index.

    Deviations: the dynamics are logged on the images as they are after each epoch; the published code logs augmented
    images, in training mode. 30 epochs are what the small data sets need; published runs are in `PUBLISHED`.

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives the training dynamics.
        epochs: epochs over which the margin is taken, from the first; at least 1.
        space: "probability" sums p_label - max p_other (Zheng et al.); "logit" averages z_label - max z_other (Pleiss).
        end: "easy" takes the largest margins, "hard" the smallest.

    Returns:
        int64 [num_classes * ipc], unique, class after class, most extreme score first.

    Raises:
        ValueError: an argument is out of range, a class has too few images, or a probability is not finite.
    """
    one_of("space", space, "probability", "logit")
    one_of("end", end, "easy", "hard")
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; it must be at least 1")
    groups = list(class_members(train, ipc))
    return lowest(margins(ctx.dynamics_scores(epochs), space), groups, ipc, highest=end == "easy")


def scores(
    train: Train, ctx: Context, *, epochs: int, space: Literal["probability", "logit"], **_: object
) -> np.ndarray:
    """What `select` ranks by, with its sign turned, float64 [N]: low is easy."""
    return -margins(ctx.dynamics_scores(epochs), space)
