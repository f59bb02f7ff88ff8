"""Randomised singular value decomposition of each image's K x C logits, rank by budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from methods._codec import decompositions, factors
from methods._codec import domain as domains
from methods._codec import labels as shared

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

CITATION = "Halko, Martinsson and Tropp 2011, Finding structure with randomness, algorithms 4.4 and 5.1"
CODEC = "rsvd"
_STORED = domains.Stored(CODEC, factors.decode)


def encode(
    labels: SoftLabels,
    budget_bytes: int,
    ctx: Context,
    *,
    oversampling: int = 10,
    power_iterations: int = 1,
    factor: str = "fp16",
    domain: str = "logits",
    temperature: float = 1.0,
) -> bytes:
    """Balanced factors of the approximation on a random range; ranks and storage as `svd`, per image.

    Args:
        labels: logits [n, K, C].
        budget_bytes: total for the n images, header included.
        ctx: gives the Gaussian test matrix, the same for all images, and the device: a GPU takes the images of a chunk
            at once.
        oversampling: columns of the test matrix beyond the rank, >= 0.
        power_iterations: orthonormalised passes of A A^T, >= 0.
        factor: "fp16", or "int8" with a float16 scale per component.
        domain: "logits", or "probabilities" at the temperature (see `methods/_codec/domain.py`).
        temperature: T of the probabilities.

    Raises:
        ValueError: a value that is not finite, an unknown factor, a negative count, an argument out of its range.
        InfeasibleError: rank 1 for every image does not fit.
    """
    if oversampling < 0 or power_iterations < 0:
        raise ValueError(f"oversampling and power_iterations: must be >= 0, got {oversampling} and {power_iterations}")
    logits = shared.checked_logits(labels)
    classes, side = logits.shape[2], min(logits.shape[1:])
    svd = decompositions.of(ctx).randomised_svd
    # Row by row from one stream: the test matrix of a lower rank is a part of that of a higher one, so the range, and
    # with it the error, only improves with the budget.
    stream = ctx.numpy("test matrix").standard_normal((side, classes))

    def decompose(matrices: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        columns = min(rank + oversampling, side)
        return svd(matrices, rank, stream[:columns].T, power_iterations)

    def plain(values: np.ndarray, budget: int) -> bytes:
        return factors.encode(CODEC, values, budget, factor, decompose)

    return _STORED.encode(logits, budget_bytes, domain, temperature, plain)


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C]; `rows`: view indices 0..K-1, None for all."""
    return _STORED.decode(blob, rows)


def invalid(blob: bytes) -> tuple[int, int]:
    """(negative values, rows whose sum was not one) of approximated probabilities, see `methods/_codec/domain.py`."""
    return _STORED.invalid(blob)
