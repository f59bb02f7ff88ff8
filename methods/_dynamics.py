"""Scores of training dynamics: what a network thinks of every image after every epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from bench.api import DynamicsScores

# float16 probabilities below its smallest subnormal were stored as 0; the logarithm takes them for that number.
_SMALLEST = 2.0**-24


def epochs_of(dynamics: DynamicsScores) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(own float64 [N], other float64 [N]) of each epoch: the probability of an image's label, and the largest one of
    another class (0 where there is none).

    Raises:
        ValueError: a probability is NaN or infinite; the message names the image.
    """
    for error, own, other in zip(dynamics.error, dynamics.own, dynamics.other, strict=True):
        bad = ~np.isfinite(error)
        if bad.any():
            raise ValueError(f"the training dynamics of image {int(np.argmax(bad))} are not finite")
        yield own.astype(np.float64), other.astype(np.float64)


def margins(dynamics: DynamicsScores, space: Literal["probability", "logit"]) -> np.ndarray:
    """Area under the margin, float64 [N]: high is easy.

    "probability": the sum over epochs of p_label - max p_other (Zheng et al.), within [-epochs, epochs].
    "logit": the mean over epochs of z_label - max z_other (Pleiss et al.). Differences of logits are differences of
    log-probabilities; probabilities that float16 stores as 0 count as 2^-24.
    """
    total = np.zeros(dynamics.own.shape[1])
    for own, other in epochs_of(dynamics):
        if space == "logit":
            own, other = (np.log(np.maximum(p, _SMALLEST)) for p in (own, other))
        total += own - other
    return total / len(dynamics.own) if space == "logit" else total


def forgetting(dynamics: DynamicsScores) -> tuple[np.ndarray, np.ndarray]:
    """(int64 [N] changes from right to wrong between consecutive epochs, bool [N] ever right).

    Right means that the label is more probable than every other class: a tie is wrong, whatever the class numbers.
    """
    count = dynamics.own.shape[1]
    events, learnt, before = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    for own, other in epochs_of(dynamics):
        right = own > other
        events += before & ~right
        learnt |= right
        before = right
    return events, learnt


def own_probabilities(dynamics: DynamicsScores) -> np.ndarray:
    """float64 [epochs, N]: the probability of each image's label after each epoch."""
    return np.array([own for own, _ in epochs_of(dynamics)])
