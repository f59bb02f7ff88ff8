"""No compression: the logits as float16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from methods._codec import labels as shared
from methods._codec import raw
from methods._codec.container import pack, unpack

if TYPE_CHECKING:
    from bench.api import Context, SoftLabels

CITATION = "Shen and Xing 2022, A Fast Knowledge Distillation Framework for Visual Recognition (FKD), stored in float16"
TAKES_BUDGET = False
CODEC = "none"


def encode(labels: SoftLabels, budget_bytes: int, ctx: Context) -> bytes:
    """All logits in float16, 2 K C bytes per image; `budget_bytes` is not looked at.

    float16 input comes back bit for bit. float32 images that float16 cannot hold get a power of two as a scale.
    """
    values = shared.checked_logits(labels)
    n, k, c = values.shape
    return pack(CODEC, (n, k, c), raw.sections(values, shared.fp16_exponents(values)))


def decode(blob: bytes, rows: Sequence[int] | np.ndarray | None = None) -> torch.Tensor:
    """float32 [n, len(rows), C]; `rows`: view indices 0..K-1, None for all."""
    container = unpack(blob, CODEC)
    n, k, c = container.shape
    return raw.read(container.sections, n, k, c, shared.checked_rows(rows, k))
