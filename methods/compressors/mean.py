"""One label per image: the mean over its views, in float16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from methods._codec import domain as domains
from methods._codec import labels as shared
from methods._codec import raw
from methods._codec.container import pack, unpack

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

CITATION = "The mean label: what a code without anything of a view's own can be worth"
TAKES_BUDGET = False
CHECK_EXCEPTIONS = {
    "plenty-of-bytes-give-the-labels-back": "one label of each image is kept, whatever the budget",
    "degenerate-labels-come-back": "one label of each image is kept, so views that differ do not come back",
}
CODEC = "mean"


def encode(
    labels: SoftLabels, budget_bytes: int, ctx: Context, *, domain: str = "logits", temperature: float = 1.0
) -> bytes:
    """2 C bytes for each image; `budget_bytes` is not looked at.

    Args:
        labels: logits [n, K, C].
        budget_bytes: not looked at.
        ctx: not used.
        domain: "logits", or "probabilities": the mean of softmax(logits / T), kept as T times its logarithm.
        temperature: T of the probabilities.

    Raises:
        ValueError: a value that is not finite, an argument out of its range.
    """
    domains.check(domain, temperature)
    values = shared.checked_logits(labels)
    n, k, c = values.shape
    means = np.empty((n, 1, c))
    for start, chunk in shared.chunks(values):
        wide = chunk.astype(np.float64)
        part = wide.mean(1) if domain == "logits" else temperature * _log_mean(wide / temperature)
        means[start : start + len(chunk), 0] = part
    means = means.astype(np.float32)
    return pack(CODEC, (n, k, c), raw.sections(means, shared.fp16_exponents(means)))


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C], the same for all rows; `rows`: view indices 0..K-1, None for all."""
    container = unpack(blob, CODEC)
    n, k, c = container.shape
    picked = shared.checked_rows(rows, k)
    return raw.read(container.sections, n, 1, c, np.zeros(1, np.int64)).repeat(1, len(picked), 1)


def _log_mean(values: np.ndarray) -> np.ndarray:
    """Logarithm of the mean over views of the softmax of [b, K, C]; finite wherever the logits are."""
    values = values - values.max(2, keepdims=True)
    values -= np.log(np.exp(values).sum(2, keepdims=True))
    top = values.max(1, keepdims=True)
    return top[:, 0] + np.log(np.exp(values - top).mean(1))
