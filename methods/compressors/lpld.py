"""Label pruning: a random subset of whole views is kept, in float16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from methods._codec import labels as shared
from methods._codec import raw
from methods._codec.container import Container, Specs, pack, packed_size, unpack

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

CITATION = "Xiao and He 2024, Are Large-scale Soft Labels Necessary for Large-scale Dataset Distillation? (LPLD)"
CODEC = "lpld"


def encode(labels: SoftLabels, budget_bytes: int, ctx: Context, *, order: str = "random") -> bytes:
    """As many whole views (the same for all images) as the budget holds.

    Args:
        labels: logits [n, K, C].
        budget_bytes: total for the n images, header included.
        ctx: gives the permutation of the K views, of which the first m are kept; it depends on seed and K alone, so
            shards with the same m keep the same views.
        order: "random", or "first" for the views 0..m-1.

    Raises:
        ValueError: a value that is not finite, an unknown order.
        InfeasibleError: one view does not fit.
    """
    values = shared.checked_logits(labels)
    n, k, c = values.shape
    if order == "random":
        permutation = ctx.numpy("views").permutation(k)
    elif order == "first":
        permutation = np.arange(k)
    else:
        raise ValueError(f"order: {order!r} is not one of random, first")
    index: np.dtype = np.dtype("u1" if k <= 1 << 8 else "<u2" if k <= 1 << 16 else "<u4")
    exponents = shared.fp16_exponents(values)
    coded: Specs = {"e": ("u1", shared.encode_exponents(exponents).size)} if exponents.any() else {}

    def size(m: int) -> int:
        specs: Specs = {"k": (index, m), "X": ("<f2", n * m * c)}
        return packed_size(CODEC, (n, k, c), specs | coded)

    views = np.sort(permutation[: shared.largest_feasible(size, 1, k, budget_bytes, "one view of every image")])
    return pack(CODEC, (n, k, c), {"k": views.astype(index)} | raw.sections(values[:, views], exponents))


def rows(blob: bytes) -> np.ndarray:
    """int64, ascending: the views that are stored."""
    return _views(unpack(blob, CODEC))


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C]; None stands for the stored views in ascending order.

    Raises:
        ValueError: a view that is not stored; the message names it.
    """
    container = unpack(blob, CODEC)
    n, k, c = container.shape
    views = _views(container)
    picked = views if rows is None else shared.checked_rows(rows, k)
    at = np.minimum(np.searchsorted(views, picked), len(views) - 1)
    missing = picked[views[at] != picked]
    if missing.size:
        raise ValueError(f"rows: view {int(missing[0])} was pruned, stored are {views.tolist()}")
    return raw.read(container.sections, n, len(views), c, at)


def _views(container: Container) -> np.ndarray:
    return container.sections["k"].astype(np.int64)
