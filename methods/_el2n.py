"""EL2N: how far the class probabilities of an image were from its label while a network learnt."""

from __future__ import annotations

import numpy as np

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
