"""The means of all images of a set, coded once: what a blob knows of partners that it does not hold.

A set is coded shard by shard, and most partners of a large set are in other shards. The table is in the shared part; a
blob then tells its own images' means as what the table leaves, so that the precision is not paid for twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from methods._codec.klt import bands, meanrows
from methods._codec.klt.meanrows import MeanRows
from methods._codec.klt.steps import step_of
from methods._codec.klt.stream import Reader, Writer
from methods._codec.klt.tables import FRACTION

_TOGETHER = 1024  # images whose levels are in memory at once


@dataclass(frozen=True, eq=False)
class SetMeans:
    """Of N images, D coefficients each."""

    index: int  # of the step
    exponent: int  # the values are relative to 2^exponent
    scales: np.ndarray  # int32 [D]: log2 of the means' standard deviation, units
    values: np.ndarray  # float32 [N, D]: as decoded
    words: np.ndarray  # uint32: the code

    def of(self, images: np.ndarray, exponent: int) -> np.ndarray:
        """float32 [m, D], relative to 2^exponent, of these images (int64 [m]).

        Raises ValueError for an image that is not of the set.
        """
        if images.max(initial=0) >= len(self.values):
            raise ValueError(
                f"shared: was fitted on a set of {len(self.values)} images, the labels are of image {images.max()} too"
            )
        return np.ldexp(self.values[images], self.exponent - exponent)


def code(means: np.ndarray, scales: np.ndarray, index: int, exponent: int) -> SetMeans:
    """The table of `means` (float32 [N, D], relative to 2^exponent) at the step of this index."""
    writer, values = Writer(), np.empty(means.shape, np.float32)
    for start in range(0, len(means), _TOGETHER):
        some = slice(start, start + _TOGETHER)
        coded = meanrows.code(means[some], scales, index)
        coded.write(writer)
        values[some] = _meaning(coded, index)
    return SetMeans(index, exponent, scales, values, writer.words())


def read(words: np.ndarray, count: int, scales: np.ndarray, index: int, exponent: int) -> SetMeans:
    """The inverse of `code` of `count` images."""
    reader, values = Reader(words), np.empty((count, len(scales)), np.float32)
    for start in range(0, count, _TOGETHER):
        n = min(_TOGETHER, count - start)
        values[start : start + n] = _meaning(meanrows.read(reader, n, scales, index), index)
    return SetMeans(index, exponent, scales, values, words)


def _meaning(coded: MeanRows, index: int) -> np.ndarray:
    """float32: elementwise, hence the same everywhere."""
    return (bands.restore(coded.levels) * (step_of(index) / FRACTION)).astype(np.float32)
