"""LPQLD: a pool of whole views, and of each row the k largest logits in float16 with 16-bit classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from methods._codec import labels as shared
from methods._codec import topk
from methods._codec.container import Container, Specs, pack, packed_size, unpack
from methods._codec.marginal import ABSENT

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

CITATION = "LPQLD: label pruning and quantisation for large-scale distillation, MR-k at 10x pruning"
PUBLISHED = {"pool": 0.1, "k": (10, 50, 100, 250), "rest": "zero"}
CODEC = "lpqld"
_VIEWS = "u4"  # a pool's views, at most 2^32


def encode(
    labels: SoftLabels,
    budget_bytes: int,
    ctx: Context,
    *,
    pool: float = 0.1,
    k: int = 0,
    rest: str = "zero",
    order: str = "random",
) -> bytes:
    """Top k of the views in the pool.

    Args:
        labels: logits [n, K, C].
        budget_bytes: total for the n images, header included.
        ctx: gives the permutation of the K views, of which the first make the pool: the same in every shard.
        pool: share of the views that is kept (at least one view), in (0, 1]; published 0.1.
        k: classes of each row; 0: as many as the budget holds; published 10, 50, 100 or 250 of 1,000.
        rest: what the others get: "zero", probability zero at any temperature (published as MR-k), or "minimum", the
            least logit of the row (MRS), one float16 more a row.
        order: "random", or "first" for the first views.

    Raises:
        ValueError: a value that is not finite, an argument out of its range.
        InfeasibleError: one class of each row of the pool, or the k asked for, does not fit.
    """
    if not 0 < pool <= 1:
        raise ValueError(f"pool: must be in (0, 1], got {pool}")
    if rest not in ("zero", "minimum"):
        raise ValueError(f"rest: {rest!r} is not one of zero, minimum")
    if order not in ("random", "first"):
        raise ValueError(f"order: {order!r} is not one of random, first")
    values = shared.checked_logits(labels)
    n, views, c = values.shape
    if c > 1 << 16:
        raise ValueError(f"labels.logits: {c} classes, and a class is kept in 16 bits")
    permutation = ctx.numpy("views").permutation(views) if order == "random" else np.arange(views)
    chosen = np.sort(permutation[: max(1, round(pool * views))])
    m = len(chosen)
    exponents = shared.fp16_exponents(values)
    coded = shared.encode_exponents(exponents)

    def size(count: int) -> int:
        fixed: Specs = {"k": (_VIEWS, m), "e": ("u1", coded.size), "f": ("<f2", n * m if rest == "minimum" else 0)}
        return packed_size(CODEC, (n, views, c), fixed | {"i": ("<u2", n * m * count), "x": ("<f2", n * m * count)})

    kept = topk.affordable(size, c, k, budget_bytes, "one class of each row in the pool")
    pooled = shared.scaled(values[:, chosen], -exponents).reshape(-1, c)
    classes = topk.largest(pooled, kept)
    fill = pooled.min(1) if rest == "minimum" else np.zeros(0)
    parts = {"k": chosen.astype(_VIEWS), "e": coded, "f": fill.astype(np.float16), "i": classes.astype("<u2").ravel()}
    return pack(CODEC, (n, views, c), parts | {"x": np.take_along_axis(pooled, classes, 1).astype(np.float16).ravel()})


def rows(blob: bytes) -> np.ndarray:
    """int64, ascending: the views in the pool."""
    return _views(unpack(blob, CODEC))


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C]; None stands for the pool in ascending order.

    With rest="zero" a class that is not kept stands 10,000 below the least that is, and further where logits are
    larger than one: 10,000 times the largest of the row.

    Raises:
        ValueError: a view that is not in the pool; the message names it.
    """
    container = unpack(blob, CODEC)
    n, views, c = container.shape
    pool = _views(container)
    picked = pool if rows is None else shared.checked_rows(rows, views)
    at = np.minimum(np.searchsorted(pool, picked), len(pool) - 1)
    missing = picked[pool[at] != picked]
    if missing.size:
        raise ValueError(f"rows: view {int(missing[0])} is not in the pool, which is {pool.tolist()}")
    stored, m = container.sections, len(pool)
    flat = topk.flat_rows(n, m, at)
    scale = np.repeat(shared.decode_exponents(stored["e"], n).astype(np.int32), len(at))[:, None]
    tops = np.ldexp(stored["x"].reshape(n * m, -1)[flat].astype(np.float64), scale)
    if stored["f"].size:
        out = np.ldexp(stored["f"][flat].astype(np.float64)[:, None], scale) * np.ones((1, c))
    else:
        gap = ABSENT * np.maximum(1, np.abs(tops).max(1, keepdims=True))
        out = (tops.min(1, keepdims=True) - gap) * np.ones((1, c))
    np.put_along_axis(out, stored["i"].reshape(n * m, -1)[flat].astype(np.int64), tops, 1)
    largest = np.finfo(np.float32).max
    return torch.from_numpy(out.clip(-largest, largest).astype(np.float32)).reshape(n, len(at), c)


def _views(container: Container) -> np.ndarray:
    return container.sections["k"].astype(np.int64)
