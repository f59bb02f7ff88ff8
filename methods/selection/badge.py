"""BADGE: images of each class whose last-layer gradients are large and far apart, drawn by the rule of k-means++."""

from __future__ import annotations

from typing import Literal

import numpy as np

from bench.api import Context, Train
from methods._lastlayer import Gradients, residuals
from methods._order import finite_rows, one_of
from methods._quota import class_members

CITATION = "Ash et al., Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds, ICLR 2020."


def spread(gradients: Gradients, count: int, rng: np.random.Generator) -> np.ndarray:
    """The longest gradient, then rows drawn in proportion to the squared distance to their nearest pick.

    Rows at distance 0 are drawn, by equal chance, only when all that are left are at distance 0.

    Args:
        gradients: n of them.
        count: rows to draw, at most n; none is drawn twice.
        rng: the draws.

    Returns:
        int64 [count], in the order of drawing. Time n (C + d) for each; memory n.
    """
    picks = np.empty(count, dtype=np.int64)
    free = np.ones(len(gradients), dtype=bool)
    nearest = np.full(len(gradients), np.inf)
    pick = int(np.argmax(gradients.square))
    for turn in range(count):
        picks[turn] = pick
        free[pick] = False
        if turn + 1 == count:
            break
        np.minimum(nearest, gradients.distances(picks[turn : turn + 1])[:, 0], out=nearest)
        weight = np.where(free, nearest, 0.0)
        if weight.max() <= 0.0:
            weight = free.astype(np.float64)
        # Scaled by the largest first: the sum of tiny squares must not vanish.
        weight /= weight.max()
        pick = int(rng.choice(len(weight), p=weight / weight.sum()))
    return picks


def select(train: Train, ipc: int, ctx: Context, *, label: Literal["predicted", "given"] = "predicted") -> np.ndarray:
    """k-means++ seeding on the teacher's last-layer gradients (p - y) (x) h, class by class.

    As in the authors' code the bias is left out, and the first pick is the longest gradient rather than a draw: at one
    image per class nothing is drawn. Deviations: the published method draws over all classes, round after round of
    labelling; here each class has its quota, and the gradients are the trained teacher's, once.

    Cost on ImageNet's size (1.28M images, 512 features, 1,000 classes), extrapolated from one class on one core: 25 s
    at 10 images per class, 40 s at 50.

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives the teacher's features and logits, and the draws.
        label: y of the gradients: "predicted" is the teacher's most probable class, as published, where labels are not
            known; "given" is the image's label.

    Returns:
        int64 [num_classes * ipc], unique, class after class, in the order of drawing.

    Raises:
        ValueError: a word is unknown, a class has too few images, or a feature or logit is not finite.
    """
    one_of("label", label, "predicted", "given")
    groups = list(class_members(train, ipc))
    features, logits = ctx.features(), ctx.logits()
    picks = []
    for number, own in groups:
        rows = finite_rows(logits[own], own, "a logit")
        targets = rows.argmax(axis=1) if label == "predicted" else np.full(len(own), number)
        gradients = Gradients.of(residuals(rows, targets), finite_rows(features[own], own, "the feature"), bias=False)
        picks.append(own[spread(gradients, ipc, ctx.numpy("spread", number))])
    return np.concatenate(picks)
