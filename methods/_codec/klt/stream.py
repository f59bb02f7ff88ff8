"""Levels to range-coded words and back, each level with the model of its bucket.

Within a block, levels are coded bucket by bucket (a call per bucket, not per level), in order of place. A level below
bucket 0 is zero and costs nothing. After them come, for the whole block: the lowest bits of levels whose scale is too
large for a table, one for each octave above; and what is above `LARGEST` of magnitudes that reach it, in an Elias gamma
code, so any int32 survives.
"""

from __future__ import annotations

import constriction
import numpy as np

from methods._codec.klt.bands import octaves
from methods._codec.klt.tables import ESCAPE_BITS, LARGEST, TOP, model, uniform

_RAW = 16  # bits at once


class Writer:
    """Codes blocks of levels into one stream of uint32 words."""

    def __init__(self) -> None:
        self._encoder = constriction.stream.queue.RangeEncoder()

    def write(self, buckets: np.ndarray, levels: np.ndarray) -> None:
        """Levels int32 [m] with buckets int [m]; the reader must know the buckets when it comes to this block."""
        order, counts, above = _order(buckets)
        picked = levels.take(order)
        high = picked
        if above.size:
            shift = octaves(buckets.take(order))
            high = picked >> shift
        symbols = np.minimum(np.maximum(high, -LARGEST), LARGEST)
        symbols += LARGEST
        start = 0
        for bucket, count in enumerate(counts):
            if count:
                self._encoder.encode(symbols[start : start + count], model(bucket))
                start += count
        if above.size:
            for bits in above:
                places = shift == bits
                self._raw(picked[places] & ((1 << int(bits)) - 1), int(bits))
        if symbols.size and (symbols.max() == 2 * LARGEST or symbols.min() == 0):
            far = np.abs(high[(symbols == 2 * LARGEST) | (symbols == 0)])
            self._gamma(far - LARGEST + 1)

    def words(self) -> np.ndarray:
        """uint32: the stream so far."""
        return self._encoder.get_compressed()

    def _raw(self, values: np.ndarray, bits: int) -> None:
        for low in range(0, bits, _RAW):
            width = min(_RAW, bits - low)
            self._encoder.encode(((values >> low) & ((1 << width) - 1)).astype(np.int32), uniform(width))

    def _gamma(self, values: np.ndarray) -> None:
        lengths = np.frexp(values.astype(np.float64))[1] - 1
        self._encoder.encode(lengths.astype(np.int32), uniform(ESCAPE_BITS))
        for length in np.unique(lengths[lengths > 0]):
            self._raw(values[lengths == length] - (1 << int(length)), int(length))


class Reader:
    """Reads what a Writer wrote, block by block."""

    def __init__(self, words: np.ndarray) -> None:
        self._decoder = constriction.stream.queue.RangeDecoder(np.ascontiguousarray(words, np.uint32))

    def read(self, buckets: np.ndarray) -> np.ndarray:
        """int32 [m]: the levels of the next block."""
        order, counts, above = _order(buckets)
        high = np.empty(len(order), np.int32)
        start = 0
        for bucket, count in enumerate(counts):
            if count:
                high[start : start + count] = self._decoder.decode(model(bucket), count)
                start += count
        high -= LARGEST
        low: np.ndarray | int = 0
        if above.size:
            shift = octaves(buckets.take(order))
            low = np.zeros_like(high)
            for bits in above:
                places = shift == bits
                low[places] = self._raw(int(places.sum()), int(bits))
        if high.size and (high.max() == LARGEST or high.min() == -LARGEST):
            far = np.flatnonzero(np.abs(high) == LARGEST)
            high[far] = np.sign(high[far]) * (self._gamma(len(far)) + LARGEST - 1)
        if above.size:
            high = (high << shift) | low
        levels = np.zeros(len(buckets), np.int32)
        levels[order] = high
        return levels

    def _raw(self, count: int, bits: int) -> np.ndarray:
        values = np.zeros(count, np.int32)
        for low in range(0, bits, _RAW):
            values |= self._decoder.decode(uniform(min(_RAW, bits - low)), count) << low
        return values

    def _gamma(self, count: int) -> np.ndarray:
        lengths = self._decoder.decode(uniform(ESCAPE_BITS), count)
        values = 1 << lengths
        for length in np.unique(lengths[lengths > 0]):
            places = lengths == length
            values[places] += self._raw(int(places.sum()), int(length))
        return values


def _order(buckets: np.ndarray) -> tuple[np.ndarray, list[int], np.ndarray]:
    """Places of what is not certainly zero, bucket by bucket, those beyond the tables with the last; how many each
    bucket has; and int64, ascending, which numbers of octaves beyond the tables occur, more than none."""
    narrow = (np.minimum(np.maximum(buckets, -1), TOP) + 1).astype(np.uint8)
    counts = np.bincount(narrow, minlength=1)
    order = np.argsort(narrow, kind="stable")[counts[0] :]
    above = np.zeros(0, np.int64)
    if len(counts) == TOP + 2 and buckets.max() > TOP:
        above = np.flatnonzero(np.bincount(octaves(buckets).ravel()))
    return order, counts[1:].tolist(), above[above > 0]
