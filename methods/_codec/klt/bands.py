"""Quantising rows of coefficients band by band, with a scale that follows each row.

Coefficients stand in falling order of variance, in bands that widen. The first bands of a row tell the decoder whether
this row is louder or quieter than its image; the gain is the running estimate of a one-dimensional filter (Fisher
scoring: sum of scores over sum of information), in integers, so encoder and decoder agree on every machine.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from methods._codec.klt.stream import PER_OCTAVE, TOP
from methods._codec.klt.tables import (
    CENTRES,
    FRACTION,
    GAIN_ONE,
    INFORMATION,
    LARGEST,
    LOWEST,
    SCORE,
    STEP,
    THRESHOLDS,
)

_PRIOR = GAIN_ONE // 20  # information before the first band: rows of an image differ by about 4.5 units
_MEMORY = GAIN_ONE // 2  # information is never taken for more: later bands may differ from the first
_FINE = 256
_FARTHEST = 64  # units

Take = Callable[[slice, np.ndarray], np.ndarray]  # (band, buckets [rows, width]) -> levels [rows, width]


def split(width: int) -> list[slice]:
    """Bands of 2, 2, 4, 4, 8, 8, ... coefficients, at most 64."""
    bands, start, size = [], 0, 2
    while start < width:
        for _ in range(2):
            if start < width:
                bands.append(slice(start, min(start + size, width)))
                start += size
        size = min(2 * size, 64)
    return bands


def widen(gains: np.ndarray, width: int) -> np.ndarray:
    """[..., width]: what stands for a band [..., bands], for each of its coefficients."""
    return np.repeat(gains, [band.stop - band.start for band in split(width)], axis=-1)


def buckets_of(units: np.ndarray) -> np.ndarray:
    """int16: the bucket of a log-scale; negative: only zeros."""
    return ((units - (LOWEST - STEP // 2)) >> 2).astype(np.int16)


def run(base: np.ndarray, rows: int, take: Take) -> tuple[np.ndarray, np.ndarray]:
    """Levels and buckets of all bands in turn.

    Args:
        base: int32 [rows or 1, D] log-scales before the row's own gain, units.
        rows: how many there are.
        take: quantises, or reads, the levels of one band.

    Returns:
        levels int32 [rows, D], buckets int16 [rows, D].
    """
    width = base.shape[1]
    levels, buckets = np.zeros((rows, width), np.int32), np.full((rows, width), -1, np.int16)
    gain, information = np.zeros(rows, np.int64), np.full(rows, _PRIOR, np.int64)
    for band in split(width):
        chosen = buckets_of(base[:, band] + np.clip(gain // _FINE, -_FARTHEST, _FARTHEST)[:, None].astype(np.int32))
        if chosen.max(initial=-1) < 0:
            continue
        taken = take(band, chosen)
        levels[:, band], buckets[:, band] = taken, chosen
        if band.stop < width:
            score, known = evidence(chosen, taken)
            information = np.minimum(information + known, _MEMORY)
            gain += score * _FINE // information
    return levels, buckets


def evidence(buckets: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64 [rows] each: score and information about a common gain."""
    live = buckets >= 0
    place = np.clip(buckets, 0, TOP)
    high = np.minimum(np.abs(levels) >> octaves(buckets), LARGEST)
    return (SCORE[place, high] * live).sum(1), (INFORMATION[place] * live).sum(1)


def octaves(buckets: np.ndarray) -> np.ndarray:
    """How many octaves above the last table: bits that go out raw."""
    return np.maximum(0, -((TOP - buckets.astype(np.int32)) // PER_OCTAVE))


def quantise(values: np.ndarray, buckets: np.ndarray) -> np.ndarray:
    """int32: levels of `values` (in steps), rounded for the best trade of distortion and bits."""
    size = np.abs(values)
    low = np.floor(size)
    turn = THRESHOLDS[np.clip(buckets, 0, TOP), np.minimum(low, LARGEST).astype(np.int64)]
    turn = np.where(buckets > TOP, np.float32(0.5), turn)
    level = low + (size - low > turn)
    level[buckets < 0] = 0
    return np.copysign(level, values).astype(np.int32)


def restore(levels: np.ndarray, buckets: np.ndarray) -> np.ndarray:
    """int64: reconstructed values in 1/FRACTION steps."""
    size = np.abs(levels).astype(np.int64)
    table = CENTRES[np.clip(buckets, 0, TOP), np.minimum(size, LARGEST)]
    value = np.where((size < LARGEST) & (buckets <= TOP), table, FRACTION * size)
    return np.where(levels < 0, -value, value)
