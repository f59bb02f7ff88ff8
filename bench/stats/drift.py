"""Drift: which numbers of a board moved beyond chance between a baseline and now.

Each cell (data set, method, ipc, ...) has a few replicates on either side, paired by replicate. A plain t test of three
pairs, corrected for 40 cells, finds nothing below 21 standard deviations; so cells borrow strength
(`bench.stats.moderated`).

Measured (tests/stats/test_drift.py simulates the like of it; accuracies rounded to 1/360, 1/500 or 1/10,000; 600 to
4,000 null boards for each of 30 kinds: noise normal, Laplace, t(3) or contaminated; its spread equal in all cells,
log-normal, of two kinds, or with few loud cells). False alarms per board, the worst kind:

    cells       3 replicates   5 replicates   10 replicates
    1 to 5          5 %            5 %             5 %       (a single cell: the plain t, exactly 5 %)
    40              3 %            4 %             4 %
    150             5 %            3 %             4 %

limma's uncorrected estimate gives 8 to 11 % on ordinary boards and up to 36 % where one cell is 15 times as noisy as
the rest; that is why the prior is the cautious one.

A shift of one cell is found with 80 % probability from so many standard deviations of the paired differences on (where
they are 1 point: so many points). First all cells equally noisy, then with spreads over a log-normal of sigma 0.5, then
the plain t:

    cells       3 replicates        5 replicates        10 replicates
    12          5.0 / 6.5 / 11.5    2.5 / 3.0 / 3.5     1.5 / 1.75 / 1.75
    40          6.3 / 8.0 / 21      2.8 / 3.75 / 4.75   1.6 / 2.0 / 2.0
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
from scipy import stats as distributions

from bench.stats.intervals import LEVEL, Replicates
from bench.stats.moderated import Moderated, moderated_t
from bench.stats.significance import holm

Cell = TypeVar("Cell", bound=Hashable)
Verdict = Literal["moved", "not moved", "unknown"]
_SAME = 1e-9  # accuracies that differ by less are equal: counts of images, divided, perhaps read back from decimals


@dataclass(frozen=True)
class Drift(Generic[Cell]):
    """What happened to one cell. Differences are present - baseline, in fractions."""

    cell: Cell
    n: int  # replicates that both have
    difference: float  # mean; nan for n = 0
    low: float  # 95 % interval of the mean, not corrected for the number of cells; nan where no test is possible
    high: float
    p: float
    p_holm: float  # adjusted for all cells that were tested
    verdict: Verdict  # "unknown": no test is possible
    direction: Literal["up", "down", ""]  # of the mean difference


def drift(
    baseline: Mapping[Cell, Replicates], present: Mapping[Cell, Replicates], *, level: float = 1 - LEVEL
) -> list[Drift[Cell]]:
    """One result for every cell of either board, in the order of the baseline, then of the present.

    `baseline` and `present`: cell -> {replicate: accuracy as a fraction}. Replicates that only one of them has are left
    out. A cell has moved where its p, Holm-adjusted over the cells, is at most `level`: if nothing moved, the
    probability of any alarm is at most `level`. A cell in which every replicate came out the same has p = 1.
    """
    cells = list(dict.fromkeys([*baseline, *present]))
    pairs = []
    for cell in cells:
        a, b = baseline.get(cell, {}), present.get(cell, {})
        pairs.append([(a[r], b[r]) for r in sorted(a.keys() & b.keys())])
    n = np.array([len(each) for each in pairs], dtype=int)
    values = np.full((2, len(cells), max(n, default=0)), math.nan)
    for i, each in enumerate(pairs):
        values[:, i, : n[i]] = np.array(each).reshape(-1, 2).T
    difference, tests = judge(values[0], values[1])
    adjusted = holm(tests.p)
    half = distributions.t.ppf((1 + LEVEL) / 2, tests.freedom) * tests.error
    results = []
    for i, cell in enumerate(cells):
        mean = float(difference[i])
        verdict: Verdict = "unknown"
        if not math.isnan(adjusted[i]):
            verdict = "moved" if adjusted[i] <= level else "not moved"
        direction: Literal["up", "down", ""] = "up" if mean > 0 else "down" if mean < 0 else ""
        low, high = mean - float(half[i]), mean + float(half[i])
        results.append(
            Drift(cell, int(n[i]), mean, low, high, float(tests.p[i]), float(adjusted[i]), verdict, direction)
        )
    return results


def judge(baseline: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, Moderated]:
    """Mean differences [..., cells] and their tests, of accuracies [..., cells, replicates], nan where there is none.
    Leading axes are independent boards.

    Accuracies are counts of images, so a cell's differences may be equal by chance. A cell that changed at all is
    therefore taken to have at least the variance that rounding alone gives a difference, step^2 / 6. The step is the
    smallest difference between two accuracies of the cell, or of the board where the cell has under three values.
    """
    differences = present - baseline
    differences = np.where(np.abs(differences) < _SAME, 0.0, differences)
    known = ~np.isnan(differences)
    n = known.sum(-1)
    mean = np.where(known, differences, 0.0).sum(-1) / np.where(n > 0, n, math.nan)
    squares = (np.where(known, differences - mean[..., None], 0.0) ** 2).sum(-1)
    same = (n > 0) & ~np.any(known & (differences != 0), axis=-1)
    floor = _steps(np.where(known, baseline, math.nan), np.where(known, present, math.nan)) ** 2 / 6
    variances = np.where(same, 0.0, np.maximum(squares / np.maximum(n - 1, 1), floor))
    tests = moderated_t(mean, variances, n, cautious=True)
    return mean, Moderated(
        t=np.where(same, 0.0, tests.t),
        freedom=np.where(same, np.maximum(n - 1, 1), tests.freedom),
        error=np.where(same, 0.0, tests.error),
        p=np.where(same, 1.0, tests.p),
    )


def _steps(baseline: np.ndarray, present: np.ndarray) -> np.ndarray:
    values = np.sort(np.concatenate([baseline, present], axis=-1), axis=-1)  # nan last
    gaps = np.diff(values, axis=-1)
    apart = gaps > _SAME  # False for nan
    cell_steps = np.where(apart, gaps, np.inf).min(-1, initial=np.inf)
    board = cell_steps.min(-1, keepdims=True, initial=np.inf)
    steps = np.where(apart.sum(-1) >= 2, cell_steps, board)
    return np.where(np.isfinite(steps), steps, 0.0)
