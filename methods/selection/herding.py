"""Herding: images picked greedily so that the mean feature of the picks follows the mean feature of their class."""

from __future__ import annotations

import numpy as np

from bench.api import Context, Train
from methods._quota import class_members

CITATION = (
    "Welling, Herding Dynamical Weights to Learn, ICML 2009; as class-wise exemplars: Rebuffi et al., iCaRL, CVPR "
    "2017, algorithm 4."
)

_TIE = 1e-9  # gains closer than this share of the largest squared norm count as equal


def herd(features: np.ndarray, count: int) -> np.ndarray:
    """Pick `count` rows, each time the row z that minimises ||mean - (sum of the picks + z) / (t + 1)||.

    That is an argmin. DeepCore's code takes the argmax, which drives the picks away from the mean.

    Args:
        features: [n, d] of one class.
        count: rows to pick, at most n; no row is picked twice.

    Returns:
        int64 [count], in the order of picking; among equally good rows the lowest index wins.
    """
    rows = np.asarray(features, dtype=np.float64)
    square = np.einsum("nd,nd->n", rows, rows)
    mean = rows.mean(axis=0)
    tolerance = _TIE * max(float(square.max()), np.finfo(np.float64).tiny)
    taken = np.zeros(len(rows), dtype=bool)
    total = np.zeros_like(mean)
    picks = np.empty(count, dtype=np.int64)
    for turn in range(count):
        # (t + 1)^2 ||mean - (sum + z) / (t + 1)||^2 = ||w - z||^2 with w = (t + 1) mean - sum; ||w||^2 is left out.
        distance = square - 2.0 * (rows @ ((turn + 1) * mean - total))
        distance[taken] = np.inf
        pick = int(np.argmax(distance <= distance.min() + tolerance))  # the first one within the tolerance
        picks[turn] = pick
        taken[pick] = True
        total += rows[pick]
    return picks


def select(train: Train, ipc: int, ctx: Context, *, unit_norm: bool = False) -> np.ndarray:
    """Herd the teacher's features, class by class. Deterministic.

    Deviations: none of the rule; the features are the trained teacher's on images that are not augmented. DeepCore's
    code takes the farthest image where the published rule takes the nearest one.

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives the teacher's features.
        unit_norm: True scales every feature to length 1 first, as iCaRL does (a zero feature stays zero).

    Returns:
        int64 [num_classes * ipc], unique, class after class, in the order of picking.

    Raises:
        ValueError: a class has fewer than `ipc` images, or a feature is NaN or infinite.
    """
    groups = list(class_members(train, ipc))
    features = ctx.features()
    picks = []
    for _, own in groups:
        rows = np.asarray(features[own], dtype=np.float64)
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            raise ValueError(f"the feature of image {int(own[np.argmin(finite)])} is not finite")
        if unit_norm:
            length = np.linalg.norm(rows, axis=1, keepdims=True)
            rows = rows / np.where(length > 0, length, 1.0)
        picks.append(own[herd(rows, ipc)])
    return np.concatenate(picks)
