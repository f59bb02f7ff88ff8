"""The low-rank part of an image's rows, on top of what its mean and its partners' means predict.

It is an ordinary truncated SVD: left factors are coded with the rows, right factors with the image, in the shared
basis, both as coarsely as pays (see `prices`). Lefts and rights are integers before they are multiplied, so the product
is exact (see `basis`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from methods._codec.klt import bands, prices
from methods._codec.klt.basis import Basis
from methods._codec.klt.stream import Reader, Writer
from methods._codec.klt.tables import EVEN, FRACTION, STEP, UNITS
from methods._codec.klt.trellis import CODER, PathReader, Paths

_SPARE_BITS = 16  # right factors of norm one are told in integers of 2^-16
_COUNT_BUCKET = EVEN + 4
_TOGETHER = 1024  # rows that are squared at a time
_EXACT = 2.0**53  # float64 holds integers below it
_SQUARED_BITS = 24  # of a component, at most: so 2^15 squares stay below 2^63


@dataclass(frozen=True)
class Ranked:
    """The low-rank part of one image: right factors, each with the energy of its component."""

    gains: np.ndarray  # int32 [f]: how loud they are, 1/4 octave
    integers: np.ndarray  # [f, D], see `rights` and `narrow`
    coarser: np.ndarray  # int32 [f]: by how much left factors have a coarser step than coefficients, units
    paths: Paths | None = None  # of the right factors, where they were quantised here

    @property
    def rank(self) -> int:
        """f."""
        return len(self.gains)

    @property
    def rights(self) -> np.ndarray:
        """float64 integers [f, D]: right factors in 1/FRACTION steps."""
        return self.integers.astype(np.float64, copy=False)

    @property
    def bits(self) -> float:
        """What its levels take."""
        return 0.0 if self.paths is None else float(self.paths.bits.sum())

    @property
    def growth(self) -> float:
        """By how many bits that grows for each octave that the step gets finer."""
        return 0.0 if self.paths is None else self.paths.growth


def quantised(rights: np.ndarray, gains: np.ndarray, scales: np.ndarray, basis: Basis, step_units: int) -> Ranked:
    """Right factors [f, D], in steps, as they will be decoded; `scales`, int32 [D], of the coefficients that tell what
    they leave."""
    coarser = prices.coarser(scales)
    paths = CODER.rows((rights / prices.size_of(coarser)).astype(np.float32), _base(basis, gains, step_units) - coarser)
    return _ranked(gains, CODER.restored(paths), scales, paths)


def _ranked(gains: np.ndarray, points: np.ndarray, scales: np.ndarray, paths: Paths | None = None) -> Ranked:
    """From what levels stand for, [f, D], 1/FRACTION of their steps."""
    rights = np.rint(points * prices.size_of(prices.coarser(scales)))
    squares = np.square(_unit(rights))
    return Ranked(gains, narrow(rights), prices.coarser_along(squares, scales), paths)


def write_numbers(ranked: Sequence[Ranked], writer: Writer) -> None:
    """Code ranks and gains of all images."""
    for bucket, numbers in _numbers(ranked):
        writer.write(np.full(len(numbers), bucket, np.int16), numbers)


def bits(ranked: Sequence[Ranked]) -> float:
    """What ranks, gains and right factors take."""
    numbers = sum(bands.plain_bits(bucket, numbers) for bucket, numbers in _numbers(ranked))
    return numbers + sum(one.bits for one in ranked)


def read(reader: Reader, paths: PathReader, scales: np.ndarray, basis: Basis, step_units: int) -> list[Ranked]:
    """Of images with coefficients of these log-scales, int32 [n, D], from what `write_numbers` wrote and the levels of
    right factors."""
    counts = reader.read(np.full(len(scales), _COUNT_BUCKET, np.int16))
    ends = np.cumsum(counts)
    found = reader.read(np.full(int(ends[-1]), EVEN, np.int16))
    gains = np.concatenate([np.cumsum(part) for part in np.split(found, ends[:-1])]).astype(np.int32)
    base = _base(basis, gains, step_units) - prices.coarser(np.repeat(scales, counts, axis=0))
    points = np.zeros(base.shape)
    paths.rows(base, np.arange(len(base)), points)
    slices = [slice(stop - count, stop) for count, stop in zip(counts, ends, strict=True)]
    return [_ranked(gains[some], points[some], mine) for some, mine in zip(slices, scales, strict=True)]


def _numbers(ranked: Sequence[Ranked]) -> list[tuple[int, np.ndarray]]:
    """(bucket, int32 levels): ranks, and gains less the one before."""
    counts = np.array([one.rank for one in ranked], np.int32)
    return [
        (_COUNT_BUCKET, counts),
        (EVEN, np.concatenate([np.diff(one.gains, prepend=np.int32(0)) for one in ranked])),
    ]


def nothing(size: int) -> Ranked:
    """Rank zero in D = `size` dimensions."""
    return Ranked(np.zeros(0, np.int32), np.zeros((0, size), np.int32), np.zeros(0, np.int32))


def scaled_rights(ranked: Ranked) -> np.ndarray:
    """float64 integers [f, D] such that lefts, in 1/FRACTION of their steps, times these are rows in 2^-_SPARE_BITS of
    1/FRACTION steps of coefficients."""
    return np.rint(_unit(ranked.rights) * prices.size_of(ranked.coarser)[:, None])


def _unit(rights: np.ndarray) -> np.ndarray:
    """float64 integers [f, D]: with norms of about 2^_SPARE_BITS."""
    return np.rint(rights * (2.0**_SPARE_BITS / norms_of(rights))[:, None])


def norms_of(rights: np.ndarray) -> np.ndarray:
    """float64 [r]: norms of integer rows, at least 1; sums of integers, hence exact but for the root. Of rows that are
    so loud that a sum would not be, the last bits do not count."""
    norms = np.empty(len(rights))
    for start in range(0, len(rights), _TOGETHER):
        some = rights[start : start + _TOGETHER]
        most = np.abs(some).max(initial=0.0)
        if most < 2.0**_SQUARED_BITS and most**2 * some.shape[1] < _EXACT:
            norms[start : start + _TOGETHER] = np.sqrt(np.maximum(np.einsum("rd,rd->r", some, some), 1))
            continue
        beyond = np.maximum(np.frexp(np.abs(some).max(1, initial=1.0))[1] - _SQUARED_BITS, 0)
        squares = np.square(np.rint(np.ldexp(some, -beyond[:, None])).astype(np.int64)).sum(1)
        norms[start : start + _TOGETHER] = np.ldexp(np.sqrt(np.maximum(squares, 1).astype(np.float64)), beyond)
    return norms


def narrow(integers: np.ndarray) -> np.ndarray:
    """float64 integers as int16 or int32, where that holds them: right factors of all images are kept."""
    most = np.abs(integers).max(initial=0)
    kind = next((kind for kind in (np.int16, np.int32) if most <= np.iinfo(kind).max), np.float64)
    return integers.astype(kind, copy=False)


def product(lefts: np.ndarray, rights: np.ndarray) -> np.ndarray:
    """float64 integers [m, D], in 1/FRACTION steps, of lefts in 1/FRACTION of theirs, float64 integers [m, f], and
    what `scaled_rights` gave [f, D], which may be narrower."""
    return np.rint((lefts @ rights.astype(np.float64, copy=False)) * 2.0**-_SPARE_BITS)


def left_units(ranked: Ranked, views: int) -> np.ndarray:
    """int32 [f]: log-scales of the lefts' levels: a left has norm one over the K views, a right has all energy."""
    loud = prices.whole_log(norms_of(ranked.rights))
    return (loud - _log_units(FRACTION) - _log_units(views) // 2 - ranked.coarser).astype(np.int32)


def _log_units(count: int) -> int:
    """log2 of an integer's highest bit, units."""
    return UNITS * (count.bit_length() - 1)


def _base(basis: Basis, gains: np.ndarray, step_units: int) -> np.ndarray:
    """int32 [f, D]: log-scales of right factors' levels, if steps were those of coefficients."""
    return basis.rows[None] + STEP * gains[:, None].astype(np.int32) - step_units
