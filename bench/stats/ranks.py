"""Ranks with their uncertainty: for every entry the ranks that its replicates do not rule out.

An entry is worse than the rivals that beat it significantly and better than those that it beats, by the paired t test,
Holm-adjusted over its rivals. With probability 95 % none of these verdicts is wrong, and then the true
rank lies within 1 + (rivals that beat it) .. entries - (rivals that it beats), whatever the order of the others
(Mohamad, Goeman and van Zwet, 2019; the guarantee holds for one entry, not for all at once).

A bootstrap of the replicates does not give that. Measured coverage of the true rank (tests/stats/test_ranks.py repeats
the like of it; 4 to 20 entries, 3, 5 and 10 replicates, from nearly tied to well apart; the entry that fares worst):

    bootstrap of the replicates, percentiles             16 % to 100 %    (20 nearly tied entries, 3 replicates: 16 %)
    draws from a t distribution with paired covariance   22 % to 100 %
    here                                                 96 % to 100 %

The percentiles fail where entries are nearly tied, with any number of replicates: the rank of an entry that had bad
luck is estimated about its unlucky place.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np
from scipy import special

from bench.stats.intervals import LEVEL, Replicates
from bench.stats.significance import holm

Name = TypeVar("Name", bound=Hashable)


def rank_intervals(entries: Mapping[Name, Replicates], level: float = LEVEL) -> dict[Name, tuple[int, int]]:
    """Name -> (lowest, highest) rank that the true one has at this level; 1 is the best.

    Entries are compared over the replicates that both have; with fewer than two there is no verdict. Entries without
    values are left out.
    """
    names = [name for name in entries if entries[name]]
    replicates = sorted({replicate for name in names for replicate in entries[name]})
    values = np.array([[entries[name].get(r, np.nan) for r in replicates] for name in names])
    intervals = {}
    for i, name in enumerate(names):
        mean, p = _against(values[i], np.delete(values, i, axis=0))
        clear = holm(p) <= 1 - level
        intervals[name] = (1 + int(np.sum(clear & (mean < 0))), len(names) - int(np.sum(clear & (mean > 0))))
    return intervals


def _against(accuracies: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean paired differences float64 [others] and their two-sided p (paired t); nan for under two pairs."""
    # Equal counts of images are equal, whatever the rounding of the ratios.
    differences = np.round(accuracies - others, 9)
    known = ~np.isnan(differences)
    n = known.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, differences, 0.0).sum(-1) / n
        squares = (np.where(known, differences - mean[:, None], 0.0) ** 2).sum(-1)
        t = np.abs(mean) / np.sqrt(squares / (n - 1) / n)
    t = np.where(mean == 0, 0.0, t)  # no difference and no spread
    return mean, np.where(n < 2, np.nan, 2 * special.stdtr(np.maximum(n - 1, 1), -t))
