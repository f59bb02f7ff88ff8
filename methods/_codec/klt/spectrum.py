"""What second moments and their spectra say: axes for rows, how many of these pay, and how precisely stored."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

_PRECISIONS = range(6, 13)


class Moment(NamedTuple):
    """Second moments of rows in C dimensions."""

    total: np.ndarray  # float64 [C, C]: their sum
    rows: int  # how many

    def plus(self, other: Moment) -> Moment:
        """Of both."""
        return Moment(self.total + other.total, self.rows + other.rows)

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
        each = c * max(1.0, precision - 0.5 * np.log2(c) + 2.05) / 8
        for size in sizes:
            left = budget_bytes - size * each
            if left <= 0:
                break
            level, error = water_level(variance[:size], 8 * left / rows)
            blurred = c * 4.0**-precision / 12 * np.maximum(variance[:size] - level, 0).sum()
            best = min(best, (error + float(lost[size]) + blurred, size, precision))
    return best[1], best[2]


def water_level(variance: np.ndarray, bits: float) -> tuple[float, float]:
    """(level, error) of independent normal coefficients at `bits` for all of them: reverse water-filling."""
    logs = np.log2(np.maximum(np.sort(variance)[::-1], 1e-30))
    count = np.arange(1, len(logs) + 1)
    level = (np.cumsum(logs) - 2 * bits) / count  # if the first `count` were coded
    chosen = int(np.flatnonzero(level <= logs).max(initial=0))
    height = float(np.exp2(min(level[chosen], 200)))
    return height, float(np.minimum(variance, height).sum())


def best_axes(parts: list[Moment], known: list[Moment], means: Moment, bits: float) -> tuple[np.ndarray, np.ndarray]:
    """Variances and axes (columns) for rows like those of these parts of a sample and what else is known of rows.

    The means of images may vary in the same directions as rows do, or not: they are let in if each part, in axes that
    the others tell, then has less error at so many bits a row.

    Args:
        parts: of disjoint images; at least two.
        known: of other rows.
        means: of the means of images, counted as so many rows.
        bits: of a row.
    """
    whole = functools.reduce(Moment.plus, parts)
    more = [*known, means]
    errors = np.zeros(2)
    for part in parts:
        others = Moment(whole.total - part.total, whole.rows - part.rows)
        for at, let_in in enumerate((known, more)):
            axes = spectrum(_mixed(others, let_in))[1]
            errors[at] += water_level(np.einsum("cd,cd->d", axes, part.total @ axes) / part.rows, bits)[1]
    return spectrum(_mixed(whole, more if errors[1] < errors[0] else known))


def _mixed(first: Moment, more: list[Moment]) -> np.ndarray:
    """float64 [D, D]: the mean square of a row, as loud as one of the first; of directions, each says as much as it has
    rows."""
    energy, count, mixed = np.trace(first.total), float(first.rows), first.total.copy()
    for one in more:
        loud = np.trace(one.total)
        if loud > 0:
            mixed += one.total * (energy / first.rows / loud * one.rows)
            count += one.rows
    return mixed / count
