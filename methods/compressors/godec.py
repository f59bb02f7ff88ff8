"""GoDec: each image's K x C logits as low rank plus sparse by alternating projection, both within the budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from methods._codec import decompositions, lowsparse
from methods._codec import domain as domains
from methods._codec import labels as shared

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

CITATION = "Zhou and Tao 2011, GoDec: randomized low-rank and sparse matrix decomposition in noisy case"
CODEC = "godec"
_STORED = domains.Stored(CODEC, lowsparse.decode)


def encode(
    labels: SoftLabels,
    budget_bytes: int,
    ctx: Context,
    *,
    rounds: int = 4,
    domain: str = "logits",
    temperature: float = 1.0,
) -> bytes:
    """Rank and number of entries are chosen for what they leave over at the image's share of the budget.

    What `rpca` gets by a pursuit that knows no budget and is cut afterwards, this finds within the budget: the blob has
    the same parts and takes a small fraction of the time (see `methods/_codec/godec.py`).

    Args:
        labels: logits [n, K, C].
        budget_bytes: total for the n images, header included.
        ctx: gives the device: a GPU takes the images of a chunk at once.
        rounds: alternations at the rank that is chosen.
        domain: "logits", or "probabilities" at the temperature (see `methods/_codec/domain.py`).
        temperature: T of the probabilities.

    Raises:
        ValueError: a value that is not finite, an argument out of its range.
        InfeasibleError: rank 1 of L with an empty S does not fit.
    """
    if rounds < 1:
        raise ValueError(f"rounds: must be at least 1, got {rounds}")
    logits = shared.checked_logits(labels)
    split = decompositions.of(ctx).godec

    def plain(values: np.ndarray, budget: int) -> bytes:
        return lowsparse.encode(CODEC, values, budget, lambda chunk, share: split(chunk, share, rounds))

    return _STORED.encode(logits, budget_bytes, domain, temperature, plain)


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C]; `rows`: view indices 0..K-1, None for all."""
    return _STORED.decode(blob, rows)


def invalid(blob: bytes) -> tuple[int, int]:
    """(negative values, rows whose sum was not one) of approximated probabilities, see `methods/_codec/domain.py`."""
    return _STORED.invalid(blob)
