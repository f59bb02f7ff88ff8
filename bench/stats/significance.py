"""Tests of differences within replicates: exact where they can be, and every result says which test it was.

With n pairs a sign-flip or sign test cannot give a p below 2^(1 - n): .25 for three replicates, .0625 for five, .002
for ten. `smallest_p` stands beside every p, so that "not significant" is not read as "no difference" where the test had
no way to say anything else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from bench.seeds import Coordinate, numpy_generator
from bench.stats.intervals import summary

EXACT_UP_TO = 20  # pairs, 2^20 sign patterns
DRAWS = 99_999  # beyond that; the smallest p is then 1e-5
_BLOCK = 4096  # draws at a time
_TIE = 1e-9  # accuracies are ratios: sums closer than this share of the largest are equal


@dataclass(frozen=True)
class Test:
    """One two-sided test of "no difference"."""

    __test__ = False  # not one of pytest's

    name: str  # which test, in words
    n: int  # differences that it used
    p: float  # nan where there is nothing to test
    smallest_p: float  # that n differences (for exact tests: of these sizes) could have given; nan where p is


def sign_flip(differences: Iterable[float], *coordinates: Coordinate) -> Test:
    """Permutation test of the mean of paired differences: without a true difference, each has either sign with
    probability 1/2, whatever its distribution.

    p is the share of sign patterns whose sum is at least as far from 0 as the one seen. Up to 20 pairs all 2^n patterns
    are counted. Beyond, 99,999 are drawn from the generator that `coordinates` name, and p = (b + 1) / (m + 1) (Phipson
    and Smyth, 2010: never 0). A difference of 0 stays in; each doubles the smallest attainable p.
    """
    values = np.array([float(value) for value in differences])
    n = len(values)
    name = "sign-flip permutation, exact" if n <= EXACT_UP_TO else f"sign-flip permutation, {DRAWS:,} draws"
    if n == 0:
        return Test(name, 0, math.nan, math.nan)
    bar = abs(math.fsum(values)) - _TIE * float(np.abs(values).sum())
    if n <= EXACT_UP_TO:
        # The first sign stays: a pattern and its opposite are equally far from 0.
        sums = values[:1]
        for value in values[1:]:
            sums = np.concatenate([sums + value, sums - value])
        largest = float(np.abs(values).sum()) * (1 - _TIE)
        return Test(name, n, float(np.mean(np.abs(sums) >= bar)), float(np.mean(np.abs(sums) >= largest)))
    generator = numpy_generator("sign-flip", n, *coordinates)
    beyond = 0
    for start in range(0, DRAWS, _BLOCK):
        signs = 2.0 * generator.integers(0, 2, (min(_BLOCK, DRAWS - start), n)) - 1
        beyond += int(np.count_nonzero(np.abs(signs @ values) >= bar))
    return Test(name, n, (beyond + 1) / (DRAWS + 1), 1 / (DRAWS + 1))


def sign_test(differences: Iterable[float]) -> Test:
    """Exact sign test: how often the difference is positive, against a fair coin. Differences of 0 are dropped (`n`
    counts the others); if all are 0, p = 1."""
    values = [float(value) for value in differences]
    kept = [value for value in values if value != 0]
    name = "sign test, exact, zeros dropped"
    if not values:
        return Test(name, 0, math.nan, math.nan)
    if not kept:
        return Test(name, 0, 1.0, 1.0)
    from scipy.stats import binomtest  # takes longer to import than to print a leaderboard

    p = binomtest(sum(value > 0 for value in kept), len(kept), 0.5).pvalue
    return Test(name, len(kept), float(p), 2.0 ** (1 - len(kept)))


def paired_t(differences: Iterable[float]) -> Test:
    """Student's t test of the mean of paired differences, normal noise taken for granted; nan for n < 2.

    Its p has no lower bound: differences that are all the same give 0, or 1 where they are all 0.
    """
    sample = summary(differences)
    name = "paired t"
    if sample.n < 2:
        return Test(name, sample.n, math.nan, math.nan)
    if sample.std == 0:
        return Test(name, sample.n, float(sample.mean == 0), 0.0)
    t = sample.mean / (sample.std / math.sqrt(sample.n))
    return Test(name, sample.n, float(2 * special.stdtr(sample.n - 1, -abs(t))), 0.0)


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values, float64 [k], in the order given: rejecting where one is <= .05 keeps the probability of
    any false rejection at 5 %, however the tests depend on each other (Holm 1979). nan stays nan and counts as no test.
    """
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, math.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return adjusted
