"""FKD's smoothing: the largest probability of each row and its class, what is left is spread over the other classes."""

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

CITATION = "Shen and Xing 2022, A Fast Knowledge Distillation Framework for Visual Recognition (FKD), smoothing"
TAKES_BUDGET = False
CHECK_EXCEPTIONS = {
    "plenty-of-bytes-give-the-labels-back": "two numbers of each row are kept, whatever the budget",
    "degenerate-labels-come-back": "two numbers of each row are kept, whatever the budget",
}
CODEC = "smoothing"


def encode(labels: SoftLabels, budget_bytes: int, ctx: Context, *, temperature: float = 1.0) -> bytes:
    """Class and probability of the largest logit of each row: 16 + log2(C) bits, whatever `budget_bytes` says.

    Args:
        labels: logits [n, K, C].
        budget_bytes: not looked at.
        ctx: not used.
        temperature: at which the probability is taken (FKD: 1).

    Raises:
        ValueError: a value that is not finite, a temperature that is not above zero.
    """
    values = shared.checked_logits(labels)
    return marginal.encode(CODEC, values, None, k=1, temperature=temperature, rule="smooth")


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C]: T log p; `rows`: view indices 0..K-1, None for all."""
    container = unpack(blob, CODEC)
    return marginal.decode(container, shared.checked_rows(rows, container.shape[1]), "smooth")
