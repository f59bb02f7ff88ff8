"""The entropy model of numbers that are coded one by one: what they cost at a scale, where to round, what they mean.

A scale is the standard deviation of a coefficient divided by the step, on a grid of 1/4 octave (a bucket). A level is
coded with the model of its bucket: a normal distribution whose logarithmic scale is itself uncertain (sd `SPREAD`),
seen through a quantiser whose thresholds minimise distortion + LAMBDA * bits (Sullivan 1996). All that a decoder reads
is integers; they are computed once per process and `DIGEST` is stored in every blob, so that a platform whose
arithmetic gave other integers would refuse a blob instead of decoding it wrongly.

Tables are flat. Their places are cells, (bucket + 1) * STRIDE + magnitude, so that bucket -1 (certainly zero) has its
own and costs nothing.
"""

from __future__ import annotations

import zlib
from functools import cache

import constriction
import numpy as np
from scipy.special import ndtr

UNITS = 16  # log-scales are integers of 1/16 octave
STEP = 4  # units from one bucket to the next
LOWEST = -28  # units of bucket 0: a scale of 2^-1.75 steps; what is below has only zeros
BUCKETS = 20  # the last has a scale of 8 steps; above it levels are coded without their lowest bits
TOP = BUCKETS - 1
PER_OCTAVE = UNITS // STEP
LARGEST = 48  # levels of this magnitude and more are escaped
MOST_RAW = 30  # of these
ESCAPE_BITS = 5  # for the length of what is above
ALPHABET = 2 * LARGEST + 1
STRIDE = 64
EVEN = -LOWEST // STEP  # the bucket of scale 1
LAMBDA = 0.11  # bits are worth this many squared steps
SPREAD = 0.2  # nats
FORMAT = 6  # raised whenever a decoder makes other labels of the same bytes; it is part of the digest
FRACTION = 32  # a reconstructed level is a multiple of 1/32 step
GAIN_ONE = 1 << 16  # scores are fixed-point numbers
_FREQUENCY = 1 << 20


def normal_mixture(edges: np.ndarray, scale: float) -> np.ndarray:
    """P(|x| < edge) for x of standard deviation exp(SPREAD * t) * scale, t normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    spread = scale * np.exp(SPREAD * nodes - SPREAD**2)
    return (2 * ndtr(edges[..., None] / spread) - 1) @ (weights / weights.sum())


def _magnitudes(thresholds: np.ndarray, scale: float) -> np.ndarray:
    """P(|level| = 0..LARGEST), the last with all above; `thresholds` [LARGEST]: where level m turns into m + 1."""
    inside = normal_mixture(np.arange(LARGEST) + thresholds, scale)
    return np.maximum(np.diff(np.concatenate([[0.0], inside, [1.0]])), 2.0**-19)


def _bits(p: np.ndarray) -> np.ndarray:
    """Bits of a magnitude with its sign."""
    return -np.log2(p) + (np.arange(len(p)) > 0)


def _build() -> tuple[np.ndarray, ...]:
    frequency = np.zeros((BUCKETS, ALPHABET))
    bits = np.zeros((BUCKETS, LARGEST + 1), np.float32)
    thresholds = np.zeros((BUCKETS, LARGEST + 1), np.float32)
    centres = np.zeros((BUCKETS, LARGEST + 1), np.int64)
    for bucket in range(BUCKETS):
        scale = 2.0 ** ((LOWEST + STEP * bucket) / UNITS)
        turn = np.full(LARGEST, 0.5)
        for _ in range(12):
            p = _magnitudes(turn, scale)
            cost = _bits(p)
            turn = 0.5 * (turn + np.clip(0.5 + 0.5 * LAMBDA * np.diff(cost), 0.5, 1.0))
        p = _magnitudes(turn, scale)
        p /= p.sum()
        whole = np.maximum(np.rint(p * _FREQUENCY), 2)
        frequency[bucket] = np.concatenate([whole[:0:-1] / 2, whole[:1], whole[1:] / 2])
        bits[bucket] = _bits(whole / whole.sum())
        thresholds[bucket] = np.append(turn, 0.5)
        centres[bucket] = np.rint(FRACTION * _centroids(turn, scale))
    return frequency, bits, thresholds, centres


def _centroids(turn: np.ndarray, scale: float) -> np.ndarray:
    """Mean of |x| within the cell of each magnitude [LARGEST + 1]."""
    grid = (np.arange(64) + 0.5) / 64
    lower = np.concatenate([[0.0], np.arange(LARGEST) + turn])
    upper = np.append(lower[1:], LARGEST + 0.5)
    x = lower[:, None] + (upper - lower)[:, None] * grid
    edges = np.concatenate([lower[:, None], lower[:, None] + (upper - lower)[:, None] * (np.arange(1, 65) / 64)], 1)
    mass = np.maximum(np.diff(normal_mixture(edges, scale), axis=1), 1e-300)
    centre = (mass * x).sum(1) / mass.sum(1)
    centre[0] = 0
    far = mass.sum(1) < 1e-12  # too rare to say: the middle
    centre[far] = np.arange(LARGEST + 1)[far]
    return centre


def _flat(table: np.ndarray, dtype: type, above: float | None = None) -> np.ndarray:
    """[BUCKETS + 2, STRIDE] flattened: a row of zeros, the buckets', and `above` for scales beyond them."""
    whole: np.ndarray = np.zeros((BUCKETS + 2, STRIDE), dtype)
    whole[1 : BUCKETS + 1, : LARGEST + 1] = table.reshape(BUCKETS, -1)
    if above is not None:
        whole[BUCKETS + 1] = above
    return whole.ravel()


_TABLES = _build()
FREQUENCY = _TABLES[0]  # float64 [BUCKETS, ALPHABET]
BITS = _flat(_TABLES[1], np.float64)[:-STRIDE]
THRESHOLDS = _flat(_TABLES[2], np.float32, 0.5)
CENTRES = _flat(_TABLES[3], np.int32)
DIGEST = zlib.crc32(FORMAT.to_bytes(4, "little") + FREQUENCY.astype("<i8").tobytes())


RATES = (FREQUENCY * -np.log2(FREQUENCY / FREQUENCY.sum(1, keepdims=True))).sum(1) / FREQUENCY.sum(1)


def rate(units: np.ndarray) -> np.ndarray:
    """Bits that a coefficient takes on average, by its log-scale."""
    place = (np.asarray(units, np.float64) - LOWEST) / STEP
    inside = np.interp(place, np.arange(BUCKETS), RATES) + np.maximum(place - BUCKETS + 1, 0) * STEP / UNITS
    return np.where(place < -0.5, 0.0, inside)


@cache
def model(bucket: int) -> constriction.stream.model.Categorical:
    """The distribution of level + LARGEST in 0..ALPHABET-1."""
    return constriction.stream.model.Categorical(FREQUENCY[bucket] / FREQUENCY[bucket].sum(), perfect=False, lazy=False)


@cache
def uniform(bits: int) -> constriction.stream.model.Uniform:
    """Raw bits: 0..2^bits-1, 1 <= bits <= 16."""
    return constriction.stream.model.Uniform(1 << bits)
