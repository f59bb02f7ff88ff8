"""EL2N: how far the class probabilities of an image were from its label while a network learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bench.api import DynamicsScores


def el2n_scores(dynamics: DynamicsScores) -> np.ndarray:
    """Sum over epochs of ||probabilities - one-hot label||_2, float64 [N]; low is easy, at most sqrt(2) per epoch.

    Raises:
        ValueError: a probability is NaN or infinite.
    """
    scores = np.zeros(dynamics.error.shape[1])
    for error in dynamics.error:
        scores += error
    if not np.isfinite(scores).all():
        raise ValueError(f"the training dynamics of image {int(np.argmin(np.isfinite(scores)))} are not finite")
    return scores
