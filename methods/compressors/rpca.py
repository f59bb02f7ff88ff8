"""Robust PCA: each image's K x C logits as low rank plus sparse (principal component pursuit), both stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from methods._codec import decompositions, factors, sparse
from methods._codec import labels as shared
from methods._codec.container import pack, unpack
from methods._codec.split import best_split, share_bits

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

CITATION = (
    "Candes, Li, Ma and Wright 2011, Robust principal component analysis?; for soft labels SCORE, arXiv 2503.13935"
)
CODEC = "rpca"


def encode(
    labels: SoftLabels,
    budget_bytes: int,
    ctx: Context,
    *,
    lambda_: float = 0.0,
    tol: float = 1e-4,
    entries: str = "residual",
    precision: str = "mixed",
) -> bytes:
    """Principal component pursuit per image, then L cut to rank r and S to its largest entries.

    Every image gets the same share of the budget. Of a grid of ranks (see `split.rank_grid`) it takes the one whose
    decoded matrix has the least squared error; the rest of its share holds entries of S.

    Args:
        labels: logits [n, K, C].
        budget_bytes: total for the n images, header included.
        ctx: gives the device: a GPU takes the pursuits of a chunk at once.
        lambda_: weight of the sparse part; 0 stands for 1 / sqrt(max(K, C)).
        tol: residual, relative to the norm, at which the pursuit stops. What is stored is so much coarser that 1e-7
            changes no digit of the error that shows, and takes 1.7 times as long.
        entries: "residual": where the cut L is farthest from the labels, by how much (the cut costs L energy, and so
            the entries make up for it); "pursuit": the largest entries of S as the pursuit left them.
        precision: "mixed" (float32 down to a residual of 1e-4, float64 from there), or "float64".

    Raises:
        ValueError: a value that is not finite, an argument out of its range.
        InfeasibleError: rank 1 of L with an empty S does not fit.
    """
    if lambda_ < 0:
        raise ValueError(f"lambda_: must be > 0, or 0 for 1 / sqrt(max(K, C)); got {lambda_}")
    if entries not in ("residual", "pursuit"):
        raise ValueError(f"entries: {entries!r} is not one of residual, pursuit")
    values = shared.checked_logits(labels)
    n, k, c = values.shape
    exponents = shared.norm_exponents(values)
    coded = shared.encode_exponents(exponents)
    share = share_bits(CODEC, (n, k, c), coded.size, budget_bytes)
    pcp = decompositions.of(ctx).pcp
    ranks, parts, kept = [], [], []
    for start, chunk in shared.chunks(values):
        scaled = shared.scaled(chunk, -exponents[start : start + len(chunk)])
        low, rest, _ = pcp(scaled, lambda_ or None, tol, precision=precision)
        picked = best_split(scaled, low, rest if entries == "pursuit" else None, share)
        ranks.append(picked.ranks)
        parts.append(picked.factors)
        kept += picked.entries
    stored = factors.sections(factors.Factors.join(parts), np.concatenate(ranks)) | sparse.sections(kept, k, c)
    return pack(CODEC, (n, k, c), {"e": coded} | stored)


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C]; `rows`: view indices 0..K-1, None for all."""
    container = unpack(blob, CODEC)
    n, k, c = container.shape
    picked = shared.checked_rows(rows, k)
    exact = factors.product(container.sections, n, k, c, picked)
    sparse.add_rows(exact, container.sections, k, picked)
    return factors.restored(exact, shared.decode_exponents(container.sections["e"], n))
