"""Levels to range-coded words and back, each level with the model of its bucket.

Within a block, levels are coded bucket by bucket (a call per bucket, not per level), in order of place. A level below
bucket 0 is zero and costs nothing. After them come, for the whole block: the lowest bits of levels whose scale is too
large for a table, one for each octave above; and what is above `LARGEST` of magnitudes that reach it, in an Elias gamma
code, so any int32 survives.
"""

from __future__ import annotations

import constriction
import numpy as np

from methods._codec.klt.tables import ESCAPE_BITS, LARGEST, MOST_RAW, PER_OCTAVE, TOP, model, uniform

_RAW = 16  # bits at once
_BUCKET_BITS = PER_OCTAVE.bit_length() - 1
assert PER_OCTAVE == 1 << _BUCKET_BITS


class Writer:
    """Codes blocks of levels into one stream of uint32 words."""

    def __init__(self) -> None:
        self._encoder = constriction.stream.queue.RangeEncoder()

    def write(self, buckets: np.ndarray, levels: np.ndarray) -> None:
        """Levels int32 [m] with buckets int [m], -1 or more; the reader must know the buckets when it comes to this
        block."""
        order, counts, shift = _order(buckets)
        high = levels.take(order)
        beyond = high[len(high) - len(shift) :]
        whole = beyond.copy()
        beyond >>= shift
        symbols = np.minimum(np.maximum(high, -LARGEST), LARGEST)
        symbols += LARGEST
        start = 0
        for bucket, count in enumerate(counts):
            if count:
                self._encoder.encode(symbols[start : start + count], model(bucket))
                start += count
        for bits in _octaves_of(shift):
            self._raw(whole[shift == bits] & ((1 << bits) - 1), bits)
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
        """int32 [m]: the levels of the next block, buckets int [m], -1 or more."""
        order, counts, shift = _order(buckets)
        high = np.empty(len(order), np.int32)
        start = 0
        for bucket, count in enumerate(counts):
            if count:
                high[start : start + count] = self._decoder.decode(model(bucket), count)
                start += count
        high -= LARGEST
        low = np.zeros(len(shift), np.int32)
        for bits in _octaves_of(shift):
            places = shift == bits
            low[places] = self._raw(int(np.count_nonzero(places)), bits)
        if high.size and (high.max() == LARGEST or high.min() == -LARGEST):
            far = np.flatnonzero(np.abs(high) == LARGEST)
            high[far] = np.sign(high[far]) * (self._gamma(len(far)) + LARGEST - 1)
        beyond = high[len(high) - len(shift) :]
        beyond <<= shift
        beyond |= low
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
    bucket has; and int32: how many octaves beyond the tables the last places are, empty where none is."""
    narrow = np.minimum(buckets, TOP)
    narrow += 1
    narrow = narrow.astype(np.uint8)
    counts = np.bincount(narrow, minlength=1)
    order = np.argsort(narrow, kind="stable")[counts[0] :]
    last = counts[TOP + 1] if len(counts) == TOP + 2 else 0
    shift = _octaves(buckets.take(order[len(order) - last :]))
    return order, counts[1:].tolist(), shift if shift.any() else shift[:0]


def _octaves(buckets: np.ndarray) -> np.ndarray:
    """int32: how many octaves above the last table: bits that go out raw."""
    above = (buckets.astype(np.int32) + (PER_OCTAVE - 1 - TOP)) >> _BUCKET_BITS
    return np.minimum(np.maximum(above, 0, out=above), MOST_RAW, out=above)


def _octaves_of(shift: np.ndarray) -> list[int]:
    """Which numbers of octaves occur, ascending, more than none."""
    return [bits for bits in np.flatnonzero(np.bincount(shift)).tolist() if bits] if len(shift) else []
