"""Tests of differences, against scipy, statsmodels and a naive enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.stats.descriptivestats import sign_test as statsmodels_sign_test
from statsmodels.stats.multitest import multipletests

from bench.stats.significance import DRAWS, holm, paired_t, sign_flip, sign_test

quick = settings(max_examples=60, deadline=None, derandomize=True)
steps = st.integers(-40, 40).map(lambda count: count / 500)  # many ties and zeros


@quick
@given(st.lists(steps, min_size=1, max_size=9))
def test_sign_flips_are_counted_as_a_naive_enumeration_counts_them(differences: list[float]) -> None:
    counts = [round(500 * value) for value in differences]  # whole numbers: no rounding in the sums
    flipped = [
        abs(sum(s * c for s, c in zip(signs, counts, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(counts))
    ]
    found = sign_flip(differences)
    assert found.p == sum(value >= abs(sum(counts)) for value in flipped) / len(flipped)
    assert found.smallest_p == sum(value >= sum(map(abs, counts)) for value in flipped) / len(flipped)
    assert found.n == len(differences)
    assert "exact" in found.name


def test_sign_flips_agree_with_scipys_permutation_test_on_twelve_pairs() -> None:
    differences = np.random.default_rng(0).normal(0.5, 1, 12)
    reference = scipy_stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip(differences).p == pytest.approx(reference.pvalue, abs=1e-12)


def test_twenty_pairs_are_still_exact() -> None:
    found = sign_flip([0.01] * 20)
    assert found.p == found.smallest_p == 2.0**-19


def test_many_pairs_are_drawn_from_named_coordinates_and_come_near_the_exact_value() -> None:
    differences = list(np.random.default_rng(1).normal(0.4, 1, 24))
    found = sign_flip(differences, "a cell")
    sums = np.zeros(1)
    for value in differences:
        sums = np.concatenate([sums + value, sums - value])
    exact = float(np.mean(np.abs(sums) >= abs(sum(differences)) - 1e-12))
    assert found.p == pytest.approx(exact, abs=4 * math.sqrt(exact / DRAWS))
    assert found == sign_flip(differences, "a cell")
    assert found.p != sign_flip(differences, "another cell").p
    assert found.smallest_p == 1 / (DRAWS + 1)
    assert "99,999 draws" in found.name
    assert sign_flip([1.0] * 24).p == found.smallest_p, "never 0"


@pytest.mark.parametrize("n", [3, 5, 10])
def test_no_exact_test_can_go_below_what_it_states(n: int) -> None:
    clear = [0.5 + 0.01 * i for i in range(n)]
    assert sign_flip(clear).p == sign_flip(clear).smallest_p == 2.0 ** (1 - n)
    assert sign_test(clear).p == sign_test(clear).smallest_p == 2.0 ** (1 - n)


@quick
@given(st.lists(steps, min_size=1, max_size=30))
def test_the_sign_test_is_that_of_statsmodels(differences: list[float]) -> None:
    found = sign_test(differences)
    if any(differences):
        assert found.p == pytest.approx(statsmodels_sign_test(differences)[1])
    assert found.n == sum(value != 0 for value in differences)


@quick
@given(st.lists(steps, min_size=2, max_size=12))
def test_the_paired_t_is_that_of_scipy(differences: list[float]) -> None:
    found = paired_t(differences)
    if len(set(differences)) > 1:
        assert found.p == pytest.approx(scipy_stats.ttest_1samp(differences, 0).pvalue, rel=1e-9)
    else:
        assert found.p == (differences[0] == 0)


@pytest.mark.parametrize("test", [sign_flip, sign_test, paired_t])
def test_nothing_to_test_is_no_result_and_no_difference_is_no_finding(test) -> None:
    assert math.isnan(test([]).p)
    assert math.isnan(test([]).smallest_p)
    assert test([0.0, 0.0, 0.0]).p == 1.0


@pytest.mark.parametrize("k", [1, 5, 20])
def test_holms_adjustment_is_that_of_statsmodels(k: int) -> None:
    rng = np.random.default_rng(k)
    for p_values in (rng.random(k), rng.random(k) ** 4, rng.random(k).round(1)):  # the last with ties, 0 and 1
        assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1])


@quick
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_stepping_down_rejects(p_values: list[float]) -> None:
    rejected = set()
    for left, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[i] * (len(p_values) - left) > 0.05:
            break
        rejected.add(i)
    assert set(np.flatnonzero(holm(p_values) <= 0.05)) == rejected


def test_a_missing_p_value_stays_missing_and_counts_as_no_test() -> None:
    adjusted = holm([0.02, math.nan, 0.01])
    assert adjusted[[0, 2]] == pytest.approx([0.02, 0.02])
    assert math.isnan(adjusted[1])
    assert holm([]).size == 0
    assert np.isnan(holm([math.nan])).all()


def test_sign_flips_keep_their_level_under_lopsided_spreads_where_the_t_test_need_not() -> None:
    rng = np.random.default_rng(2)
    noise = rng.standard_t(1.5, (1000, 8)) * np.exp(rng.normal(0, 1, 8))
    assert np.mean([sign_flip(row).p <= 0.05 for row in noise]) <= 0.05
