"""Low-rank parts of an image's rows, on top of what its mean and its partners' means predict.

`seen` part: how much of each region of the picture a row shows is known from its crop and box, so left factors cost
a few bytes: linear combinations of those shares. Only the right factors are told.
`free` part: an ordinary truncated SVD, left factors coded with the rows, right factors with the image.
`partner` part: one number a row, along the mean of its partner, which the decoder has.

Lefts and rights are integers before they are multiplied, so the product is exact (see `basis`). Ranks are those that
minimise bits + distortion at the step, by the rate-distortion function of normal coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from methods._codec.klt import bands
from methods._codec.klt.basis import Basis
from methods._codec.klt.steps import root_of_two
from methods._codec.klt.stream import Reader, Writer
from methods._codec.klt.stream import bits as cost
from methods._codec.klt.tables import FRACTION, STEP, UNITS

FINER = 0  # units: the step of right factors is so much smaller than that of coefficients
_MIX_BUCKET = 38  # of weights: spread over all their values
UNIT_BITS = 12  # a left factor of the seen part is a multiple of 2^-12 of its norm
_SPARE_BITS = 16  # rights are integers of 2^-16 of a reconstructed level
_GAIN_BUCKET = 9
_PLAIN_BUCKET = 13


@dataclass(frozen=True)
class Ranked:
    """The low-rank parts of one image."""

    mix: np.ndarray  # int32 [F, s]: weights of the regions in each seen left factor
    shifts: np.ndarray  # int32 [s]: of a left factor after weighting, so that its norm is about 2^UNIT_BITS
    gains: np.ndarray  # int32 [s + f]: how loud right factors are, 1/4 octave
    levels: np.ndarray  # int32 [s + f, D]: right factors
    buckets: np.ndarray  # int16 [s + f, D]

    @property
    def seen(self) -> int:
        """Rank of the seen part."""
        return self.mix.shape[1]

    @property
    def free(self) -> int:
        """Rank of the free part."""
        return len(self.levels) - self.seen

    def rights(self) -> np.ndarray:
        """float64 integers [s + f, D]: right factors in 1/FRACTION of their step."""
        return bands.restore(self.levels, self.buckets).astype(np.float64)

    def bits(self) -> float:
        """What `write` takes."""
        total = cost(np.full(self.mix.size, _MIX_BUCKET), self.mix.ravel())
        total += cost(np.full(len(self.shifts), _PLAIN_BUCKET), self.shifts)
        total += cost(np.full(len(self.gains), _GAIN_BUCKET), _differences(self.gains))
        return total + cost(self.buckets.ravel(), self.levels.ravel()) + 6

    def write(self, writer: Writer) -> None:
        """Code all of it."""
        writer.write(np.full(2, _PLAIN_BUCKET, np.int16), np.array([self.seen, self.free], np.int32))
        writer.write(np.full(self.mix.size, _MIX_BUCKET, np.int16), self.mix.ravel())
        writer.write(np.full(len(self.shifts), _PLAIN_BUCKET, np.int16), self.shifts)
        writer.write(np.full(len(self.gains), _GAIN_BUCKET, np.int16), _differences(self.gains))
        for band in bands.split(self.levels.shape[1]):
            writer.write(self.buckets[:, band].ravel(), self.levels[:, band].ravel())


def read(reader: Reader, features: int, basis: Basis, step_units: int) -> Ranked:
    """The inverse of `Ranked.write`."""
    seen, free = (int(v) for v in reader.read(np.full(2, _PLAIN_BUCKET, np.int16)))
    mix = reader.read(np.full(features * seen, _MIX_BUCKET, np.int16)).reshape(features, seen)
    shifts = reader.read(np.full(seen, _PLAIN_BUCKET, np.int16))
    gains = np.cumsum(reader.read(np.full(seen + free, _GAIN_BUCKET, np.int16)))
    levels, buckets = bands.run(
        base(basis, gains, step_units), seen + free, lambda _, b: reader.read(b.ravel()).reshape(b.shape)
    )
    return Ranked(mix, shifts, gains, levels, buckets)


def nothing(features: int, size: int) -> Ranked:
    """Rank zero."""
    none = np.zeros((0, size), np.int32)
    return Ranked(
        np.zeros((features, 0), np.int32), np.zeros(0, np.int32), np.zeros(0, np.int32), none, none.astype(np.int16)
    )


def seen_lefts(mix: np.ndarray, shifts: np.ndarray, features: np.ndarray) -> np.ndarray:
    """int64 [m, s]: left factors, 2^UNIT_BITS for one, of rows with integer features [m, F]."""
    return (features.astype(np.int64) @ mix.astype(np.int64)) >> shifts


def shifts_of(mix: np.ndarray, features: np.ndarray) -> np.ndarray:
    """int32 [s]: those that give the left factors of an image's rows [K, F] a norm in [1, 2)."""
    exact = (features.astype(np.int64) @ mix.astype(np.int64)).astype(np.float64)
    norm = np.sqrt(np.maximum((exact**2).sum(0), 1.0))
    return np.maximum(np.frexp(norm)[1] - 1 - UNIT_BITS, 0).astype(np.int32)


def scaled_rights(ranked: Ranked) -> np.ndarray:
    """float64 integers [s + f, D] such that levels of lefts times these are rows in 2^-_SPARE_BITS / FRACTION steps."""
    rights = ranked.rights()
    finer = root_of_two(-FINER, UNITS)
    factor = np.full(len(rights), finer * 2.0 ** (_SPARE_BITS - UNIT_BITS))
    norms = norms_of(rights[ranked.seen :])
    factor[ranked.seen :] = FRACTION * 2.0**_SPARE_BITS / norms
    return np.rint(rights * factor[:, None])


def norms_of(rights: np.ndarray) -> np.ndarray:
    """float64 [r]: norms of integer rows, at least 1; sums of integers, hence exact but for the root."""
    return np.sqrt(np.maximum((rights.astype(np.int64) ** 2).sum(1), 1).astype(np.float64))


def product(lefts: np.ndarray, rights: np.ndarray) -> np.ndarray:
    """float64 integers [m, D], in 1/FRACTION steps, of integer lefts [m, r] and what `scaled_rights` gave [r, D]."""
    return np.rint((lefts.astype(np.float64) @ rights) * 2.0**-_SPARE_BITS)


def left_units(ranked: Ranked, views: int) -> np.ndarray:
    """int32 [f]: log-scales of the free lefts' levels: a left has norm one over the K views, a right has all energy."""
    norm = norms_of(ranked.rights()[ranked.seen :])
    mantissa, octave = np.frexp(norm)
    coarse = np.searchsorted(_MANTISSAS, mantissa, side="right") + UNITS * (octave - 1)
    level = _log_units(FRACTION) + FINER + _log_units(views) // 2
    return (coarse - level).astype(np.int32)


_MANTISSAS = np.array([root_of_two(part, UNITS) / 2 for part in range(1, UNITS)])


def _log_units(count: int) -> int:
    """log2 of an integer's highest bit, units."""
    return UNITS * (count.bit_length() - 1)


def base(basis: Basis, gains: np.ndarray, step_units: int) -> np.ndarray:
    """int32 [r, D]: log-scales of right factors' levels."""
    return basis.rows[None] + STEP * gains[:, None].astype(np.int32) - step_units + FINER


def _differences(gains: np.ndarray) -> np.ndarray:
    return np.diff(gains, prepend=0).astype(np.int32)
