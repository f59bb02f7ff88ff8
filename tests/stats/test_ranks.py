"""Intervals of ranks: against the pairwise tests, and by simulation that they cover the true rank."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.stats.ranks import rank_intervals
from bench.stats.significance import holm, paired_t

accuracies = st.integers(0, 200).map(lambda count: count / 200)
entries = st.dictionaries(
    st.integers(0, 8), st.dictionaries(st.integers(0, 4), accuracies, max_size=5), min_size=0, max_size=7
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(entries)
def test_each_rival_counts_that_the_holm_adjusted_paired_t_tells_apart(entries) -> None:
    known = {name: values for name, values in entries.items() if values}
    expected = {}
    for name, own in known.items():
        pairs = [
            [round(200 * own[r]) - round(200 * other[r]) for r in sorted(own.keys() & other.keys())]
            for rival, other in known.items()
            if rival != name
        ]
        clear = holm([paired_t(each).p for each in pairs]) <= 0.05
        better = sum(bool(c) and sum(each) > 0 for c, each in zip(clear, pairs, strict=True))
        worse = sum(bool(c) and sum(each) < 0 for c, each in zip(clear, pairs, strict=True))
        expected[name] = (1 + worse, len(known) - better)
    assert rank_intervals(entries) == expected


def luck(gap: float, n: int, entries: int, rng: np.random.Generator) -> np.ndarray:
    """[n, entries]: entry 0 is the best; replicates share most of their luck, entries differ in noise."""
    spread = np.exp(rng.normal(0, 0.5, entries))
    return -gap * np.arange(entries) + 3 * rng.normal(size=(n, 1)) + spread * rng.normal(size=(n, entries))


@pytest.mark.parametrize("gap", [0.01, 0.5, 3.0])
@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_true_rank_lies_in_the_interval_of_every_entry_95_times_in_100(n, gap) -> None:
    rng = np.random.default_rng([n, int(100 * gap)])
    runs, size = 250, 8
    covered, width = np.zeros(size), 0.0
    for _ in range(runs):
        values = luck(gap, n, size, rng)
        found = rank_intervals({i: dict(enumerate(values[:, i])) for i in range(size)})
        covered += [found[i][0] <= i + 1 <= found[i][1] for i in range(size)]
        width += sum(high - low for low, high in found.values()) / size / runs
    assert covered.min() / runs >= 0.95
    if n == 10 and gap == 3.0:
        assert width < 1, "what is well apart is told apart"


def test_a_bootstrap_of_the_replicates_would_miss_the_rank_of_nearly_tied_entries() -> None:
    """Why the interval is not one."""
    rng = np.random.default_rng(0)
    covered = np.zeros(8)
    for _ in range(100):
        values = luck(0.01, 3, 8, rng)
        means = values[rng.integers(3, size=(500, 3))].mean(1)
        ranks = (-means).argsort(-1).argsort(-1) + 1
        low, high = np.quantile(ranks, [0.025, 0.975], axis=0, method="closest_observation")
        covered += (low <= np.arange(1, 9)) & (np.arange(1, 9) <= high)
    assert covered.min() / 100 < 0.6


def test_one_replicate_rules_out_no_rank_and_no_entry_has_none() -> None:
    assert rank_intervals({"a": {0: 0.9}, "b": {0: 0.1}, "c": {}}) == {"a": (1, 2), "b": (1, 2)}
    assert rank_intervals({"a": {0: 0.9, 1: 0.8}}) == {"a": (1, 1)}
    assert rank_intervals({}) == {}


def test_entries_are_compared_over_the_replicates_that_both_have() -> None:
    found = rank_intervals({"a": {0: 0.5, 1: 0.51, 2: 0.9}, "b": {0: 0.3, 1: 0.31, 3: 0.99}})
    assert found == {"a": (1, 1), "b": (2, 2)}
    assert rank_intervals({"a": {0: 0.5, 1: 0.51}, "b": {2: 0.3, 3: 0.31}}) == {"a": (1, 2), "b": (1, 2)}
