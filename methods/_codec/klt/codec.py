"""A set of images at one step: from labels to levels, from levels to sections of a blob, and back.

Everything a decoder computes before an entropy-coded symbol is an integer, or a product and sum of two numbers taken
element by element, which IEEE arithmetic fixes to the last bit; the one matrix product is of integers (see `basis`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from methods._codec import bits as packing
from methods._codec.klt import bands
from methods._codec.klt.basis import Basis
from methods._codec.klt.fit import means, predict
from methods._codec.klt.side import Side
from methods._codec.klt.steps import MEAN_OCTAVES, OFFSETS_KEPT, PER_OCTAVE, step_of, step_units
from methods._codec.klt.stream import Reader, Writer
from methods._codec.klt.stream import bits as cost
from methods._codec.klt.tables import FRACTION, STEP, UNITS

_GAIN_BUCKET = 9
_STREAM_BYTES = 4000  # views share a stream until it is so long: a stream ends on a word, and its length is stored
_FINER = MEAN_OCTAVES * PER_OCTAVE
_LOUDEST = 120  # quarter octaves


@dataclass(frozen=True)
class Coded:
    """Levels of a set of images, with their buckets."""

    mean_gains: np.ndarray  # int32 [n, bands]: how loud each image's mean is in each band, 1/4 octave
    means: np.ndarray  # int32 [n, D]
    mean_buckets: np.ndarray  # int16 [n, D]
    gains: np.ndarray  # int32 [n, bands]: how loud its rows are
    levels: np.ndarray  # int32 [n, K, D]
    buckets: np.ndarray  # int16 [n, K, D]


class Source:
    """Labels made ready for coding at any step: projected once."""

    def __init__(self, values: np.ndarray, side: Side, basis: Basis) -> None:
        """values: float32 [n, K, C] in the basis' unit."""
        self.side, self.basis = side, basis
        self.shape = values.shape
        self._centred = values - basis.mean.astype(np.float32)
        self._projected: dict[bool, tuple[np.ndarray, np.ndarray]] = {}
        self._outside = None if side.outside is None else basis.project(side.outside)

    def at(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows [n, K, D] and means [n, D], float32. Softmax does not see a constant added to a row: a coarse code drops
        it."""
        kept = index >= OFFSETS_KEPT
        if kept not in self._projected:
            values = self._centred if kept else self._centred - self._centred.mean(2, keepdims=True)
            n, k, c = self.shape
            rows = self.basis.project(values.reshape(n * k, c)).reshape(n, k, -1)
            self._projected[kept] = rows, means(rows, self._side_there(), self.basis)
        return self._projected[kept]

    def _side_there(self) -> Side:
        return Side(self.side.lam, self.side.partner, self._outside)

    def code(self, index: int) -> Coded:
        """Levels at this step."""
        rows, own = self.at(index)
        n, k, _ = rows.shape
        step = step_of(index)
        fine = np.ldexp(step, -MEAN_OCTAVES)
        base = _base(self.basis.means, index + _FINER)
        scaled = own / np.float32(fine)
        mean_gains = np.stack([_gains(one[None], self.basis.means, base) for one in own])
        coded_means, mean_buckets = bands.run(
            base + bands.widen(STEP * mean_gains, base.shape[-1]),
            n,
            lambda band, b: bands.quantise(scaled[:, band], b),
        )
        table = _mean_table(coded_means, mean_buckets, self._outside, fine)
        base = _base(self.basis.rows, index)
        gains, levels = np.zeros_like(mean_gains), np.zeros(rows.shape, np.int32)
        buckets = np.zeros(rows.shape, np.int16)
        for image in range(n):
            rest = rows[image] - predict(table, self.side, self.basis, image).astype(np.float32)
            gains[image] = _gains(rest, self.basis.rows, base)
            rest /= np.float32(step)
            levels[image], buckets[image] = bands.run(
                (base + bands.widen(STEP * gains[image], len(base)))[None],
                k,
                lambda band, b, rest=rest: bands.quantise(rest[:, band], b),  # type: ignore[misc]
            )
        return Coded(mean_gains, coded_means, mean_buckets, gains, levels, buckets)


def size_bytes(coded: Coded) -> float:
    """Estimate of the payload: good to a part in a thousand and some bytes."""
    total = cost(coded.mean_buckets.ravel(), coded.means.ravel()) + cost(coded.buckets.ravel(), coded.levels.ravel())
    for gains in (coded.mean_gains, coded.gains):
        total += cost(np.full(gains.size, _GAIN_BUCKET), _differences(gains))
    return total / 8


def views_per_stream(payload: float, views: int) -> int:
    """How many views share a stream."""
    return int(np.clip(np.ceil(_STREAM_BYTES * views / max(payload, 1.0)), 1, views))


def write(coded: Coded, group: int) -> dict[str, np.ndarray]:
    """The sections: what belongs to images, the streams of `group` views each, and their lengths."""
    _n, k, size = coded.levels.shape
    head = Writer()
    for gains in (coded.mean_gains, coded.gains):
        head.write(np.full(gains.size, _GAIN_BUCKET, np.int16), _differences(gains))
    for band in bands.split(size):
        head.write(coded.mean_buckets[:, band].ravel(), coded.means[:, band].ravel())
    streams = []
    for start in range(0, k, group):
        stream = Writer()
        for band in bands.split(size):
            part = (slice(None), slice(start, start + group), band)
            stream.write(coded.buckets[part].ravel(), coded.levels[part].ravel())
        streams.append(stream.words())
    lengths = packing.encode_uints(np.array([len(words) for words in streams]))
    return {"h": head.words(), "l": lengths, "d": np.concatenate(streams)}


def read(
    parts: Mapping[str, np.ndarray], n: int, side: Side, basis: Basis, index: int, group: int, views: np.ndarray
) -> np.ndarray:
    """float64 [n, len(views), C] in the basis' unit. Only the streams that hold these views are read.

    Args:
        parts: as `write` made them.
        n: images.
        side: of all views.
        basis, index, group: as they were coded with.
        views: int64 indices.
    """
    k = side.lam.shape[1]
    step, size = step_of(index), basis.size
    fine = np.ldexp(step, -MEAN_OCTAVES)
    head = Reader(parts["h"])
    count = len(bands.split(size))
    mean_gains, gains = (
        np.cumsum(head.read(np.full(n * count, _GAIN_BUCKET, np.int16)).reshape(n, count), axis=1) for _ in range(2)
    )
    base = _base(basis.means, index + _FINER) + bands.widen(STEP * mean_gains, size)
    coded, chosen = bands.run(base, n, lambda _, b: head.read(b.ravel()).reshape(b.shape))
    outside = None if side.outside is None else basis.project(side.outside)
    table = _mean_table(coded, chosen, outside, fine)

    streams = np.unique(views // group)
    ends = np.cumsum(packing.decode_uints(parts["l"], -(-k // group)))
    readers = [Reader(parts["d"][ends[s - 1] if s else 0 : ends[s]]) for s in streams]
    inside = [np.arange(s * group, min(k, (s + 1) * group)) for s in streams]
    lengths = [n * len(i) for i in inside]
    images = np.concatenate([np.repeat(np.arange(n), len(i)) for i in inside]) if len(streams) else np.zeros(0, int)
    edges = np.concatenate([[0], np.cumsum(lengths)]).astype(int)

    def take(_: slice, chosen: np.ndarray) -> np.ndarray:
        levels = np.empty(chosen.shape, np.int32)
        for reader, start, stop in zip(readers, edges[:-1], edges[1:], strict=True):
            levels[start:stop] = reader.read(chosen[start:stop].ravel()).reshape(stop - start, -1)
        return levels

    base = _base(basis.rows, index) + bands.widen(STEP * gains, size)
    levels, buckets = bands.run(base[images], len(images), take)
    result = np.empty((n, len(views), basis.classes))
    if not len(views):
        return result
    of_view = np.concatenate([np.tile(i, n) for i in inside])
    here = side.at(views)
    unit = np.ldexp(step / FRACTION, -basis.precision)
    place = np.empty(k, np.int64)
    for image in range(n):
        mine = np.flatnonzero(images == image)
        place[of_view[mine]] = mine
        rows = place[views]
        whole = bands.restore(levels[rows], buckets[rows])
        whole = whole + np.rint(predict(table, here, basis, image) * (FRACTION / step))
        result[image] = basis.expand(whole) * unit + basis.mean
    return result


def _base(scales: np.ndarray, index: int) -> np.ndarray:
    """int32 [D]: log-scales in steps."""
    return scales - step_units(index)


def _gains(rows: np.ndarray, scales: np.ndarray, base: np.ndarray) -> np.ndarray:
    """int32 [bands]: how much louder than `scales` the rows [m, D] are in each band, 1/4 octave.

    Where nothing will be coded anyway the gain is what costs least.
    """
    size = len(scales)
    starts = np.array([band.start for band in bands.split(size)])
    found = np.add.reduceat(np.square(rows).mean(0, dtype=np.float64), starts)
    usual = np.add.reduceat(np.exp2(2.0 / UNITS * scales), starts)
    gains = np.rint(0.5 * UNITS / STEP * np.log2(np.maximum(found / usual, 2.0**-200)))
    gains = np.clip(gains, -_LOUDEST, _LOUDEST).astype(np.int32)
    loudest = np.maximum.reduceat(base, starts) + STEP * gains
    before = 0
    for band in np.flatnonzero(bands.buckets_of(loudest) < 0):
        before = gains[band - 1] if band else 0
        gains[band] = min(before, gains[band])
    return gains


def _mean_table(levels: np.ndarray, buckets: np.ndarray, outside: np.ndarray | None, fine: float) -> np.ndarray:
    """float64 [n + m, D]: decoded means, then those from outside, rounded as if they were coded too."""
    table = bands.restore(levels, buckets) * (fine / FRACTION)
    return table if outside is None else np.concatenate([table, np.rint(outside / fine) * fine])


def _differences(gains: np.ndarray) -> np.ndarray:
    return np.diff(gains, axis=1, prepend=0).ravel().astype(np.int32)
