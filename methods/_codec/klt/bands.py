"""Bands and gains; and quantising rows one level by itself, wave by wave, with a scale that follows each row.

So are images' means, leading levels and likely classes quantised; coefficients of rows, right factors and the table of
all means are in `trellis`.

Coefficients stand in falling order of variance, in waves that widen. The first waves of a row tell the decoder whether
this row is louder or quieter than its image; the gain is the running estimate of a one-dimensional filter (Fisher
scoring: sum of scores over sum of information), in integers, so encoder and decoder agree on every machine.

A coefficient's bucket (of its scale) and the magnitude of its level together are its cell, under which all tables are
looked up at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from methods._codec.klt.tables import (
    BITS,
    CENTRES,
    ESCAPE_BITS,
    FRACTION,
    GAIN_ONE,
    INFORMATION,
    LARGEST,
    LOWEST,
    PER_OCTAVE,
    SCORE,
    STEP,
    STRIDE,
    THRESHOLDS,
    TOP,
    UNITS,
    rate,
)

PRIOR = GAIN_ONE // 20  # information before the first wave: rows of an image differ by about 4.5 units
MEMORY = GAIN_ONE // 2  # information is never taken for more: later waves may differ from the first
FINE = 256
FARTHEST = 64  # units
LOUDEST = 1 << 13  # units
_LOUDEST_BAND = 120  # quarter octaves
MOST_RAW = 30
_WIDE = (1 << 31) // FRACTION  # levels from which on reconstructed values take int64
_BUCKET_BITS = PER_OCTAVE.bit_length() - 1
assert PER_OCTAVE == 1 << _BUCKET_BITS


_UNITS_OF = LOWEST + STEP * np.arange(-1, TOP + 1)
GROWTH = np.where(_UNITS_OF < LOWEST, 0.0, rate(_UNITS_OF + UNITS / 4) - rate(_UNITS_OF - UNITS / 4)) * 2


class Levels(NamedTuple):
    """Quantised coefficients, arrays of one shape."""

    values: np.ndarray  # int32
    buckets: np.ndarray  # int16: of the scale; -1: certainly zero
    cells: np.ndarray  # int16


Take = Callable[[slice, np.ndarray], np.ndarray]  # (wave, buckets [rows, width]) -> levels int32 [rows, width]


def nothing(shape: tuple[int, ...]) -> Levels:
    """All zero, for nothing."""
    return Levels(np.zeros(shape, np.int32), np.full(shape, -1, np.int16), np.zeros(shape, np.int16))


def split(width: int) -> list[slice]:
    """Bands that have a gain of their own: of 2, 2, 4, 4, 8, 8, ... coefficients, at most 64."""
    return _split(width, 2, 64)


def waves(width: int) -> list[slice]:
    """What is coded at a time: 4, 4, 8, 8, 16, 16, ... coefficients, at most 128."""
    return _split(width, 4, 128)


def _split(width: int, size: int, most: int) -> list[slice]:
    bands, start = [], 0
    while start < width:
        for _ in range(2):
            if start < width:
                bands.append(slice(start, min(start + size, width)))
                start += size
        size = min(2 * size, most)
    return bands


def widen(gains: np.ndarray, width: int) -> np.ndarray:
    """[..., width]: what stands for a band [..., bands], for each of its coefficients."""
    return np.repeat(gains, [band.stop - band.start for band in split(width)], axis=-1)


def gains_of(rows: np.ndarray, scales: np.ndarray, base: np.ndarray) -> np.ndarray:
    """int32 [bands]: how much louder than `scales` the rows [m, D] are in each band, 1/4 octave.

    Where nothing will be coded anyway the gain is what costs least.
    """
    starts = np.array([band.start for band in split(len(scales))])
    found = np.add.reduceat(np.einsum("md,md->d", rows, rows).astype(np.float64) / len(rows), starts)
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


def run(base: np.ndarray, rows: int, take: Take) -> Levels:
    """Levels [rows, D], wave by wave.

    Args:
        base: int32 [rows, D] log-scales before the row's own gain, units.
        rows: how many there are.
        take: quantises, or reads, the levels of one wave.
    """
    width = base.shape[1]
    found = nothing((rows, width))
    gain, information = np.zeros(rows, np.int64), np.full(rows, PRIOR, np.int64)
    start = clipped(base, LOUDEST).astype(np.int16) - (LOWEST - STEP // 2)
    for wave in waves(width):
        louder = clipped(gain // FINE, FARTHEST).astype(np.int16)
        chosen = start[:, wave] + louder[:, None]
        chosen >>= 2
        np.maximum(chosen, -1, out=chosen)
        if chosen.max(initial=-1) < 0:
            continue
        taken = take(wave, chosen)
        cells = cells_of(chosen, taken)
        found.values[:, wave], found.buckets[:, wave], found.cells[:, wave] = taken, chosen, cells
        if wave.stop < width:
            information += INFORMATION.take(cells).sum(1, dtype=np.int64)
            np.minimum(information, MEMORY, out=information)
            gain += SCORE.take(cells).sum(1, dtype=np.int64) * FINE // information
    return found


def cells_of(buckets: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """int16: see above; above the last table, the cell of the level without its lowest bits."""
    size = np.abs(levels)
    if buckets.max(initial=-1) > TOP:
        size >>= octaves(buckets)
        buckets = np.minimum(buckets, TOP)
    cells = (buckets + 1) * np.int16(STRIDE)
    cells += np.minimum(size, LARGEST, out=size).astype(np.int16)
    return cells


def octaves(buckets: np.ndarray) -> np.ndarray:
    """int32: how many octaves above the last table: bits that go out raw."""
    above = (buckets.astype(np.int32) + (PER_OCTAVE - 1 - TOP)) >> _BUCKET_BITS
    return np.minimum(np.maximum(above, 0, out=above), MOST_RAW, out=above)


def bits(levels: Levels) -> float:
    """What coding takes, to a part in a thousand; escapes a little less exactly."""
    total = float(np.bincount(levels.cells.ravel(), minlength=len(BITS)) @ BITS)
    if levels.buckets.max(initial=-1) > TOP:
        total += float(octaves(levels.buckets).sum())
    far = levels.values[(levels.cells & (STRIDE - 1)) == LARGEST]
    if far.size:
        total += float((2 * np.log2(np.maximum(np.abs(far) - LARGEST, 0) + 1.0) + ESCAPE_BITS).sum())
    return total


def growth(levels: Levels) -> float:
    """By how much `bits` grows on average for each octave that scales rise."""
    return float(np.bincount(levels.buckets.ravel() + 1, minlength=len(GROWTH))[: len(GROWTH)] @ GROWTH)


def plain_bits(bucket: int, numbers: np.ndarray) -> float:
    """The same of int32 [m] that all are coded under one bucket."""
    chosen = np.full(numbers.shape, bucket, np.int16)
    return bits(Levels(numbers, chosen, cells_of(chosen, numbers)))


def clipped(values: np.ndarray, most: int) -> np.ndarray:
    """`values`, at most so far from zero (np.clip takes longer than arithmetic on small arrays)."""
    return np.minimum(np.maximum(values, -most), most)


def quantise(values: np.ndarray, buckets: np.ndarray) -> np.ndarray:
    """int32: levels of float32 `values` (in steps), rounded for the best trade of distortion and bits."""
    size = np.abs(values)
    np.minimum(size, np.float32(2.0**30), out=size)
    level = size.astype(np.int32)
    size -= level
    cells = np.minimum(level, LARGEST).astype(np.int16)
    cells += (np.minimum(buckets, TOP + 1) + 1) * np.int16(STRIDE)
    level += size > THRESHOLDS.take(cells)
    level *= buckets >= 0
    return _signed(level, values.view(np.int32))


def _signed(sizes: np.ndarray, like: np.ndarray) -> np.ndarray:
    """`sizes` with the signs of `like`, int32 both, in place."""
    negative = like >> 31  # -1 or 0: in two's complement -x is ~x + 1
    sizes ^= negative
    sizes -= negative
    return sizes


def restore(levels: Levels) -> np.ndarray:
    """int32: reconstructed values in 1/FRACTION steps; int64 where a level is too large for that."""
    values: np.ndarray = _signed(CENTRES.take(levels.cells), levels.values)
    top, bottom = int(levels.values.max(initial=0)), int(levels.values.min(initial=0))
    if levels.buckets.max(initial=-1) > TOP or max(top, -bottom) >= LARGEST:
        whole = (levels.buckets > TOP) | (np.abs(levels.values) >= LARGEST)
        wide = np.int32 if max(top, -bottom) < _WIDE else np.int64
        values = values.astype(wide, copy=False)
        np.multiply(levels.values, FRACTION, out=values, where=whole, dtype=wide)
    return values
