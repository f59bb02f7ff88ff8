"""Statistics against scipy, naive loops, simulation and the laws that they must obey."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.power import tt_solve_power

from bench.stats import intervals

quick = settings(max_examples=60, deadline=None, derandomize=True)
accuracies = st.integers(0, 10_000).map(lambda count: count / 10_000)  # a share of 10,000 test images
replicates = st.dictionaries(st.integers(0, 5), accuracies, min_size=1, max_size=6)


@quick
@given(st.lists(accuracies, min_size=2, max_size=20))
def test_mean_deviation_and_interval_are_those_of_scipy(values: list[float]) -> None:
    found = intervals.summary(values)
    mean = sum(values) / len(values)
    std = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    assert found.n == len(values)
    assert found.mean == pytest.approx(mean, abs=1e-12)
    assert found.std == pytest.approx(std, abs=1e-12)
    if len(set(values)) > 1:
        low, high = scipy_stats.t.interval(0.95, len(values) - 1, mean, scipy_stats.sem(values))
        assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high), abs=1e-12)


def test_what_one_value_cannot_tell_is_missing_not_zero() -> None:
    one = intervals.summary([0.3])
    assert (one.n, one.mean) == (1, 0.3)
    assert math.isnan(one.std)
    assert math.isnan(one.half)
    none = intervals.summary([])
    assert none.n == 0
    assert math.isnan(none.mean)


def test_equal_values_have_no_spread_whatever_the_rounding() -> None:
    assert intervals.summary([0.1] * 3).std == 0.0


@quick
@given(st.dictionaries(st.integers(0, 8), st.tuples(accuracies, accuracies), min_size=2, max_size=9))
def test_the_paired_interval_excludes_zero_where_scipys_paired_test_is_significant(pairs) -> None:
    ours = {r: a for r, (a, _) in pairs.items()}
    theirs = {r: b for r, (_, b) in pairs.items()}
    found = intervals.paired(ours, theirs)
    differences = [a - b for a, b in pairs.values()]
    assert found.mean == pytest.approx(float(np.mean(differences)), abs=1e-12)
    if np.std(differences) > 1e-9:
        p = scipy_stats.ttest_rel([a for a, _ in pairs.values()], [b for _, b in pairs.values()]).pvalue
        if abs(p - 0.05) > 1e-6:
            assert intervals.tied(ours, theirs) == (p > 0.05)


def test_only_replicates_that_both_have_are_paired() -> None:
    found = intervals.paired({0: 0.5, 1: 0.7, 5: 0.9}, {1: 0.6, 0: 0.1, 2: 0.0})
    assert found.n == 2
    assert found.mean == pytest.approx(0.25)


@quick
@given(replicates, replicates, st.integers(-5000, 5000))
def test_shifting_both_methods_moves_no_difference(ours, theirs, shift) -> None:
    def shifted(values):
        return {r: value + shift / 10_000 for r, value in values.items()}

    before, after = intervals.paired(ours, theirs), intervals.paired(shifted(ours), shifted(theirs))
    assert before.mean == pytest.approx(after.mean, abs=1e-9, nan_ok=True)
    assert before.half == pytest.approx(after.half, abs=1e-7, nan_ok=True)


@quick
@given(st.lists(replicates, min_size=1, max_size=6), st.permutations(range(6)), st.randoms(use_true_random=False))
def test_ranks_depend_neither_on_the_numbering_of_replicates_nor_on_the_order_of_methods(
    values, renumber, luck
) -> None:
    entries = {f"method{i}": each for i, each in enumerate(values)}
    renamed = {
        name: {renumber[r]: value for r, value in reversed(list(each.items()))} for name, each in entries.items()
    }
    shuffled = list(entries.items())
    luck.shuffle(shuffled)
    assert intervals.ranks(dict(shuffled)) == intervals.ranks(entries)
    assert intervals.ranks(renamed) == intervals.ranks(entries)


@quick
@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), replicates, min_size=1, max_size=6))
def test_each_group_holds_its_leader_and_all_that_is_tied_with_it(entries) -> None:
    groups = intervals.tie_groups(entries)
    assert sorted(name for group in groups for name in group) == sorted(entries)
    means = {name: intervals.summary(values.values()).mean for name, values in entries.items()}
    leaders = [group[0] for group in groups]
    assert means[leaders[0]] == max(means.values())
    assert [means[name] for name in leaders] == sorted((means[name] for name in leaders), reverse=True)
    for i, group in enumerate(groups):
        assert all(intervals.tied(entries[name], entries[group[0]]) for name in group[1:])
        later = [name for rest in groups[i + 1 :] for name in rest]
        assert not any(intervals.tied(entries[name], entries[group[0]]) for name in later)


def test_ties_are_shown_in_the_rank() -> None:
    clear = {
        "best": {0: 0.50, 1: 0.52, 2: 0.54},
        "same": {0: 0.51, 1: 0.515, 2: 0.54},
        "worse": {0: 0.40, 1: 0.42, 2: 0.441},
        "none": {},
    }
    assert intervals.ranks(clear) == {"best": "1=", "same": "1=", "worse": "3"}
    one = {"a": {0: 0.9}, "b": {0: 0.1}}
    assert intervals.ranks(one) == {"a": "1=", "b": "1="}, "one replicate tells nothing apart"
    assert intervals.ranks({}) == {}


def test_common_luck_does_not_hide_a_difference() -> None:
    """Replicates scatter by 5 points, together: the paired interval sees 1 point, an unpaired one could not."""
    luck = {0: -0.05, 1: 0.0, 2: 0.05}
    a = {r: 0.51 + shift + 0.0001 * r for r, shift in luck.items()}
    b = {r: 0.50 + shift for r, shift in luck.items()}
    assert not intervals.tied(a, b)
    assert scipy_stats.ttest_ind(list(a.values()), list(b.values())).pvalue > 0.5


@pytest.mark.parametrize("comparisons", [5, 20])
def test_a_correction_for_many_comparisons_asks_for_a_larger_difference(comparisons: int) -> None:
    size = intervals.resolvable(0.02, 5, comparisons)
    samples = np.random.default_rng(0).normal(size, 0.02, (40_000, 5))
    found = scipy_stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05 / comparisons
    assert found.mean() == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_intervals_cover_the_truth_95_times_in_100(n: int) -> None:
    rng = np.random.default_rng(n)
    shared = rng.normal(0, 0.05, (3000, n))
    ours, theirs = (shared + rng.normal(mean, 0.01, (3000, n)) for mean in (0.5, 0.48))
    single = [intervals.summary(row) for row in ours]
    pairs = [
        intervals.paired(dict(enumerate(a)), dict(enumerate(b)))
        for a, b in zip(ours[:1500], theirs[:1500], strict=True)
    ]
    assert np.mean([abs(each.mean - 0.5) <= each.half for each in single]) == pytest.approx(0.95, abs=0.012)
    assert np.mean([abs(each.mean - 0.02) <= each.half for each in pairs]) == pytest.approx(0.95, abs=0.017)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_resolvable_difference_is_found_four_times_in_five(n: int) -> None:
    size = intervals.resolvable(0.02, n)
    samples = np.random.default_rng(0).normal(size, 0.02, (40_000, n))
    found = scipy_stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.01)


def test_the_resolvable_difference_shrinks_with_replicates_and_is_unknown_for_one() -> None:
    sizes = [intervals.resolvable(0.02, n) for n in (2, 3, 5, 10, 30)]
    assert sizes == sorted(sizes, reverse=True)
    assert math.isnan(intervals.resolvable(0.02, 1))
    assert math.isnan(intervals.resolvable(math.nan, 3))
    assert intervals.resolvable(0.0, 3) == 0.0


@pytest.mark.parametrize("difference", [0.05, 0.02, -0.01, 0.004])
def test_the_pairs_that_a_difference_needs_are_the_fewest_that_resolve_it(difference: float) -> None:
    n = intervals.pairs_needed(0.02, difference)
    assert n is not None
    assert intervals.resolvable(0.02, n) <= abs(difference)
    assert n == 2 or intervals.resolvable(0.02, n - 1) > abs(difference)
    power = tt_solve_power(abs(difference) / 0.02, nobs=n, alpha=0.05)
    assert power >= 0.795  # by an implementation of its own


def test_what_no_number_of_pairs_shows_needs_none_that_can_be_told() -> None:
    assert intervals.pairs_needed(0.02, 0.0) is None
    assert intervals.pairs_needed(0.0, 0.0) is None
    assert intervals.pairs_needed(0.02, 0.001) is None  # more than 1,000
    assert intervals.pairs_needed(math.nan, 0.1) is None
    assert intervals.pairs_needed(0.0, 0.1) == 2


def test_pooling_weighs_by_degrees_of_freedom() -> None:
    rng = np.random.default_rng(0)
    groups = [rng.normal(mean, 1, n) for mean, n in ((0, 3), (5, 3), (9, 7))]
    naive = math.sqrt(sum(((g - g.mean()) ** 2).sum() for g in groups) / sum(len(g) - 1 for g in groups))
    assert intervals.pooled_std((float(g.std(ddof=1)), len(g)) for g in groups) == pytest.approx(naive)
    assert math.isnan(intervals.pooled_std([(math.nan, 1)]))
