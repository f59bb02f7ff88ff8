"""FKD's hard labels: the class that the teacher gives each stored view, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from methods._codec import bits, topk
from methods._codec import labels as shared
from methods._codec.container import pack, unpack
from methods._codec.marginal import ABSENT

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

NAME = "fkd-hard"
CITATION = "Shen and Xing 2022, A Fast Knowledge Distillation Framework for Visual Recognition (FKD), hard labels"
TAKES_BUDGET = False
CHECK_EXCEPTIONS = {
    "plenty-of-bytes-give-the-labels-back": "the largest class of each row is kept, whatever the budget",
    "degenerate-labels-come-back": "the largest class of each row is kept, whatever the budget",
}
CODEC = "fkd-hard"


def encode(labels: SoftLabels, budget_bytes: int, ctx: Context) -> bytes:
    """The class of the largest logit of each row (the lower one among equals), packed in log2(C) bits.

    These are the teacher's classes of crops and mixtures. The classes of the images themselves need no labels at all:
    that is a protocol with hard labels, not a compressor.

    Args:
        labels: logits [n, K, C].
        budget_bytes: not looked at.
        ctx: not used.

    Raises:
        ValueError: a value that is not finite.
    """
    values = shared.checked_logits(labels)
    n, k, c = values.shape
    return pack(CODEC, (n, k, c), {"y": bits.pack(values.argmax(2).ravel(), bits.width_of(c - 1))})


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C]: 0 for the class of the row, -10,000 for the others: one-hot at any temperature up to
    90. `rows`: view indices 0..K-1, None for all."""
    container = unpack(blob, CODEC)
    n, k, c = container.shape
    picked = shared.checked_rows(rows, k)
    width = bits.width_of(c - 1)
    classes = bits.take(container.sections["y"], topk.flat_rows(n, k, picked) * width, width)
    out = torch.full((len(classes), c), -ABSENT)
    out.scatter_(1, torch.from_numpy(classes)[:, None], 0.0)
    return out.reshape(n, len(picked), c)
