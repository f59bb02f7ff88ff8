"""The means of all images of a set, coded once: what a blob knows of partners that it does not hold.

A set is coded shard by shard, and most partners of a large set are in other shards. The table is in the shared part; a
blob then tells its own images' means as what the table leaves, so that the precision is not paid for twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from methods._codec import bits as packing
from methods._codec.klt import meanrows
from methods._codec.klt.steps import step_of
from methods._codec.klt.stream import Reader, Writer
from methods._codec.klt.tables import FRACTION
from methods._codec.klt.trellis import CODER

_TOGETHER = 1024  # images whose levels are in memory at once, and in a stream


@dataclass(frozen=True, eq=False)
class SetMeans:
    """Of N images, D coefficients each."""

    index: int  # of the step
    exponent: int  # the values are relative to 2^exponent
    scales: np.ndarray  # int32 [D]: log2 of the means' standard deviation, units
    values: np.ndarray  # float32 [N, D]: as decoded
    sections: Mapping[str, np.ndarray]  # the code: "b" how loud bands are, "t" levels, "l" lengths of their streams

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
    writer, streams, values = Writer(), list[np.ndarray](), np.zeros(means.shape, np.float32)
    for some in _chunks(len(means)):
        coded = meanrows.code(means[some], scales, index)
        assert coded.paths is not None
        coded.write_gains(writer)
        streams.append(CODER.write([coded.paths.some(slice(None))]))
        values[some] = _meaning(coded.whole, index)
    lengths = packing.encode_uints(np.array([len(words) for words in streams]))
    return SetMeans(index, exponent, scales, values, {"b": writer.words(), "t": np.concatenate(streams), "l": lengths})


def read(sections: Mapping[str, np.ndarray], count: int, scales: np.ndarray, index: int, exponent: int) -> SetMeans:
    """The inverse of `code` of `count` images."""
    kept = {name: sections[name] for name in ("b", "t", "l")}
    reader, values = Reader(kept["b"]), np.zeros((count, len(scales)), np.float32)
    chunks = _chunks(count)
    ends = np.cumsum(packing.decode_uints(kept["l"], len(chunks)))
    for some, words in zip(chunks, np.split(kept["t"], ends[:-1]), strict=True):
        values[some] = _meaning(
            meanrows.read(reader, CODER.reader(words), some.stop - some.start, scales, index).whole, index
        )
    return SetMeans(index, exponent, scales, values, kept)


def _chunks(count: int) -> list[slice]:
    return [slice(start, min(start + _TOGETHER, count)) for start in range(0, count, _TOGETHER)]


def _meaning(whole: np.ndarray, index: int) -> np.ndarray:
    """float32: elementwise, hence the same everywhere."""
    return (whole * (step_of(index) / FRACTION)).astype(np.float32)
