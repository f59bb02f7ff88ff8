"""Statistics over replicates: intervals, paired differences, tie groups, power.

Replicate r of every method shares the student's initialisation and data order (common random numbers), so methods are
compared by the differences within replicates. What cannot be known (a spread from one value) is nan, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
from scipy import special

LEVEL = 0.95  # of every interval
POWER = 0.80

Name = TypeVar("Name", bound=Hashable)
Replicates = Mapping[int, float]  # replicate -> value


@dataclass(frozen=True)
class Summary:
    """Mean and spread of n values. `half`: the interval of the mean is mean - half .. mean + half (Student's t)."""

    n: int
    mean: float  # nan for n = 0
    std: float  # sample standard deviation (n - 1); nan for n < 2
    half: float  # nan for n < 2

    @property
    def includes_zero(self) -> bool:
        """Whether 0 lies in the interval, and True where there is no interval: nothing was shown then."""
        return not abs(self.mean) > self.half


def summary(values: Iterable[float]) -> Summary:
    """Mean, sample standard deviation and t interval of the mean."""
    array = [float(value) for value in values]
    n = len(array)
    mean = math.fsum(array) / n if n else math.nan  # fsum: the order of the values changes not even the last bit
    if n < 2:
        return Summary(n, mean, math.nan, math.nan)
    # Equal values have no spread; their mean may be off by a rounding, which must not turn into a tiny deviation.
    equal = min(array) == max(array)
    std = 0.0 if equal else math.sqrt(math.fsum((value - mean) ** 2 for value in array) / (n - 1))
    return Summary(n, mean, std, t_quantile(n) * std / math.sqrt(n))


@cache
def t_quantile(n: int, comparisons: int = 1) -> float:
    """The two-sided quantile of Student's t at `LEVEL` for n values (n - 1 degrees of freedom); for several comparisons
    at the level that each needs so that all of them keep it (Bonferroni, the first step of Holm)."""
    return float(-special.stdtrit(n - 1, (1 - LEVEL) / 2 / comparisons))


def differences(values: Replicates, reference: Replicates) -> list[float]:
    """values - reference over the replicates that both have, in the order of the replicates."""
    return [values[r] - reference[r] for r in sorted(values.keys() & reference.keys())]


def paired(values: Replicates, reference: Replicates) -> Summary:
    """Summary of values - reference over the replicates that both have."""
    return summary(differences(values, reference))


def tied(values: Replicates, reference: Replicates) -> bool:
    """Whether the replicates do not tell the two apart: the paired interval includes 0, or there are under 2 pairs."""
    return paired(values, reference).includes_zero


def tie_groups(entries: Mapping[Name, Replicates]) -> list[list[Name]]:
    """Groups from best to worst. The leader of a group has the highest mean of all that are left, and everything left
    that is tied with this leader belongs to its group (in order of the mean; equal means in order of the name).

    A noisy entry can thus stand in a better group than one with a higher mean: it was not shown to be worse than the
    leader. Entries without values are left out.
    """
    left = sorted(
        (name for name in entries if entries[name]), key=lambda name: (-summary(entries[name].values()).mean, str(name))
    )
    groups = []
    while left:
        leader = left[0]
        group = [leader, *(name for name in left[1:] if tied(entries[name], entries[leader]))]
        groups.append(group)
        left = [name for name in left if name not in group]
    return groups


def ranks(entries: Mapping[Name, Replicates]) -> dict[Name, str]:
    """Competition ranks with ties shown: "1=", "1=", "3". See `tie_groups`."""
    labels: dict[Name, str] = {}
    for group in tie_groups(entries):
        label = f"{len(labels) + 1}{'=' if len(group) > 1 else ''}"
        labels |= dict.fromkeys(group, label)
    return labels


def pooled_std(summaries: Iterable[tuple[float, int]]) -> float:
    """One standard deviation from several (std, n), each weighted by its n - 1 degrees of freedom; nan from none."""
    known = [(std, n) for std, n in summaries if n > 1 and math.isfinite(std)]
    freedom = sum(n - 1 for _, n in known)
    return math.sqrt(sum((n - 1) * std**2 for std, n in known) / freedom) if freedom else math.nan


def resolvable(std: float, n: int, comparisons: int = 1) -> float:
    """The smallest true difference that a two-sided paired t test over n pairs finds with probability `POWER`, when the
    differences have standard deviation `std` (the noncentral t distribution). nan for n < 2.

    comparisons: the test is one of so many, each corrected for all (see `t_quantile`).
    """
    if n < 2 or not math.isfinite(std):
        return math.nan
    return _resolvable_shift(n, comparisons) * std / math.sqrt(n)


def pairs_needed(std: float, difference: float, most: int = 1000) -> int | None:
    """The fewest pairs, of at most `most`, from which `resolvable` finds a true difference of this size, either way.
    None: more are needed, or `std` is not known. A difference without a spread needs two; no difference, no number."""
    size = abs(difference)
    if not math.isfinite(std) or not math.isfinite(size) or size < 1e-12:
        return None
    if std == 0:
        return 2
    # Student's t needs more pairs than the normal distribution, by a few: begin there.
    normal = (special.ndtri((1 + LEVEL) / 2) + special.ndtri(POWER)) * std / size
    for n in range(max(2, math.ceil(normal**2)), most + 1):
        if resolvable(std, n) <= size:
            return n
    return None


@cache
def _resolvable_shift(n: int, comparisons: int) -> float:
    """The smallest difference that `resolvable` finds, where the mean has standard deviation 1."""
    from scipy.optimize import brentq  # only where there is something to solve: its import takes a while

    critical = t_quantile(n, comparisons)
    # Power = E[P(|Z + d| > critical * S)] over S, the sample's standard deviation relative to the true one. Averaged
    # over quantiles of S, since scipy's noncentral t returns nan at 1 or 2 degrees of freedom.
    quantiles = (np.arange(4096) + 0.5) / 4096
    bar = critical * np.sqrt(2 * special.gammaincinv((n - 1) / 2, quantiles) / (n - 1))

    def shortfall(shift: float) -> float:
        return float(np.mean(special.ndtr(shift - bar) + special.ndtr(-bar - shift))) - POWER

    return float(brentq(shortfall, 0.0, 10 * critical))


def unpaired(one: Summary, other: Summary) -> float:
    """Half of the interval of `one.mean - other.mean`, for means of independent values (Welch's t). nan where one of
    them has under two values or neither has a spread."""
    if one.n < 2 or other.n < 2:
        return math.nan
    parts = [each.std**2 / each.n for each in (one, other)]
    if not sum(parts):
        return math.nan
    freedom = sum(parts) ** 2 / sum(part**2 / (each.n - 1) for part, each in zip(parts, (one, other), strict=True))
    return float(-special.stdtrit(freedom, (1 - LEVEL) / 2)) * math.sqrt(sum(parts))
