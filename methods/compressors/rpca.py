"""Robust PCA: each image's K x C logits as low rank plus sparse (principal component pursuit), both stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from methods._codec import decompositions, lowsparse
from methods._codec import domain as domains
from methods._codec import labels as shared
from methods._codec.split import Split, best_split

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

CITATION = (
    "Candes, Li, Ma and Wright 2011, Robust principal component analysis?; for soft labels SCORE, arXiv 2503.13935"
)
CODEC = "rpca"
_STORED = domains.Stored(CODEC, lowsparse.decode)


def encode(
    labels: SoftLabels,
    budget_bytes: int,
    ctx: Context,
    *,
    lambda_: float = 0.0,
    tol: float = 1e-4,
    entries: str = "residual",
    precision: str = "mixed",
    domain: str = "logits",
    temperature: float = 1.0,
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
        domain: "logits", or "probabilities" at the temperature (see `methods/_codec/domain.py`).
        temperature: T of the probabilities.

    Raises:
        ValueError: a value that is not finite, an argument out of its range.
        InfeasibleError: rank 1 of L with an empty S does not fit.
    """
    if lambda_ < 0:
        raise ValueError(f"lambda_: must be > 0, or 0 for 1 / sqrt(max(K, C)); got {lambda_}")
    if entries not in ("residual", "pursuit"):
        raise ValueError(f"entries: {entries!r} is not one of residual, pursuit")
    logits = shared.checked_logits(labels)
    pcp = decompositions.of(ctx).pcp

    def divide(chunk: np.ndarray, share: int) -> Split:
        low, rest, _ = pcp(chunk, lambda_ or None, tol, precision=precision)
        return best_split(chunk, low, rest if entries == "pursuit" else None, share)

    def plain(values: np.ndarray, budget: int) -> bytes:
        return lowsparse.encode(CODEC, values, budget, divide)

    return _STORED.encode(logits, budget_bytes, domain, temperature, plain)


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C]; `rows`: view indices 0..K-1, None for all."""
    return _STORED.decode(blob, rows)


def invalid(blob: bytes) -> tuple[int, int]:
    """(negative values, rows whose sum was not one) of approximated probabilities, see `methods/_codec/domain.py`."""
    return _STORED.invalid(blob)
