"""Numbers quantised along paths of a trellis: what a level costs and means, levels, words and back.

What a level costs depends on its coefficient's scale (a bucket of `tables`), on which of two quantisers it has, and on
where the paths go: no formula says it. `trellis_data` holds what was counted on normal coefficients with scales as
uncertain as those of real ones, by `python -m speed.klt_trellis`.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from methods._codec.klt import kernels, prices
from methods._codec.klt.bands import clipped
from methods._codec.klt.kernels import Model
from methods._codec.klt.tables import (
    BUCKETS,
    ESCAPE_BITS,
    FRACTION,
    GAIN_ONE,
    LAMBDA,
    LARGEST,
    LOWEST,
    MOST_RAW,
    PER_OCTAVE,
    STEP,
    STRIDE,
    TOP,
    UNITS,
    rate,
)
from methods._codec.klt.trellis_data import FREQUENCIES, NEARER, SCORES

HALF = 18  # 1/FRACTION steps: half the distance of two points of one quantiser
WHOLE = 1 << 16  # what frequencies sum to
FIRST = 1  # bucket: below it, what coding wins is not worth the bits
GRID = 2  # units: gains are multiples, so that most survivors agree
SCORE_PARTS = 1 << 10
PRIOR = GAIN_ONE // 20  # information before the first wave: rows of an image differ by about 4.5 units
MEMORY = GAIN_ONE // 2  # information is never taken for more: later waves may differ from the first
FINE = 256  # a gain is a multiple of so small a part of a unit
FARTHEST = 64  # units: no gain is more
LOUDEST = 1 << 13  # units: no scale is more
_LOOKED_UP = 800  # values: to magnitudes that are not yet escaped
_LOUDEST = 1 << 28  # no level is above: coarser steps are for that


class Paths(NamedTuple):
    """Levels along some paths."""

    levels: np.ndarray  # any shape; int16 where all fit, else int32: a set has as many as logits
    cells: np.ndarray  # int16, the same: 2 * bucket + quantiser; -1: certainly zero
    bits: np.ndarray  # float64 [p]: about what each takes
    growth: float  # bits of all for each octave that the step gets finer

    def with_rows(self, at: np.ndarray, rows: Paths) -> Paths:
        """With rows [m, D], a path each, in the place of those `at`, int64 [m]; of growth nothing new is told. What can
        be is changed in place."""
        levels = self.levels.astype(np.promote_types(self.levels.dtype, rows.levels.dtype), copy=False)
        levels[at], self.cells[at], self.bits[at] = rows.levels, rows.cells, rows.bits
        return self._replace(levels=levels)

    def some(self, at: slice) -> tuple[np.ndarray, np.ndarray]:
        """Levels and cells of these rows, as `Coder.write` takes them."""
        return self.levels[at], self.cells[at]


def grid() -> np.ndarray:
    """int64 [BUCKETS, 2, LARGEST + 1]: points of the two quantisers by magnitude, 1/FRACTION steps."""
    size = np.arange(LARGEST + 1)
    return np.broadcast_to(HALF * np.stack([2 * size, np.maximum(2 * size - 1, 0)]), (BUCKETS, 2, LARGEST + 1))


def model_of(frequencies: np.ndarray, points: np.ndarray, scores: np.ndarray) -> Model:
    """Tables for the kernels. What a decoder needs is integers throughout.

    Args:
        frequencies: int64 [BUCKETS, 2, LARGEST + 1], at least 1, each row's sum is `WHOLE`.
        points: int64, the same shape, 1/FRACTION steps.
        scores: int64, the same shape: by how much the logarithm of a frequency grows for each unit that a scale does,
            1/SCORE_PARTS.
    """
    p = frequencies / WHOLE
    bits = np.pad(-np.log2(p) + (np.arange(LARGEST + 1) > 0), ((0, 0), (0, 0), (0, STRIDE - LARGEST - 1)))
    # Expectations of squared slopes, mean of both quantisers.
    information = (frequencies * scores**2).sum((1, 2)) * GAIN_ONE // (2 * WHOLE * SCORE_PARTS**2)
    cumulative = np.zeros((BUCKETS, 2, STRIDE), np.int64)
    cumulative[..., 1 : LARGEST + 2] = frequencies.cumsum(2)
    cumulative[..., LARGEST + 2 :] = WHOLE
    of_buckets = LOWEST + STEP * np.arange(BUCKETS)
    widened = [np.pad(table, ((0, 0), (0, 0), (0, STRIDE - LARGEST - 1))) for table in (points, scores)]
    return Model(
        bits=bits.ravel().astype(np.float32),
        points=widened[0].ravel().astype(np.int32),
        cumulative=cumulative.ravel().astype(np.int32),
        smallest=_smallest(cumulative.reshape(-1, STRIDE)).ravel(),
        score=widened[1].ravel().astype(np.int32),
        information=np.maximum(information, 1).astype(np.int32),
        growth=2 * (rate(of_buckets + UNITS / 4) - rate(of_buckets - UNITS / 4)),
        weight=LAMBDA,
        half=HALF,
        fraction=FRACTION,
        zero=LOWEST - STEP // 2,
        first=FIRST,
        bucket_bits=STEP.bit_length() - 1,
        octave_bits=PER_OCTAVE.bit_length() - 1,
        top=TOP,
        largest=LARGEST,
        escape_bits=ESCAPE_BITS,
        stride=STRIDE,
        most_raw=MOST_RAW,
        loudest=_LOUDEST,
        prior=PRIOR,
        memory=MEMORY,
        heard=FINE * (GAIN_ONE // SCORE_PARTS),
        fine=FINE,
        grid=GRID,
        farthest=FARTHEST,
    )


def _smallest(cumulative: np.ndarray) -> np.ndarray:
    """uint8 [tables, 2^8]: the magnitude that a number of 16 bits with this high byte has, at least."""
    starts = np.arange(1 << 8) << 8
    return np.stack([np.searchsorted(table, starts, side="right") - 1 for table in cumulative]).astype(np.uint8)


class PathReader:
    """Reads what `Coder.write` wrote, paths after paths."""

    def __init__(self, words: np.ndarray, model: Model) -> None:
        # In a blob they are little-endian, anywhere, and not to be written: one compiled function serves all.
        self._words, self._model = words.astype(np.uint32), model
        self._state, self._at = kernels.begin(self._words)

    def rows(self, base: np.ndarray, whose: np.ndarray, whole: np.ndarray) -> None:
        """Adds what the levels of rows stand for.

        Args:
            base: int32 [n, D], log-scales before a row's own gain, units.
            whose: int64 [m], which of them are a row's.
            whole: float64 [m, D], 1/FRACTION steps; changed in place, contiguous.
        """
        count, width = whole.shape
        bounds = np.arange(count + 1) * width
        self._take(bounds, _clipped(base).ravel(), whose * width, whole.reshape(-1))

    def along(self, base: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """float64 [m], 1/FRACTION steps: what the levels of paths stand for, with log-scales `base`, int32 [m]."""
        whole = np.zeros(len(base))
        self._take(bounds, _clipped(base), bounds[:-1], whole)
        return whole

    def _take(self, bounds: np.ndarray, base: np.ndarray, starts: np.ndarray, whole: np.ndarray) -> None:
        state = self._words, self._state, self._at
        self._state, self._at = kernels.read(*state, bounds, base, starts, self._model, whole)


class Coder:
    """Quantises numbers along paths, writes and reads them."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._weighed = dict[float, tuple[Model, np.ndarray]]()

    def rows(self, values: np.ndarray, base: np.ndarray, weight: float = 1.0) -> Paths:
        """The best path of each row.

        Args:
            values: float32 [v, D], in steps.
            base: int32 [D], log-scales before the row's own gain, units; or [v, D], of each row.
            weight: of bits, times the usual one, where fewer or more are wanted. A decoder need not know.
        """
        count, width = values.shape
        bounds = np.arange(count + 1) * width
        starts = bounds[:-1] if base.ndim > 1 else np.zeros(count, np.int64)
        return self._best(values, bounds, base, starts, weight)

    def along(self, values: np.ndarray, base: np.ndarray, bounds: np.ndarray) -> Paths:
        """The best paths of consecutive numbers.

        Args:
            values: float32, any shape, m numbers, in steps.
            base: int32 [m], log-scales before each path's own gain, units.
            bounds: int64 [p + 1]: where a path begins, and the last one ends.
        """
        return self._best(values, bounds, base, bounds[:-1], 1.0)

    def _best(
        self, values: np.ndarray, bounds: np.ndarray, base: np.ndarray, starts: np.ndarray, weight: float
    ) -> Paths:
        levels, cells = np.empty(values.shape, np.int32), np.empty(values.shape, np.int16)
        bits = np.empty(len(starts))
        given = np.ascontiguousarray(values).reshape(-1), bounds, _clipped(base).reshape(-1), starts
        filled = levels.reshape(-1), cells.reshape(-1), bits
        growth = kernels.quantise(*given, *self._with(weight), *filled)
        return Paths(_narrow(levels), cells, bits, growth)

    def restore(self, paths: Paths, whole: np.ndarray) -> None:
        """Adds what levels stand for to float64 integers of their shape, 1/FRACTION steps; contiguous."""
        kernels.restore(_wide(paths.levels.reshape(-1)), paths.cells.reshape(-1), self._model, whole.reshape(-1))

    def restored(self, paths: Paths) -> np.ndarray:
        """float64 integers, 1/FRACTION steps: what levels stand for."""
        whole = np.zeros(paths.levels.shape)
        self.restore(paths, whole)
        return whole

    def write(self, parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """uint32: levels, each part with its cells, one after the other."""
        if not parts:
            return np.zeros(0, np.uint32)
        levels, cells = (np.concatenate([part[which].reshape(-1) for part in parts]) for which in (0, 1))
        return kernels.write(levels, cells, self._model)  # int16 or int32: of a whole stream, wider copies are large

    def reader(self, words: np.ndarray) -> PathReader:
        """Of uint32 words from `write`."""
        return PathReader(words, self._model)

    def _with(self, weight: float) -> tuple[Model, np.ndarray]:
        """The model with another weight of bits, and which levels are near with it; the usual and the last are kept."""
        known = self._weighed.get(weight)
        if known is None:
            model = self._model._replace(weight=weight * self._model.weight)
            choice = np.zeros((BUCKETS, _LOOKED_UP, 4), np.int8)
            kernels.near(model, choice)
            for other in [other for other in list(self._weighed) if other != 1]:
                self._weighed.pop(other, None)
            known = self._weighed[weight] = model, choice
        return known


def _narrow(levels: np.ndarray) -> np.ndarray:
    """int32 as int16, where that holds them."""
    most = np.iinfo(np.int16).max
    return levels.astype(np.int16) if levels.size and -most <= levels.min() and levels.max() <= most else levels


def _wide(levels: np.ndarray) -> np.ndarray:
    """int32, as the compiled functions take them."""
    return levels.astype(np.int32, copy=False)


def _clipped(base: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(clipped(base, LOUDEST), np.int32)


_MODEL = model_of(FREQUENCIES, grid() - NEARER, SCORES)
CODER = Coder(_MODEL)
DIGEST = zlib.crc32(
    b"".join(t.astype("<i8").tobytes() for t in (_MODEL.points, _MODEL.cumulative, _MODEL.score, _MODEL.information)),
    prices.DIGEST,
)
