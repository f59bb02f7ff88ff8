"""CutMix of images that are resampled already: a box of the partner is copied over each."""

from __future__ import annotations

import numpy as np
import torch


def pasted(base: torch.Tensor, rows: np.ndarray, partners: np.ndarray, boxes: np.ndarray) -> torch.Tensor:
    """The images at `rows`, each with a box of its partner.

    Args:
        base: float32 [N, C, size, size] on the CPU, channels first or last.
        rows, partners: int64 [n], of `base`.
        boxes: uint16 [n, 4]: top, left, height, width.

    Returns:
        float32 [n, C, size, size], channels where `base` has them.
    """
    # numba takes a quarter of a second and 60 MB: only where views are rendered.
    from bench.views.pixel_loops import paste

    n, channels, size = len(rows), *base.shape[1:3]
    first = base.is_contiguous()
    layout = torch.contiguous_format if first else torch.channels_last
    out = torch.empty(n, channels, size, size, memory_format=layout)

    def as_lines(images: torch.Tensor) -> np.ndarray:
        maps, last = (channels, images) if first else (1, images.permute(0, 2, 3, 1))
        return last.reshape(len(images), maps, size, -1).numpy()

    paste(as_lines(base), rows, partners.astype(np.int64), boxes, as_lines(out))
    return out
