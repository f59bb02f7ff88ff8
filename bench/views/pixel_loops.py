"""Loops over pixels, compiled by numba: resampling that reads two pixels along each axis, and pasting of boxes.

Resampling is there twice, for two ways to sum: `rounded` rounds every product and every sum, `fused` a product and a
sum together (fused multiply-add). Which of them gives the bits of a library's matrix products is for
bench.views.resampling to find.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit


def _both_axes(x: np.ndarray, first: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """out[i, c, r, j] = sum_k sum_l rows[r, k] x[i, c, k, l] columns[j, l] over two pixels k and two l.

    Args:
        x: float32 [n, C, size, size].
        first: int32 [2 (rows, columns), n, size]: the first of the two pixels that each output pixel reads.
        weights: float32 [2 (first, second), 2 (rows, columns), n, size].
        out: float32 [n, C, size, size], written.
    """
    n, channels, size, _ = x.shape
    # A sum begins at zero, as those of matrix products do: of two products of -0 it is 0.
    zero = np.float32(0)
    tall = np.empty((size, size), np.float32)
    for i in range(n):
        for channel in range(channels):
            for k in range(size):
                for j in range(size):
                    at = first[1, i, j]
                    near = zero + x[i, channel, k, at] * weights[0, 1, i, j]
                    tall[k, j] = near + x[i, channel, k, at + 1] * weights[1, 1, i, j]
            for r in range(size):
                at = first[0, i, r]
                here, there = weights[0, 0, i, r], weights[1, 0, i, r]
                for j in range(size):
                    near = zero + here * tall[at, j]
                    out[i, channel, r, j] = near + there * tall[at + 1, j]


_inlined = njit(inline="always")(_both_axes)  # so that it is compiled by the options of its caller


def _rounded(x: np.ndarray, first: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    _inlined(x, first, weights, out)


def _fused(x: np.ndarray, first: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    _inlined(x, first, weights, out)


def _compiled(function: Callable[..., None], **options: set[str]) -> Callable[..., None]:
    """Compiled when first called, and kept on disk where that can be written.

    As methods/_compiled.py, which the engine may not import, and whose digest stands in records.
    """
    try:
        loop: Callable[..., None] = njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # neither beside its file nor in the user's cache folder
        loop = njit(nogil=True, **options)(function)
    return loop


def _paste(base: np.ndarray, rows: np.ndarray, partners: np.ndarray, boxes: np.ndarray, out: np.ndarray) -> None:
    """Copies images, and of their partners a box.

    Args:
        base: float32 [N, maps, size, size * values]: `values` of a pixel lie side by side.
        rows, partners: int64 [n].
        boxes: uint16 [n, 4]: top, left, height, width.
        out: float32 [n, maps, size, size * values], written.
    """
    n, maps, size, length = out.shape
    values = length // size
    for i in range(n):
        top, left = int(boxes[i, 0]), int(boxes[i, 1]) * values
        bottom, right = top + int(boxes[i, 2]), left + int(boxes[i, 3]) * values
        for at in range(maps):
            out[i, at] = base[rows[i], at]
            for r in range(top, bottom):
                out[i, at, r, left:right] = base[partners[i], at, r, left:right]


rounded = _compiled(_rounded)
fused = _compiled(_fused, fastmath={"contract"})
paste = _compiled(_paste)
