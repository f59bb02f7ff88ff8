"""The k largest probabilities of every row, and a rule for the others: what FKD stores.

FKD keeps probabilities; here it is their logarithms that are rounded to float16, which near one and near zero is far
finer at the same bytes. The constant that the softmax does not see is chosen so that the rule for the others is free:

    smooth        log p - log q, where q is the probability that each class that is not kept gets, (1 - sum) / (C - k)
    renormalised  log p - log of the largest; the others get nothing

Probabilities are those at a temperature T; what comes back are logits z with softmax(z / T) equal to them.
"""

from __future__ import annotations

import numpy as np
import torch

from methods._codec import labels, topk
from methods._codec.container import Container, pack, packed_size

RULES = ("smooth", "renormalised")
ABSENT = 1e4  # a class without probability stands this far below the largest logit: nothing is left of it up to T = 90
_LARGEST = float(np.finfo(np.float16).max)


def encode(codec: str, values: np.ndarray, budget_bytes: int | None, *, k: int, temperature: float, rule: str) -> bytes:
    """A blob with the k largest probabilities of every row.

    Args:
        codec: name in the header.
        values: logits [n, K, C], checked.
        budget_bytes: total for the n images; None: whatever it takes.
        k: classes of each row; 0: as many as fit.
        temperature: T.
        rule: one of `RULES`.

    Raises:
        ValueError: k or T out of its range.
        InfeasibleError: one class of each row does not fit.
    """
    if not (temperature > 0 and np.isfinite(temperature)):
        raise ValueError(f"temperature: must be a number > 0, got {temperature}")
    n, views, c = values.shape
    shape = (n, views, c)

    def size(count: int) -> int:
        return packed_size(codec, shape, {"t": ("<f4", 1)} | topk.specs(n * views, count, c))

    if budget_bytes is None:
        budget_bytes = size(k)
    kept = topk.affordable(size, c, k, budget_bytes, "one class of each row")
    coldness = np.array([temperature], np.float32)
    columns, gaps = [], []
    for _, chunk in labels.chunks(values):
        rows = chunk.reshape(-1, c).astype(np.float64) / float(coldness[0])
        classes = topk.largest(rows, kept)
        columns.append(classes)
        gaps.append(_gaps(rows, classes, rule))
    return pack(codec, shape, {"t": coldness} | topk.sections(np.concatenate(columns), np.concatenate(gaps), c))


def _gaps(rows: np.ndarray, classes: np.ndarray, rule: str) -> np.ndarray:
    """float16 [m, k]: logarithms of the kept probabilities, from the level that the rule sets."""
    c, k = rows.shape[1], classes.shape[1]
    kept = np.take_along_axis(rows, classes, 1)
    level = kept.max(1, keepdims=True)
    if rule == "smooth" and k < c:
        rest = rows.copy()
        np.put_along_axis(rest, classes, -np.inf, 1)
        top = rest.max(1, keepdims=True)
        level = top + np.log(np.exp(rest - top).sum(1, keepdims=True) / (c - k))
    return np.clip(kept - level, -_LARGEST, _LARGEST).astype(np.float16)


def decode(container: Container, rows: np.ndarray, rule: str) -> torch.Tensor:
    """float32 [n, len(rows), C]: T log p of these views."""
    n, views, c = container.shape
    temperature = float(container.sections["t"][0])
    kept = container.sections["x"].size // (n * views)
    classes, gaps = topk.read(container.sections, topk.flat_rows(n, views, rows), kept, c)
    out = np.full((len(gaps), c), 0.0 if rule == "smooth" else -np.inf)
    np.put_along_axis(out, classes, gaps, 1)
    top = out.max(1, keepdims=True)
    out -= top + np.log(np.exp(out - top).sum(1, keepdims=True))
    out *= temperature
    absent = np.isneginf(out)
    out[absent] = np.broadcast_to(out.max(1, keepdims=True) - ABSENT, out.shape)[absent]
    return torch.from_numpy(out.astype(np.float32)).reshape(n, len(rows), c)
