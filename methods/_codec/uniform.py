"""Uniform scalar quantisation of rows: each has its least value and its step in float16, every value 2 to 8 bits.

The codes are packed, or range coded: one stream for each view of the shard, over all its images, with one table of
frequencies. A stream is opened only when its view is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import constriction
import numpy as np

from methods._codec import bits as packing

CODERS = ("none", "range")


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
    low = values.min(2).astype(np.float16)
    reach = np.maximum(values.max(2) - low.astype(np.float64), 0) / top
    step = reach.astype(np.float16)
    step = np.where(step < reach, np.nextafter(step, np.float16(np.inf)), step)  # the largest value stays in reach
    wide = step.astype(np.float64)[..., None]
    rest = values - low.astype(np.float64)[..., None]
    codes = np.divide(rest, wide, out=np.zeros(values.shape), where=wide > 0)
    return Rows(np.rint(codes).clip(0, top).astype(np.uint8), low, step)


def sections(codes: np.ndarray, bits: int, coder: str) -> dict[str, np.ndarray]:
    """Section b (bits), and q (packed codes, view by view) or w, s, f (words of the streams, how many each has,
    frequencies)."""
    by_view = codes.transpose(1, 0, 2).reshape(codes.shape[1], -1)
    width = np.array([bits], np.uint8)
    if coder == "none":
        # Eight views end on a byte, whatever n, C and the width are.
        packed = [packing.pack(by_view[view : view + 8].ravel(), bits) for view in range(0, len(by_view), 8)]
        return {"b": width, "q": np.concatenate(packed)}
    count = np.bincount(by_view.ravel(), minlength=1 << bits)
    frequency = np.where(count > 0, np.maximum(1, count * 60000 // count.max()), 0).astype(np.uint16)
    streams = [_encode(view, frequency) for view in by_view]
    sizes = packing.encode_uints(np.array([len(stream) for stream in streams]))
    return {"b": width, "w": np.concatenate(streams).astype(np.uint32), "s": sizes, "f": frequency}


def read(stored: Mapping[str, np.ndarray], n: int, k: int, c: int, views: np.ndarray) -> np.ndarray:
    """uint8 [n, len(views), C]: the codes of these views."""
    bits = int(stored["b"][0])
    if "q" in stored:
        start = views[:, None] * (n * c) + np.arange(n * c)
        codes = packing.take(stored["q"], start.ravel() * bits, bits)
    else:
        sizes = packing.decode_uints(stored["s"], k)
        ends = np.cumsum(sizes)
        parts = [_decode(stored["w"][ends[v] - sizes[v] : ends[v]], stored["f"], n * c) for v in views]
        codes = np.concatenate([*parts, np.zeros(0, np.int32)])
    return codes.astype(np.uint8).reshape(len(views), n, c).transpose(1, 0, 2)


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
