"""CRAIG: images of each class whose gradients stand closest to those of all others (facility location)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

from bench.api import Context, Train
from methods._lastlayer import Gradients, residuals
from methods._order import finite_rows, one_of
from methods._quota import class_members

CITATION = (
    "Mirzasoleiman, Bilmes, Leskovec, Coresets for Data-efficient Training of Machine Learning Models, ICML 2020."
)

Columns = Callable[[np.ndarray], np.ndarray]  # rows int64 [b] -> distances float64 [n, b] of all n rows to them

_BLOCK = 128  # candidates whose distances are worked out at a time
_KEPT_VALUES = 1 << 23  # a class's distances are kept rather than worked out again up to this many (64 MiB)
_TIE = 1e-9  # sums and gains closer than this share of the best one count as equal


def facility_location(columns: Columns, count: int, picks: int) -> np.ndarray:
    """Greedy picks that reduce most the sum over all rows of the distance to the nearest pick. Exact, lazy.

    With similarity = a constant - distance this is the greedy for facility location: the constant weighs only on the
    first pick's gain, the same for every candidate. The first pick is the medoid.

    Args:
        columns: distances of all rows to some of them, at least 0; asked for at most 128 at a time.
        count: n.
        picks: at most n; no row is picked twice.

    Returns:
        int64 [picks], in the order of picking; among equally good rows the lowest index wins. Memory 128 n.
    """
    sums = np.concatenate([columns(block).sum(axis=0) for block in _blocks(np.arange(count))])
    order = np.empty(picks, dtype=np.int64)
    order[0] = np.argmax(sums <= (1.0 + _TIE) * sums.min())
    nearest = columns(order[:1])[:, 0]
    # A gain only shrinks as picks are added (submodularity), so an old one is an upper bound of the present one.
    bounds = np.full(count, np.inf)
    for turn in range(1, picks):
        bounds[order[:turn]] = -np.inf
        best, fresh = 0.0, np.zeros(count, dtype=bool)
        while True:
            stale = np.flatnonzero(~fresh & (bounds >= (1.0 - _TIE) * best) & (bounds > -np.inf))
            if len(stale) == 0:
                break
            block = stale[np.argsort(-bounds[stale], kind="stable")[:_BLOCK]]
            bounds[block] = np.maximum(nearest[:, None] - columns(block), 0.0).sum(axis=0)
            fresh[block] = True
            best = max(best, float(bounds[block].max()))
        order[turn] = np.argmax(fresh & (bounds >= (1.0 - _TIE) * best))
        np.minimum(nearest, columns(order[turn : turn + 1])[:, 0], out=nearest)
    return order


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK)]


def kept(columns: Columns, count: int) -> Columns:
    """The same columns, worked out once and kept where all of them fit, else as given."""
    if count * count > _KEPT_VALUES:
        return columns
    whole = np.concatenate([columns(block) for block in _blocks(np.arange(count))], axis=1)
    return lambda rows: whole[:, rows]


def select(
    train: Train, ipc: int, ctx: Context, *, space: Literal["gradient", "residual", "feature"] = "gradient"
) -> np.ndarray:
    """Facility location within each class, on Euclidean distances. Deterministic.

    The paper bounds the error of a weighted subset's gradient by these distances. Deviations: the gradients are the
    trained teacher's, once (the paper selects anew during training), and all picks have equal weight in training.

    Cost on ImageNet's size (1.28M images, 512 features, 1,000 classes), extrapolated from one class on one core: 200 s
    at 10 or 50 images per class, nearly all of it the distances.

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives the teacher's features and logits.
        space: what distances are taken of. "gradient": the last layer's, weights and bias, in factored form (as
            DeepCore does); "residual": p - y, the gradient by the logits (as the authors' code does); "feature": the
            teacher's features, without labels.

    Returns:
        int64 [num_classes * ipc], unique, class after class, in the order of picking.

    Raises:
        ValueError: a word is unknown, a class has too few images, or a feature or logit is not finite.
    """
    one_of("space", space, "gradient", "residual", "feature")
    groups = list(class_members(train, ipc))
    features = None if space == "residual" else ctx.features()
    logits = None if space == "feature" else ctx.logits()
    picks = []
    for label, own in groups:
        ones = np.ones((len(own), 1))
        left = ones if logits is None else residuals(finite_rows(logits[own], own, "a logit"), np.full(len(own), label))
        right = ones if features is None else finite_rows(features[own], own, "the feature")
        gradients = Gradients.of(left, right, bias=space == "gradient")
        columns = kept(lambda rows, g=gradients: np.sqrt(g.distances(rows)), len(own))  # type: ignore[misc]
        picks.append(own[facility_location(columns, len(own), ipc)])
    return np.concatenate(picks)
