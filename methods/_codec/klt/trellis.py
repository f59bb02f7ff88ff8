"""Rows of coefficients, quantised along paths of a trellis: what a level costs and means, levels, words and back.

What a level costs depends on its coefficient's scale (a bucket of `tables`), on which of two quantisers it has, and on
where the paths go: no formula says it. `trellis_data` holds what was counted on normal coefficients with scales as
uncertain as those of real ones, by `python -m speed.klt_trellis`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from methods._codec.klt import bands, kernels
from methods._codec.klt.kernels import Model
from methods._codec.klt.tables import (
    BUCKETS,
    ESCAPE_BITS,
    FRACTION,
    GAIN_ONE,
    LAMBDA,
    LARGEST,
    LOWEST,
    PER_OCTAVE,
    STEP,
    STRIDE,
    TOP,
    UNITS,
    normal_mixture,
)
from methods._codec.klt.trellis_data import FREQUENCIES, NEARER

HALF = 18  # 1/FRACTION steps: half the distance of two points of one quantiser
WHOLE = 1 << 16  # what frequencies sum to
FIRST = 1  # bucket: below it, what coding wins is not worth the bits
GRID = 2  # units: gains are multiples, so that most survivors agree
_STEEPEST = 4.0
_COUNTED = 0.999  # up to here edges of cells follow from frequencies
_LOOKED_UP = 800  # values: to magnitudes that are not yet escaped
_LOUDEST = 1 << 28  # no level is above: coarser steps are for that


class Rows(NamedTuple):
    """Levels of some rows."""

    levels: np.ndarray  # int32 [v, D]
    cells: np.ndarray  # int16 [v, D]: 2 * bucket + quantiser; -1: certainly zero
    bits: float  # about what they take
    growth: float  # bits for each octave that the step gets finer


def model_of(frequencies: np.ndarray, points: np.ndarray) -> Model:
    """Tables for the kernels.

    Args:
        frequencies: int64 [BUCKETS, 2, LARGEST + 1], at least 1, each row's sum is `WHOLE`.
        points: int64, the same shape, 1/FRACTION steps.
    """
    p = frequencies / WHOLE
    bits = np.pad(-np.log2(p) + (np.arange(LARGEST + 1) > 0), ((0, 0), (0, 0), (0, STRIDE - LARGEST - 1)))
    slope = np.clip(_slopes(p), -_STEEPEST, _STEEPEST)
    information = np.maximum(1, np.rint(GAIN_ONE * (p * slope**2).sum(2).mean(1)))
    cumulative = np.zeros((BUCKETS, 2, STRIDE), np.int64)
    cumulative[..., 1 : LARGEST + 2] = frequencies.cumsum(2)
    cumulative[..., LARGEST + 2 :] = WHOLE
    widened = [np.pad(table, ((0, 0), (0, 0), (0, STRIDE - LARGEST - 1))) for table in (points, GAIN_ONE * slope)]
    return Model(
        bits=bits.ravel().astype(np.float32),
        points=widened[0].ravel().astype(np.int32),
        cumulative=cumulative.ravel().astype(np.int32),
        score=np.rint(widened[1]).ravel().astype(np.int32),
        information=information.astype(np.int32),
        growth=bands.GROWTH[1:],
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
        most_raw=bands.MOST_RAW,
        loudest=_LOUDEST,
        prior=bands.PRIOR,
        memory=bands.MEMORY,
        fine=bands.FINE,
        grid=GRID,
        farthest=bands.FARTHEST,
    )


def grid() -> np.ndarray:
    """int64 [BUCKETS, 2, LARGEST + 1]: points of the two quantisers by magnitude, 1/FRACTION steps."""
    size = np.arange(LARGEST + 1)
    return np.broadcast_to(HALF * np.stack([2 * size, np.maximum(2 * size - 1, 0)]), (BUCKETS, 2, LARGEST + 1))


def _slopes(p: np.ndarray) -> np.ndarray:
    """[BUCKETS, 2, LARGEST + 1]: by how much the logarithm of a probability grows for each unit that a scale does.

    The cells are taken for intervals, so that the entropy model gives them these probabilities; far out, where nothing
    was counted, edges are in the middle between points.
    """
    result = np.empty(p.shape)
    points = grid() / FRACTION
    for bucket in range(BUCKETS):
        scale = 2.0 ** ((LOWEST + STEP * bucket) / UNITS)
        x = np.linspace(0, 10 * scale, 4001)
        below = normal_mixture(x, scale)
        for quantiser in (0, 1):
            middle = (points[bucket, quantiser, 1:] + points[bucket, quantiser, :-1]) / 2
            cumulative = p[bucket, quantiser].cumsum()[:-1]
            edges = np.where(cumulative < _COUNTED, np.interp(cumulative, below, x), middle)
            edges = np.maximum.accumulate(np.maximum(edges, middle * (cumulative >= _COUNTED)))
            louder, softer = (_mass(edges, scale * 2.0 ** (side * 0.5 / PER_OCTAVE)) for side in (1, -1))
            result[bucket, quantiser] = np.log(louder / softer) / STEP
    return result


def _mass(edges: np.ndarray, scale: float) -> np.ndarray:
    return np.maximum(np.diff(np.concatenate([[0.0], normal_mixture(edges, scale), [1.0]])), 1e-12)


MODEL = model_of(FREQUENCIES, grid() - NEARER)


def quantise(values: np.ndarray, base: np.ndarray, weight: float = 1.0, model: Model = MODEL) -> Rows:
    """The best path of each row.

    Args:
        values: float32 [v, D], in steps.
        base: int32 [D], log-scales before the row's own gain, units.
        weight: of bits, where fewer or more than usual are wanted. A decoder need not know.
        model: what levels cost and mean.
    """
    model, choice = _weighed(weight) if model is MODEL else _with_choice(model)
    levels, cells = np.empty(values.shape, np.int32), np.empty(values.shape, np.int16)
    bits, growth = kernels.quantise(np.ascontiguousarray(values), _clipped(base), model, choice, levels, cells)
    return Rows(levels, cells, bits, growth)


@lru_cache(maxsize=8)
def _weighed(weight: float) -> tuple[Model, np.ndarray]:
    return _with_choice(MODEL._replace(weight=weight * MODEL.weight))


def _with_choice(model: Model) -> tuple[Model, np.ndarray]:
    choice = np.zeros((2 * BUCKETS, _LOOKED_UP, 2), np.int8)
    kernels.near(model, choice)
    return model, choice


def restore(rows: Rows, whole: np.ndarray) -> None:
    """Adds what levels stand for to float64 integers [v, D], 1/FRACTION steps."""
    kernels.restore(rows.levels, rows.cells, MODEL, whole)


def write(rows: list[Rows], views: slice) -> np.ndarray:
    """uint32: these views of images with these rows, image by image."""
    levels = np.concatenate([one.levels[views] for one in rows])
    return kernels.write(levels, np.concatenate([one.cells[views] for one in rows]), MODEL)


def read(words: np.ndarray, base: np.ndarray, images: np.ndarray, whole: np.ndarray) -> None:
    """Adds what words stand for.

    Args:
        words: uint32, from `write`.
        base: int32 [n, D], of each image.
        images: int64 [m], whose a row is.
        whole: float64 [m, D], 1/FRACTION steps; changed in place.
    """
    kernels.read(np.ascontiguousarray(words), _clipped(base), images, MODEL, whole)


def _clipped(base: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(bands.clipped(base, bands.LOUDEST), np.int32)
