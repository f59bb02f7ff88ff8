"""The k largest logits of each row with their classes; the others get one value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from methods._codec import labels as shared
from methods._codec import topk
from methods._codec.container import Specs, pack, packed_size, unpack

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

CITATION = "Top-k logits; the rule 'minimum' as in LPQLD, the rule 'mean' for the least squared error"
CODEC = "topk"


def encode(labels: SoftLabels, budget_bytes: int, ctx: Context, *, k: int = 0, rest: str = "mean") -> bytes:
    """Top k in float16, their classes packed, and per row one float16 for what is not kept.

    Args:
        labels: logits [n, K, C].
        budget_bytes: total for the n images, header included.
        ctx: not used.
        k: classes of each row, the same for all; 0: as many as the budget holds.
        rest: what the others get: "mean", the mean of those not kept, or "minimum", the least logit of the row.

    Raises:
        ValueError: a value that is not finite, an argument out of its range.
        InfeasibleError: one class of each row, or the k asked for, does not fit.
    """
    if rest not in ("mean", "minimum"):
        raise ValueError(f"rest: {rest!r} is not one of mean, minimum")
    values = shared.checked_logits(labels)
    n, views, c = values.shape
    exponents = shared.fp16_exponents(values)
    fixed: Specs = {"e": ("u1", shared.encode_exponents(exponents).size)}

    def size(count: int) -> int:
        fill: Specs = {"f": ("<f2", n * views if count < c else 0)}
        return packed_size(CODEC, (n, views, c), fixed | fill | topk.specs(n * views, count, c))

    kept = topk.affordable(size, c, k, budget_bytes, "one class of each row")
    columns, tops, fills = [], [], []
    for start, chunk in shared.chunks(values):
        rows = shared.scaled(chunk, -exponents[start : start + len(chunk)]).reshape(-1, c)
        classes = topk.largest(rows, kept)
        top = np.take_along_axis(rows, classes, 1)
        columns.append(classes)
        tops.append(top)
        if kept < c:
            fills.append(_mean_of_rest(rows, classes) if rest == "mean" else rows.min(1))
    parts = {"e": shared.encode_exponents(exponents), "f": np.concatenate([*fills, np.zeros(0)]).astype(np.float16)}
    return pack(CODEC, (n, views, c), parts | topk.sections(np.concatenate(columns), np.concatenate(tops), c))


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C]; `rows`: view indices 0..K-1, None for all."""
    container = unpack(blob, CODEC)
    n, views, c = container.shape
    picked = shared.checked_rows(rows, views)
    stored = container.sections
    flat = topk.flat_rows(n, views, picked)
    kept = stored["x"].size // (n * views)
    classes, tops = topk.read(stored, flat, kept, c)
    out = np.zeros((len(flat), c))
    if kept < c:
        out[:] = stored["f"][flat].astype(np.float64)[:, None]
    np.put_along_axis(out, classes, tops, 1)
    scale = shared.decode_exponents(stored["e"], n)
    return torch.from_numpy(shared.scaled(out.reshape(n, len(picked), c), scale, np.float32))


def _mean_of_rest(rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
    others = np.ones(rows.shape, bool)
    np.put_along_axis(others, classes, False, 1)
    return np.where(others, rows, 0).sum(1) / (rows.shape[1] - classes.shape[1])
