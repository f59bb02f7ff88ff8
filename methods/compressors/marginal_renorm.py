"""FKD's marginal renormalisation: the k largest probabilities of each row, made to sum to one; the others are zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from methods._codec import labels as shared
from methods._codec import marginal
from methods._codec.container import unpack

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

NAME = "marginal-renorm"
CITATION = "Shen and Xing 2022, A Fast Knowledge Distillation Framework for Visual Recognition (FKD), marginal renorm"
CHECK_EXCEPTIONS = {
    "plenty-of-bytes-give-the-labels-back": "probabilities are kept: the constant of a row of logits is lost",
    "degenerate-labels-come-back": "probabilities are kept: the constant of a row of logits is lost",
}
CODEC = "marginal-renorm"


def encode(labels: SoftLabels, budget_bytes: int, ctx: Context, *, k: int = 0, temperature: float = 1.0) -> bytes:
    """The k largest probabilities of each row and their classes (see `methods/_codec/marginal.py`).

    Args:
        labels: logits [n, K, C].
        budget_bytes: total for the n images, header included.
        ctx: not used.
        k: classes of each row, the same for all (FKD: 5 or 10); 0: as many as the budget holds.
        temperature: at which the probabilities are taken (FKD: 1).

    Raises:
        ValueError: a value that is not finite, an argument out of its range.
        InfeasibleError: one class of each row, or the k asked for, does not fit.
    """
    values = shared.checked_logits(labels)
    return marginal.encode(CODEC, values, budget_bytes, k=k, temperature=temperature, rule="renormalised")


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C]: T log p; a class that is not kept stands 10,000 below the largest: no
    probability at any temperature up to 90. `rows`: view indices 0..K-1, None for all."""
    container = unpack(blob, CODEC)
    return marginal.decode(container, shared.checked_rows(rows, container.shape[1]), "renormalised")
