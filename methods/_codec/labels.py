"""What every compressor does with labels first and last: check them, scale them, give back rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from bench.errors import InfeasibleError
from methods._codec import bits

if TYPE_CHECKING:
    from bench.api import SoftLabels

_EXPONENT_BIAS = 1024  # exponents of float32 norms lie in -149..160
_CHUNK_VALUES = 1 << 22  # values worked on at once: 32 MiB in float64


def checked_logits(labels: SoftLabels) -> np.ndarray:
    """The logits, [n, K, C] float16 or float32, none of them NaN or infinite.

    Raises:
        ValueError: not [n, K, C] with every size >= 1, not a float16/float32 tensor, or a value that is not finite;
            the message names image, row and column.
    """
    logits = labels.logits.detach().cpu()
    if logits.ndim != 3 or min(logits.shape) < 1:
        raise ValueError(f"labels.logits must be [n, K, C] with every size >= 1, got {list(logits.shape)}")
    if logits.dtype not in (torch.float16, torch.float32):
        raise ValueError(f"labels.logits must be float16 or float32, got {logits.dtype}")
    values = logits.numpy()
    for start, part in chunks(values):
        bad = ~np.isfinite(part)
        if bad.any():
            image, row, column = (int(i) for i in np.argwhere(bad)[0])
            value = part[image, row, column]
            raise ValueError(f"labels.logits: {value} at image {start + image}, row {row}, column {column}")
    return values


def chunks(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(first image, images) in pieces of bounded memory."""
    step = max(1, _CHUNK_VALUES // max(1, values[0].size))
    for start in range(0, len(values), step):
        yield start, values[start : start + step]


def checked_rows(rows: Sequence[int] | np.ndarray | None, k: int) -> np.ndarray:
    """int64 view indices; None stands for 0..k-1.

    Raises:
        ValueError: an index outside 0..k-1; the message names it.
    """
    if rows is None:
        return np.arange(k)
    picked = np.asarray(rows, np.int64).reshape(-1)
    outside = picked[(picked < 0) | (picked >= k)]
    if outside.size:
        raise ValueError(f"rows: {int(outside[0])} is not a stored view, allowed are 0..{k - 1}")
    return picked


def norm_exponents(values: np.ndarray) -> np.ndarray:
    """int64 [n]: the least e with Frobenius norm < 2^e for each image [K, C]; 0 for an image of zeros.

    A power of two is an exact scale, and one above the norm bounds every sum of products of balanced factors by one
    (see `factors`). Squares are taken in float64, so neither 1e-30 nor 1e30 leaves the range.
    """
    result = np.zeros(len(values), np.int64)
    for start, part in chunks(values):
        wide = part.astype(np.float64)
        result[start : start + len(part)] = np.frexp(np.sqrt(np.einsum("nkc,nkc->n", wide, wide)))[1]
    return result


def fp16_exponents(values: np.ndarray) -> np.ndarray:
    """int64 [n]: 0 where an image's values are stored in float16 as they are, else e such that values / 2^e fit well.

    Only float32 input can need one: a largest magnitude above 65,504 or below 2^-8 (where subnormal steps would show).
    """
    largest = np.abs(values).reshape(len(values), -1).max(1).astype(np.float64)
    fits = (largest == 0) | ((largest >= 2.0**-8) & (largest <= 65504))
    if values.dtype == np.float16:
        fits[:] = True
    return np.where(fits, 0, np.frexp(largest)[1])


def encode_exponents(exponents: np.ndarray) -> np.ndarray:
    """uint8 section, a few bits per image (5 bytes when all are equal)."""
    return bits.encode_uints(exponents + _EXPONENT_BIAS)


def decode_exponents(section: np.ndarray, n: int) -> np.ndarray:
    """int64 [n]."""
    return bits.decode_uints(section, n) - _EXPONENT_BIAS


def scaled(values: np.ndarray, exponents: np.ndarray, dtype: type = np.float64) -> np.ndarray:
    """values * 2^exponents per image (first axis), exact up to the rounding to `dtype`."""
    wide = exponents.reshape(-1, *[1] * (values.ndim - 1)).astype(np.int32)
    return np.ldexp(values.astype(np.float64), wide).astype(dtype)


def require(smallest_bytes: int, budget_bytes: int, what: str) -> None:
    """Raise InfeasibleError when `what`, the smallest code, needs more than the budget."""
    if smallest_bytes > budget_bytes:
        raise InfeasibleError(smallest_bytes, f"{what} takes more than the {budget_bytes} bytes left")


def largest_feasible(size: Callable[[int], int], low: int, high: int, budget_bytes: int, what: str) -> int:
    """The largest m in low..high with size(m) <= budget_bytes, where `size` does not fall.

    Raises:
        InfeasibleError: size(low) is above the budget; it carries size(low).
    """
    require(size(low), budget_bytes, what)
    while low < high:
        middle = (low + high + 1) // 2
        if size(middle) <= budget_bytes:
            low = middle
        else:
            high = middle - 1
    return low
