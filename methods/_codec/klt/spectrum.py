"""What second moments and their spectra say: axes for rows, how many of these pay, and how precisely stored."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_PRECISIONS = range(6, 13)


class Moment(NamedTuple):
    """Second moments of rows in C dimensions, in the square of their unit."""

    total: np.ndarray  # float64 [C, C]: the sum over rows, or in proportion to it
    rows: int  # how many; of how many it is to count for

    def plus(self, other: Moment) -> Moment:
        """Of both."""
        return Moment(self.total + other.total, self.rows + other.rows)

    def less(self, other: Moment) -> Moment:
        """Without some of the rows."""
        return Moment(self.total - other.total, self.rows - other.rows)

    def along(self, vectors: np.ndarray) -> Moment:
        """Of the rows' projections on vectors [C, D]."""
        return Moment(vectors.T @ self.total @ vectors, self.rows)


def spectrum(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, falling and not below zero, and eigenvectors in columns."""
    values, vectors = np.linalg.eigh(matrix)
    return np.maximum(values[::-1], 0), vectors[:, ::-1]


def lost_beyond(energy: np.ndarray) -> np.ndarray:
    """float64 [C + 1]: what is beyond the first 0..C components."""
    return np.append(energy[::-1].cumsum()[::-1], 0.0)


def lost_unseen(parts: np.ndarray) -> np.ndarray:
    """The same for images that the components are not fitted on: of each part, by the components of the others.

    Args:
        parts: float64 [parts, C, C]: second moments, which add up to that of the whole.
    """
    whole = parts.sum(0)
    lost = np.zeros(parts.shape[1] + 1)
    for part in parts:
        wide = spectrum(whole - part)[1]
        lost += lost_beyond(np.einsum("cd,cd->d", wide, part @ wide))
    return lost


def best_size(
    variance: np.ndarray, lost: np.ndarray, diagonal: np.ndarray, budget_bytes: int, rows: int
) -> tuple[int, int]:
    """(D, p) of the basis that leaves the least error by the rate-distortion function; (0, 0): none pays.

    Args:
        variance: of rows' KLT coefficients, falling.
        lost: [C + 1], what is beyond the first 0..C components, with what means contribute.
        diagonal: of the classes themselves.
        budget_bytes, rows: of the whole set.
    """
    c = len(variance)
    best = (water_level(diagonal, 8 * budget_bytes / rows)[1], 0, 0)
    sizes = sorted({min(c, int(s)) for s in np.geomspace(4, c, 25)})
    for precision in _PRECISIONS:
        for size in sizes:
            left = budget_bytes - stored_bytes(c, size, precision)
            if left <= 0:
                break
            level, error = water_level(variance[:size], 8 * left / rows)
            blurred = c * 4.0**-precision / 12 * np.maximum(variance[:size] - level, 0).sum()
            best = min(best, (error + float(lost[size]) + blurred, size, precision))
    return best[1], best[2]


def stored_bytes(c: int, size: int, precision: int) -> float:
    """About what so many vectors in `c` dimensions take."""
    return size * c * max(1.0, precision - 0.5 * float(np.log2(c)) + 2.05) / 8


def water_level(variance: np.ndarray, bits: float) -> tuple[float, float]:
    """(level, error) of independent normal coefficients at `bits` for all of them: reverse water-filling."""
    logs = np.log2(np.maximum(np.sort(variance)[::-1], 1e-30))
    count = np.arange(1, len(logs) + 1)
    level = (np.cumsum(logs) - 2 * bits) / count  # if the first `count` were coded
    chosen = int(np.flatnonzero(level <= logs).max(initial=0))
    height = float(np.exp2(min(level[chosen], 200)))
    return height, float(np.minimum(variance, height).sum())


def best_axes(parts: Sequence[Moment], mixes: Sequence[Sequence[Moment]], bits: float) -> tuple[np.ndarray, np.ndarray]:
    """Axes for rows like those of a sample, from the sample and what else may tell in which directions rows vary.

    Other rows may vary otherwise, and so may the means of images. Hence it is tried: each part of the sample in axes
    that the other parts tell, with each mix.

    Args:
        parts: of disjoint images of the sample; two or more, or there must be one mix.
        mixes: what is let in beside the sample.
        bits: for a row: the mix that leaves the least error with these is taken.

    Returns:
        float64 [D], falling, the mean square of a coefficient in that mix, which is made as loud as the sample; and the
        axes, float64 [D, D], in columns.
    """
    whole = functools.reduce(Moment.plus, parts)
    errors = np.zeros(len(mixes))
    for part, (at, mix) in itertools.product(parts, enumerate(mixes) if len(mixes) > 1 else ()):
        axes = spectrum(_mixed(whole.less(part), mix))[1]
        errors[at] += water_level(np.einsum("cd,cd->d", axes, part.total @ axes) / part.rows, bits)[1]
    return spectrum(_mixed(whole, mixes[int(errors.argmin())]))


def _mixed(first: Moment, more: Sequence[Moment]) -> np.ndarray:
    """float64 [D, D]: the mean square of a row; all are made as loud as the first and weigh by numbers of rows."""
    energy, count, mixed = np.trace(first.total), float(first.rows), first.total.copy()
    for one in more:
        loud = np.trace(one.total)
        if loud > 0:
            mixed += one.total * (energy / first.rows / loud * one.rows)
            count += one.rows
    return mixed / count
