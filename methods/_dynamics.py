"""Scores of training dynamics (class probabilities of every image after every epoch), read in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

_CHUNK_VALUES = 1 << 21  # probabilities that are held in float32 at once (8 MiB)
# float16 probabilities below its smallest subnormal were stored as 0; the logarithm takes them for that number.
_SMALLEST = 2.0**-24


def chunks(dynamics: np.ndarray, labels: np.ndarray) -> Iterator[tuple[slice, int, np.ndarray, np.ndarray]]:
    """(images, epoch, own float64 [n], other float64 [n]), epochs in order for each slice of images.

    `own` is the probability of an image's label, `other` the largest one of another class (0 where there is none).

    Args:
        dynamics: [epochs, N, C] probabilities, any float type; may be memory-mapped.
        labels: int64 [N].

    Raises:
        ValueError: a probability is NaN or infinite; the message names the image.
    """
    epochs, count, classes = dynamics.shape
    step = max(1, _CHUNK_VALUES // classes)
    for start in range(0, count, step):
        here = slice(start, min(start + step, count))
        rows, label = np.arange(here.stop - start), labels[here]
        for epoch in range(epochs):
            share = dynamics[epoch, here].astype(np.float32)
            # A sum is finite exactly when all terms are: probabilities are far from overflow.
            bad = ~np.isfinite(share.sum(axis=1))
            if bad.any():
                raise ValueError(f"the training dynamics of image {start + int(np.argmax(bad))} are not finite")
            own = share[rows, label].astype(np.float64)
            share[rows, label] = -np.inf if classes > 1 else 0.0
            yield here, epoch, own, share.max(axis=1).astype(np.float64)


def margins(dynamics: np.ndarray, labels: np.ndarray, space: Literal["probability", "logit"]) -> np.ndarray:
    """Area under the margin, float64 [N]: high is easy.

    "probability": the sum over epochs of p_label - max p_other (Zheng et al.), within [-epochs, epochs].
    "logit": the mean over epochs of z_label - max z_other (Pleiss et al.). Differences of logits are differences of
    log-probabilities; probabilities that float16 stores as 0 count as 2^-24.
    """
    total = np.zeros(len(labels))
    for here, _, own, other in chunks(dynamics, labels):
        if space == "logit":
            own, other = (np.log(np.maximum(p, _SMALLEST)) for p in (own, other))
        total[here] += own - other
    return total / len(dynamics) if space == "logit" else total


def forgetting(dynamics: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int64 [N] changes from right to wrong between consecutive epochs, bool [N] ever right).

    Right means that the label is more probable than every other class: a tie is wrong, whatever the class numbers.
    """
    events, learnt = np.zeros(len(labels), dtype=np.int64), np.zeros(len(labels), dtype=bool)
    before = np.zeros(len(labels), dtype=bool)
    for here, _, own, other in chunks(dynamics, labels):
        right = own > other
        events[here] += before[here] & ~right
        learnt[here] |= right
        before[here] = right
    return events, learnt


def own_probabilities(dynamics: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64 [epochs, N]: the probability of each image's label after each epoch."""
    out = np.empty(dynamics.shape[:2])
    for here, epoch, own, _ in chunks(dynamics, labels):
        out[epoch, here] = own
    return out
