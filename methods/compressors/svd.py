"""Truncated singular value decomposition of each image's K x C logits, rank by budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from methods._codec import decompositions, factors, setwise
from methods._codec import domain as domains
from methods._codec import labels as shared
from methods._codec.container import Container

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

CITATION = "Eckart and Young 1936; as a soft-label baseline in SCORE, arXiv 2503.13935, figure 3"
CODEC = "svd"


def encode(
    labels: SoftLabels,
    budget_bytes: int,
    ctx: Context,
    *,
    factor: str = "fp16",
    layout: str = "image",
    domain: str = "logits",
    temperature: float = 1.0,
) -> bytes:
    """Balanced factors of the best low-rank approximation.

    Args:
        labels: logits [n, K, C].
        budget_bytes: total for the n images, header included.
        ctx: gives the device: with layout="image", a GPU takes the images of a chunk at once.
        factor: "fp16", or "int8" with a float16 scale per component.
        layout: "image": K x C per image; the largest common rank, then one more component each for the images that gain
            the most. "set": all n K rows in one matrix with one C x r basis, which pays where C is small.
        domain: "logits", or "probabilities" at the temperature (see `methods/_codec/domain.py`).
        temperature: T of the probabilities.

    Raises:
        ValueError: a value that is not finite, an unknown factor or layout, an argument out of its range.
        InfeasibleError: rank 1 does not fit.
    """
    if layout not in ("image", "set"):
        raise ValueError(f"layout: {layout!r} is not one of image, set")
    logits = shared.checked_logits(labels)

    def plain(values: np.ndarray, budget: int) -> bytes:
        if layout == "set":
            return setwise.encode(CODEC, values, budget, factor)
        return factors.encode(CODEC, values, budget, factor, decompositions.of(ctx).truncated_svd)

    return _STORED.encode(logits, budget_bytes, domain, temperature, plain)


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C]; `rows`: view indices 0..K-1, None for all."""
    return _STORED.decode(blob, rows)


def invalid(blob: bytes) -> tuple[int, int]:
    """(negative values, rows whose sum was not one) of approximated probabilities, see `methods/_codec/domain.py`."""
    return _STORED.invalid(blob)


def _restored(container: Container, rows: np.ndarray) -> torch.Tensor:
    return setwise.decode(container, rows) if setwise.is_one(container) else factors.decode(container, rows)


_STORED = domains.Stored(CODEC, _restored)
