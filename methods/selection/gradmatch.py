"""GradMatch: images of each class whose last-layer gradients add up to that of the class (matching pursuit)."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import nnls

from bench.api import Context, Train
from methods._lastlayer import Gradients, of_class
from methods._quota import class_members

CITATION = (
    "Killamsetty et al., GRAD-MATCH: Gradient Matching based Data Subset Selection for Efficient Deep Model Training, "
    "ICML 2021."
)

_TIE = 1e-9  # correlations closer than this share of the largest first one count as equal


def pursue(gradients: Gradients, count: int, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """Orthogonal matching pursuit of the sum of all gradients with weights >= 0 and a ridge.

    Each turn adds the row with the largest inner product with what is left of the sum, then fits all weights anew:
    argmin over w >= 0 of ||sum - G_S^T w||^2 + penalty ||w||^2, exactly (NNLS on a Cholesky factor).

    Args:
        gradients: n of them.
        count: rows to pick, at most n. Picking goes on where no row points along the rest any more (the largest,
            negative, inner product is taken): the quota must be filled. Such rows get weight 0.
        ridge: penalty as a share of the mean squared length of the gradients; > 0.

    Returns:
        (int64 [count] in the order of picking, float64 [count] weights >= 0). Among equally good rows the lowest index
        wins. Time n (C + d) a pick, once n C d; memory n count.
    """
    toward = gradients.along(gradients.total())
    penalty = ridge * float(gradients.square.mean()) or 1.0  # all gradients zero: any penalty will do
    tolerance = _TIE * float(np.abs(toward).max())
    picks, weights = np.empty(count, dtype=np.int64), np.empty(0)
    columns = np.empty((count, len(gradients)))  # row t: inner products of all gradients with pick t
    free = np.ones(len(gradients), dtype=bool)
    for turn in range(count):
        left = np.where(free, toward - weights @ columns[:turn], -np.inf)
        picks[turn] = pick = int(np.argmax(left >= left.max() - tolerance))
        free[pick] = False
        columns[turn] = gradients.dots(picks[turn : turn + 1])[:, 0]
        weights = _fit(columns[: turn + 1, picks[: turn + 1]], toward[picks[: turn + 1]], penalty)
    return picks, weights


def _fit(gram: np.ndarray, toward: np.ndarray, penalty: float) -> np.ndarray:
    """argmin over w >= 0 of w' (gram + penalty) w - 2 w' toward."""
    # In units of the penalty, so that NNLS's absolute tolerances suit gradients of any length.
    lower = np.linalg.cholesky(gram / penalty + np.eye(len(gram)))
    return nnls(lower.T, solve_triangular(lower, toward / penalty, lower=True))[0]


def select(train: Train, ipc: int, ctx: Context, *, ridge: float = 0.5) -> np.ndarray:
    """Match the summed last-layer gradient of each class by `ipc` of its images. Deterministic.

    Weights and bias count, in factored form. Deviations: the gradients are the trained teacher's, once (the paper
    selects anew during training); all picks have equal weight in training, whatever the fit gave; and the published
    ridge of 0.5 is in units of squared gradient lengths, which differ between networks by many orders: here it is a
    share of their mean. DeepCore's code for the same method runs on CUDA only and calls a routine that torch removed.

    Cost on ImageNet's size (1.28M images, 512 features, 1,000 classes), extrapolated from one class on one core: 100 s
    at 10 images per class, 120 s at 50.

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives the teacher's features and logits.
        ridge: see `pursue`; > 0.

    Returns:
        int64 [num_classes * ipc], unique, class after class, in the order of picking.

    Raises:
        ValueError: ridge is not above 0, a class has too few images, or a feature or logit is not finite.
    """
    if not 0.0 < ridge < np.inf:
        raise ValueError(f"ridge is {ridge}; it must be a number above 0")
    groups = list(class_members(train, ipc))
    features, logits = ctx.features(), ctx.logits()
    return np.concatenate(
        [own[pursue(of_class(features, logits, own, np.full(len(own), label)), ipc, ridge)[0]] for label, own in groups]
    )
