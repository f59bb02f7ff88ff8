"""Truncated singular value decomposition of each image's K x C logits, rank by budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from methods._codec import decompositions, factors, setwise
from methods._codec import labels as shared
from methods._codec.container import unpack

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

CITATION = "Eckart and Young 1936; as a soft-label baseline in SCORE, arXiv 2503.13935, figure 3"
CODEC = "svd"


def encode(
    labels: SoftLabels, budget_bytes: int, ctx: Context, *, factor: str = "fp16", layout: str = "image"
) -> bytes:
    """Balanced factors of the best low-rank approximation.

    Args:
        labels: logits [n, K, C].
        budget_bytes: total for the n images, header included.
        ctx: gives the device: with layout="image", a GPU takes the images of a chunk at once.
        factor: "fp16", or "int8" with a float16 scale per component.
        layout: "image": K x C per image; the largest common rank, then one more component each for the images that gain
            the most. "set": all n K rows in one matrix with one C x r basis, which pays where C is small.

    Raises:
        ValueError: a value that is not finite, an unknown factor or layout.
        InfeasibleError: rank 1 does not fit.
    """
    values = shared.checked_logits(labels)
    if layout == "image":
        return factors.encode(CODEC, values, budget_bytes, factor, decompositions.of(ctx).truncated_svd)
    if layout == "set":
        return setwise.encode(CODEC, values, budget_bytes, factor)
    raise ValueError(f"layout: {layout!r} is not one of image, set")


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C]; `rows`: view indices 0..K-1, None for all."""
    container = unpack(blob, CODEC)
    picked = shared.checked_rows(rows, container.shape[1])
    return setwise.decode(container, picked) if setwise.is_one(container) else factors.decode(container, picked)
