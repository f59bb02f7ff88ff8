"""Uniform scalar quantisation of rows: each has its least value and its step in float16, every value 2 to 8 bits.

The codes are packed, or coded by their information: one stream for each view of the shard, over all its images, range
coded with one table of frequencies, or a frame of Zstandard (RFC 8878). A stream is opened only when its view is asked
for. Where packed codes are no longer than the streams, they are packed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import constriction
import numpy as np
import zstandard

from bench import varint
from methods._codec import bits as packing

CODERS = ("none", "range", "zstd")
_ZSTD_LEVEL = 19  # an image of 300 x 1,000 takes 30 to 120 ms, at 9 a fifth of it and up to a sixth more bytes


@dataclass(frozen=True)
class Rows:
    """Quantised rows [n, K, C]: value = low + step * code."""

    codes: np.ndarray  # uint8 [n, K, C]
    low: np.ndarray  # float16 [n, K]
    step: np.ndarray  # float16 [n, K]

    def values(self) -> np.ndarray:
        """float64 [n, K, C]."""
        return restore(self.codes, self.low, self.step)


def restore(codes: np.ndarray, low: np.ndarray, step: np.ndarray) -> np.ndarray:
    """float64 [..., C] of codes [..., C] with their rows' low and step [...]."""
    return low.astype(np.float64)[..., None] + step.astype(np.float64)[..., None] * codes


def quantise(values: np.ndarray, bits: int) -> Rows:
    """Rows of [n, K, C], magnitudes below one; low and step are rounded first, so that the codes answer to them."""
    top = 2**bits - 1
    least = values.min(2)
    low = least.astype(np.float16)
    low = np.where(low > least, np.nextafter(low, np.float16(-np.inf)), low)  # no value lies below the first code
    reach = np.maximum(values.max(2) - low.astype(np.float64), 0) / top
    step = reach.astype(np.float16)
    step = np.where(step < reach, np.nextafter(step, np.float16(np.inf)), step)  # the largest value stays in reach
    wide = step.astype(np.float64)[..., None]
    rest = values - low.astype(np.float64)[..., None]
    codes = np.divide(rest, wide, out=np.zeros(values.shape), where=wide > 0)
    return Rows(np.rint(codes).clip(0, top).astype(np.uint8), low, step)


def sections(codes: np.ndarray, bits: int, coder: str) -> dict[str, np.ndarray]:
    """Section b (bits), and q (packed codes, view by view), or w and s (the streams and how long each is), with f
    (frequencies) where they are range coded."""
    by_view = codes.transpose(1, 0, 2).reshape(codes.shape[1], -1)
    width = {"b": np.array([bits], np.uint8)}
    packed = {"q": _packed(by_view, bits)}
    if coder == "none":
        return width | packed
    coded = _ranged(by_view) if coder == "range" else _zipped(by_view)
    return width | (coded if _taken(coded) < _taken(packed) else packed)


def _taken(parts: Mapping[str, np.ndarray]) -> int:
    """Bytes of these sections and of their entries in the container's table (two for a name of one letter)."""
    return sum(part.nbytes + 2 + 1 + len(varint.encode(part.size)) for part in parts.values())


def _packed(by_view: np.ndarray, bits: int) -> np.ndarray:
    # Eight views end on a byte, whatever n, C and the width are.
    return np.concatenate([packing.pack(by_view[view : view + 8].ravel(), bits) for view in range(0, len(by_view), 8)])


def _ranged(by_view: np.ndarray) -> dict[str, np.ndarray]:
    count = np.bincount(by_view.ravel())  # up to the largest code: a table of all may outweigh the streams
    frequency = np.where(count > 0, np.maximum(1, count * 60000 // count.max()), 0).astype(np.uint16)
    streams = [_encode(view, frequency) for view in by_view]
    sizes = packing.encode_uints(np.array([len(stream) for stream in streams]))
    return {"w": np.concatenate(streams).astype(np.uint32), "s": sizes, "f": frequency}


def _zipped(by_view: np.ndarray) -> dict[str, np.ndarray]:
    # Magic number, length and checksum of a frame are known or told elsewhere.
    settings = zstandard.ZstdCompressionParameters.from_level(
        _ZSTD_LEVEL, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=0, write_checksum=0, write_dict_id=0
    )
    compressor = zstandard.ZstdCompressor(compression_params=settings)
    streams = [np.frombuffer(compressor.compress(view.tobytes()), np.uint8) for view in by_view]
    return {"w": np.concatenate(streams), "s": packing.encode_uints(np.array([len(stream) for stream in streams]))}


def read(stored: Mapping[str, np.ndarray], n: int, k: int, c: int, views: np.ndarray) -> np.ndarray:
    """uint8 [n, len(views), C]: the codes of these views."""
    bits = int(stored["b"][0])
    if "q" in stored:
        start = views[:, None] * (n * c) + np.arange(n * c)
        codes = packing.take(stored["q"], start.ravel() * bits, bits)
    else:
        sizes = packing.decode_uints(stored["s"], k)
        ends = np.cumsum(sizes)
        streams = [stored["w"][ends[v] - sizes[v] : ends[v]] for v in views]
        parts = [_decode(one, stored["f"], n * c) if "f" in stored else _unzipped(one, n * c) for one in streams]
        codes = np.concatenate([*parts, np.zeros(0, np.int32)])
    return codes.astype(np.uint8).reshape(len(views), n, c).transpose(1, 0, 2)


def _unzipped(frame: np.ndarray, count: int) -> np.ndarray:
    decompressor = zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS)
    return np.frombuffer(decompressor.decompress(frame.tobytes(), max_output_size=count), np.uint8)


def _model(frequency: np.ndarray) -> tuple[np.ndarray, constriction.stream.model.Categorical | None]:
    """The codes that occur, and their model; None where there is but one."""
    present = np.flatnonzero(frequency)
    if len(present) < 2:
        return present, None
    share = frequency[present] / frequency.sum(dtype=np.int64)
    return present, constriction.stream.model.Categorical(share, perfect=False)


def _encode(codes: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    present, model = _model(frequency)
    if model is None:
        return np.zeros(0, np.uint32)
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(np.searchsorted(present, codes).astype(np.int32), model)
    return encoder.get_compressed()


def _decode(words: np.ndarray, frequency: np.ndarray, count: int) -> np.ndarray:
    present, model = _model(frequency)
    if model is None:
        return np.full(count, present[0])
    decoder = constriction.stream.queue.RangeDecoder(np.ascontiguousarray(words, np.uint32))
    return present[decoder.decode(model, count)]
