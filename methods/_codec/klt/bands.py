"""Bands of components and how loud they are; what the few numbers take that are coded one by one."""

from __future__ import annotations

from functools import cache

import numpy as np

from methods._codec.klt.tables import BITS, ESCAPE_BITS, LARGEST, LOWEST, STEP, STRIDE, UNITS

_LOUDEST_BAND = 120  # quarter octaves


@cache
def split(width: int) -> tuple[slice, ...]:
    """Bands that have a gain of their own: of 2, 2, 4, 4, 8, 8, ... components, at most 64."""
    bands, start, size = list[slice](), 0, 2
    while start < width:
        for _ in range(2):
            if start < width:
                bands.append(slice(start, min(start + size, width)))
                start += size
        size = min(2 * size, 64)
    return tuple(bands)


def louder(base: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """int32 [..., D]: log-scales [D], units, with gains of bands [..., bands], 1/4 octave."""
    widths = [band.stop - band.start for band in split(len(base))]
    found: np.ndarray = base + np.repeat(STEP * gains, widths, axis=-1)
    return found


def gains_of(squares: np.ndarray, scales: np.ndarray, base: np.ndarray) -> np.ndarray:
    """int32 [bands]: how much louder than `scales` coefficients with these mean squares [D] are, 1/4 octave.

    Where nothing will be coded anyway the gain is what costs least.
    """
    starts = np.array([band.start for band in split(len(scales))])
    found = np.add.reduceat(np.asarray(squares, np.float64), starts)
    usual = np.add.reduceat(np.exp2(2.0 / UNITS * scales), starts)
    gains = np.rint(0.5 * UNITS / STEP * np.log2(np.maximum(found / usual, 2.0**-200)))
    gains = clipped(gains, _LOUDEST_BAND).astype(np.int32)
    loudest = np.maximum.reduceat(base, starts) + STEP * gains
    for band in np.flatnonzero(buckets_of(loudest) < 0):
        gains[band] = min(gains[band - 1] if band else 0, gains[band])
    return gains


def differences(numbers: np.ndarray) -> np.ndarray:
    """int32: each number less the one before it in its row."""
    return np.diff(numbers, axis=1, prepend=0).ravel().astype(np.int32)


def buckets_of(units: np.ndarray) -> np.ndarray:
    """int16: the bucket of a log-scale; -1: only zeros."""
    return np.maximum((units - (LOWEST - STEP // 2)) >> 2, -1).astype(np.int16)


def plain_bits(bucket: int, numbers: np.ndarray) -> float:
    """What int32 [m] take that all are coded under one bucket; escapes a little less exactly."""
    size = np.abs(numbers)
    total = float(np.bincount(np.minimum(size, LARGEST), minlength=STRIDE) @ BITS[(bucket + 1) * STRIDE :][:STRIDE])
    far = size[size >= LARGEST] - LARGEST
    return total + float((2 * np.log2(far + 1.0) + ESCAPE_BITS).sum())


def clipped(values: np.ndarray, most: int) -> np.ndarray:
    """`values`, at most so far from zero (np.clip takes longer than arithmetic on small arrays)."""
    return np.minimum(np.maximum(values, -most), most)
