"""What coefficients cost, and how coarsely their predictions may be told.

What a prediction of rows is off by (their left and right factors, numbers along partners' means) is not lost: the
coefficients, whose step is what it is, tell the rest. Where a coefficient is certainly zero, the error stays. Where it
is loud already, it grows a little by it, and takes a few more bits: d ln(variance) / 2, far fewer than a squared error
is worth. So a component of a prediction has a step that is coarser the louder the coefficients are that it predicts.
"""

from __future__ import annotations

import zlib

import numpy as np

from methods._codec.klt import tables
from methods._codec.klt.steps import root_of_two
from methods._codec.klt.tables import (
    BITS,
    BUCKETS,
    CENTRES,
    FRACTION,
    LAMBDA,
    LARGEST,
    LOWEST,
    STEP,
    STRIDE,
    THRESHOLDS,
    UNITS,
    normal_mixture,
)

ERROR = 0.085  # squared steps: of a level where most are not zero, about
_QUIETEST, _LOUDEST = LOWEST - 2 * UNITS, LOWEST + STEP * (BUCKETS + UNITS // STEP)  # units that a table has
_AROUND = 4.0  # units, over which a slope is taken
_ONE = 15  # log2 of the greatest weight
_LIGHTEST = UNITS * _ONE // 2  # units below it where a weight is as small as an integer gets


def _prices() -> np.ndarray:
    """float64 [BUCKETS]: bits, and squared error in bits, of a coefficient of each bucket."""
    result = np.zeros(BUCKETS)
    for bucket in range(BUCKETS):
        scale = 2.0 ** ((LOWEST + STEP * bucket) / UNITS)
        inside = np.diff(normal_mixture(np.linspace(0, 8 * scale, 2001), scale))
        size = np.linspace(0, 8 * scale, 2001)[:-1] + 0.002 * scale
        low = np.floor(size).astype(np.int64)
        first = (bucket + 1) * STRIDE
        level = np.minimum(low + (size - low > THRESHOLDS[first + np.minimum(low, LARGEST)]), LARGEST)
        error = np.square(size - CENTRES[first + level] / FRACTION)
        result[bucket] = (inside / inside.sum()) @ (BITS[first + level] + error / LAMBDA)
    return result


_PRICES = _prices()


def price(variance: np.ndarray) -> np.ndarray:
    """Bits, and squared error in bits, of coefficients with these variances (squared steps). Encoders choose by it."""
    place = (units_of(variance) - LOWEST) / STEP
    inside = np.interp(place, np.arange(BUCKETS), _PRICES) + np.maximum(place - BUCKETS + 1, 0) * STEP / UNITS
    return np.where(place < 0, variance / LAMBDA, inside)


def bits(variance: np.ndarray) -> np.ndarray:
    """Bits of coefficients with these variances (squared steps), without their squared error."""
    return tables.rate(units_of(variance))


def units_of(variance: np.ndarray) -> np.ndarray:
    """float64: log-scales of coefficients with these variances, units."""
    found: np.ndarray = 0.5 * UNITS * np.log2(np.maximum(variance, 1e-30))
    return found


def _coarser() -> np.ndarray:
    """int32: by log-scale from _QUIETEST to _LOUDEST."""
    at = np.arange(_QUIETEST, _LOUDEST + 1)
    less, more = (np.exp2(2.0 / UNITS * (at + side)) for side in (-_AROUND, _AROUND))
    worth = LAMBDA * (price(more) - price(less)) / (more - less)
    found = np.rint(-0.5 * UNITS * np.log2(np.minimum(worth, 1.0)))
    return np.maximum.accumulate(found).astype(np.int32)


_COARSER = _coarser()
_WEIGHTS = np.rint([root_of_two(2 * (_LIGHTEST - at), UNITS) for at in range(_LIGHTEST + 1)])
DIGEST = zlib.crc32(_COARSER.astype("<i8").tobytes(), tables.DIGEST)


def coarser(units: np.ndarray) -> np.ndarray:
    """int32: by how much the step of a prediction is coarser than that of the coefficients, which have these log-scales
    (int32), units."""
    place = units - _QUIETEST
    last = len(_COARSER) - 1
    # Beyond the table a bit is worth the same share of a variance.
    return _COARSER[np.minimum(np.maximum(place, 0), last)] + np.maximum(place - last, 0)


def worth(variance: np.ndarray) -> np.ndarray:
    """float64: the share of a prediction's squared error that counts, where coefficients have these variances (squared
    steps)."""
    units = np.rint(0.5 * UNITS * np.log2(np.maximum(variance, 2.0**-40))).astype(np.int32)
    return np.exp2(-2.0 / UNITS * coarser(units))


def coarser_along(squares: np.ndarray, units: np.ndarray) -> np.ndarray:
    """int32 [m]: the same of a number along each direction whose components' squares are integers in float64 [m, D],
    below 2^33 in all; `units`, int32 [D] or [m, D], are of coefficients.

    Sums of integers below 2^53, in float64 or on any machine the same.
    """
    counted = np.einsum("md,md->m", squares, np.broadcast_to(weights(coarser(units)), squares.shape))
    found = _ONE * UNITS + whole_log(squares.sum(1)) - whole_log(counted)
    return np.maximum(found // 2, 0).astype(np.int32)


def weights(units: np.ndarray) -> np.ndarray:
    """float64 integers, 2^15 and less: falling with the square of what grows by so many units, int32, at least zero."""
    return _WEIGHTS[np.minimum(units, _LIGHTEST)]


def whole_log(numbers: np.ndarray) -> np.ndarray:
    """int64: log2 of float64 numbers of at least one, rounded down, units; by comparisons, hence exact."""
    mantissa, octave = np.frexp(np.maximum(numbers, 1.0))
    return np.searchsorted(_MANTISSAS, mantissa, side="right") + UNITS * (octave.astype(np.int64) - 1)


_MANTISSAS = np.array([root_of_two(part, UNITS) / 2 for part in range(1, UNITS)])


def size_of(units: np.ndarray) -> np.ndarray:
    """float64: 2^(units / UNITS), of int32 of at least zero."""
    octave, part = np.divmod(units, UNITS)
    return np.ldexp(_ROOTS[part], octave)


_ROOTS = np.array([root_of_two(part, UNITS) for part in range(UNITS)])
