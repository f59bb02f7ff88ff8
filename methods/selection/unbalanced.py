"""The easiest (or hardest) images of all classes together by a score of training, or images by lot: classes differ."""

from __future__ import annotations

from typing import Literal

import numpy as np

from bench.api import Context, Train
from methods._dynamics import forgetting, margins
from methods._el2n import el2n_scores
from methods._order import one_of

CITATION = (
    "L. Xiao et al., Rethinking Large-scale Dataset Compression: Shifting Focus From Labels to Images, arXiv "
    "2502.06434, table 6 (columns without balance); scores of Paul et al. (EL2N), Pleiss et al. (AUM) and Toneva et al."
)
PUBLISHED = {
    "imagenet1k el2n": {"score": "el2n", "epochs": 10},
    "imagenet1k aum": {"score": "aum", "epochs": 90},
    "imagenet1k forgetting": {"score": "forgetting", "epochs": 60},
}
UNBALANCED = True
SCORES = ("el2n", "aum", "forgetting", "random")


def scores(train: Train, ctx: Context, *, score: str, epochs: int, **_: object) -> np.ndarray:
    """What `select` ranks by, float64 [N]: low is easy.

    Args:
        train: the training split.
        ctx: gives the training dynamics, and the lots.
        score: of SCORES. Events of forgetting are whole numbers: the lot decides between equal ones.
        epochs: of the dynamics; not read by "random".
    """
    if score == "el2n":
        return el2n_scores(ctx.dynamics_scores(epochs))
    if score == "aum":
        return -margins(ctx.dynamics_scores(epochs), "probability")
    lot = ctx.numpy("lot").random(len(train))
    if score == "random":
        return lot
    events, learnt = forgetting(ctx.dynamics_scores(epochs))
    return np.where(learnt, events, epochs) + lot


def select(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    score: Literal["el2n", "aum", "forgetting", "random"] = "el2n",
    end: Literal["easy", "hard"] = "easy",
    epochs: int = 10,
) -> np.ndarray:
    """Take `ipc` times as many images as there are classes, from one end of the score, whatever their classes.

    A class may get no image at all. Under protocols that want `ipc` images of every class it has no result. By EL2N and
    AUM it is deterministic: ties go to the lowest index. Deviations: the dynamics are those of one run, logged on the
    images as they are after each epoch; an image that was never right counts as forgotten most often (Toneva et al.).

    Args:
        train: the training split.
        ipc: images per class on the mean; at least 1.
        ctx: gives the training dynamics, and the lots.
        score: "el2n" (the sum over epochs), "aum" (the margin on probabilities), "forgetting" (events) or "random".
        end: "easy" takes the lowest scores, "hard" the highest.
        epochs: first epochs of training that the score reads; at least 1.

    Returns:
        int64 [num_classes * ipc], unique, most extreme score first.

    Raises:
        ValueError: an argument is out of range, a score is not finite, or the training split has too few images.
    """
    one_of("score", score, *SCORES)
    one_of("end", end, "easy", "hard")
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; it must be at least 1")
    if ipc < 1:
        raise ValueError(f"ipc is {ipc}; it must be at least 1")
    if (count := ipc * train.num_classes) > len(train):
        raise ValueError(f"ipc {ipc} of {train.num_classes} classes are {count} images; there are {len(train)}")
    keys = scores(train, ctx, score=score, epochs=epochs)
    return np.argsort(keys if end == "easy" else -keys, kind="stable")[:count].astype(np.int64)
