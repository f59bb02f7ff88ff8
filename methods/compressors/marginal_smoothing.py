"""FKD's marginal smoothing: the k largest probabilities of each row, what is left is spread over the other classes."""

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

NAME = "marginal-smoothing"
CITATION = (
    "Shen and Xing 2022, A Fast Knowledge Distillation Framework for Visual Recognition (FKD), marginal smoothing"
)
CHECK_EXCEPTIONS = {
    "plenty-of-bytes-give-the-labels-back": "probabilities are kept: the constant of a row of logits is lost",
    "more-bytes-are-never-worse": "its squared error is that constant's, which no number of bytes brings back",
    "degenerate-labels-come-back": "probabilities are kept: the constant of a row of logits is lost",
}
CODEC = "marginal-smoothing"


def encode(labels: SoftLabels, budget_bytes: int, ctx: Context, *, k: int = 0, temperature: float = 1.0) -> bytes:
    """The k largest probabilities of each row and their classes (see `methods/_codec/marginal.py`).

    FKD stores an index and a value as two floats each; here the indices are packed, so that k is larger at equal bytes.

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
    return marginal.encode(CODEC, values, budget_bytes, k=k, temperature=temperature, rule="smooth")


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C]: T log p; `rows`: view indices 0..K-1, None for all."""
    container = unpack(blob, CODEC)
    return marginal.decode(container, shared.checked_rows(rows, container.shape[1]), "smooth")
