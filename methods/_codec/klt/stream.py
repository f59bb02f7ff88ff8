"""Levels to range-coded words and back, each level with the model of its bucket.

Within a block, levels are coded bucket by bucket (a call per bucket, not per level), in order of place. A bucket at or
above `BUCKETS` stands for a scale too large for a table: the lowest bits, one for each octave above, go out raw. A
level below bucket 0 is zero and costs nothing. Magnitudes of `LARGEST` and more are escaped: what is above follows
in an Elias gamma code, so any int32 survives.
"""

from __future__ import annotations

from collections.abc import Iterator

import constriction
import numpy as np

from methods._codec.klt.tables import BITS, BUCKETS, LARGEST, STEP, UNITS, model, uniform

PER_OCTAVE = UNITS // STEP
TOP = BUCKETS - 1
_LENGTH_BITS = 5
_RAW = 16  # bits at once


class Writer:
    """Codes blocks of levels into one stream of uint32 words."""

    def __init__(self) -> None:
        self._encoder = constriction.stream.queue.RangeEncoder()

    def write(self, buckets: np.ndarray, levels: np.ndarray) -> None:
        """Levels int32 [m] with buckets int [m]; the reader must know the buckets when it comes to this block."""
        for bucket, places in _by_bucket(buckets):
            picked, shift = levels[places], _shift(bucket)
            high = picked >> shift
            self._encoder.encode((np.clip(high, -LARGEST, LARGEST) + LARGEST).astype(np.int32), model(min(bucket, TOP)))
            self._raw(picked & ((1 << shift) - 1), shift)
            escaped = high[np.abs(high) >= LARGEST]
            if escaped.size:
                self._gamma(np.abs(escaped) - LARGEST + 1)

    def words(self) -> np.ndarray:
        """uint32: the stream so far."""
        return self._encoder.get_compressed()

    def _raw(self, values: np.ndarray, bits: int) -> None:
        for low in range(0, bits, _RAW):
            width = min(_RAW, bits - low)
            self._encoder.encode(((values >> low) & ((1 << width) - 1)).astype(np.int32), uniform(width))

    def _gamma(self, values: np.ndarray) -> None:
        lengths = np.frexp(values.astype(np.float64))[1] - 1
        self._encoder.encode(lengths.astype(np.int32), uniform(_LENGTH_BITS))
        for length in np.unique(lengths[lengths > 0]):
            self._raw(values[lengths == length] - (1 << int(length)), int(length))


class Reader:
    """Reads what a Writer wrote, block by block."""

    def __init__(self, words: np.ndarray) -> None:
        self._decoder = constriction.stream.queue.RangeDecoder(np.ascontiguousarray(words, np.uint32))

    def read(self, buckets: np.ndarray) -> np.ndarray:
        """int32 [m]: the levels of the next block."""
        levels = np.zeros(len(buckets), np.int32)
        for bucket, places in _by_bucket(buckets):
            shift = _shift(bucket)
            high = self._decoder.decode(model(min(bucket, TOP)), len(places)) - LARGEST
            low = self._raw(len(places), shift)
            escaped = np.flatnonzero(np.abs(high) >= LARGEST)
            if escaped.size:
                high[escaped] = np.sign(high[escaped]) * (self._gamma(len(escaped)) + LARGEST - 1)
            levels[places] = (high << shift) | low
        return levels

    def _raw(self, count: int, bits: int) -> np.ndarray:
        values = np.zeros(count, np.int32)
        for low in range(0, bits, _RAW):
            values |= self._decoder.decode(uniform(min(_RAW, bits - low)), count) << low
        return values

    def _gamma(self, count: int) -> np.ndarray:
        lengths = self._decoder.decode(uniform(_LENGTH_BITS), count)
        values = 1 << lengths
        for length in np.unique(lengths[lengths > 0]):
            places = lengths == length
            values[places] += self._raw(int(places.sum()), int(length))
        return values


def bits(buckets: np.ndarray, levels: np.ndarray) -> float:
    """What `Writer.write` will take, to a part in a thousand; escapes a little less exactly."""
    live = buckets >= 0
    buckets, levels = buckets[live], np.abs(levels[live])
    if not buckets.size:
        return 0.0
    shift = _shifts(buckets)
    high = levels >> shift
    far = high >= LARGEST
    escape = float((2 * np.log2(high[far] - LARGEST + 1.0) + _LENGTH_BITS).sum()) if far.any() else 0.0
    return float(BITS[np.minimum(buckets, TOP), np.minimum(high, LARGEST)].sum(dtype=np.float64) + shift.sum()) + escape


def _shift(bucket: int) -> int:
    return max(0, -(-(bucket - TOP) // PER_OCTAVE))


def _shifts(buckets: np.ndarray) -> np.ndarray:
    return np.maximum(0, -((TOP - buckets) // PER_OCTAVE))


def _by_bucket(buckets: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(bucket, its places in ascending order), buckets from 0 up. Buckets above 255 share the last."""
    narrow = np.clip(buckets, -1, 254).astype(np.int16) + 1
    order = np.argsort(narrow.astype(np.uint8), kind="stable")
    counts = np.bincount(narrow, minlength=256)
    ends = np.cumsum(counts)
    for value in np.flatnonzero(counts[1:]) + 1:
        yield int(value) - 1, order[ends[value] - counts[value] : ends[value]]
