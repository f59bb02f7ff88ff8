"""How coarsely `klt` tells what coefficients are predicted from: prices, and the integers of a decoder."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods._codec.klt import prices, rank
from methods._codec.klt.tables import LAMBDA, UNITS
from methods.compressors import klt
from tests.worlds.klt_labels import mixed

LAW = settings(max_examples=60, deadline=None, derandomize=True)
FAR = np.arange(-200, 400, dtype=np.int32)


def test_nothing_is_told_more_coarsely_than_coefficients_that_are_all_zero():
    assert prices.coarser(np.int32(-10_000)) == prices.coarser(np.int32(-60)) == 0


def test_the_louder_coefficients_are_the_coarser_is_what_predicts_them():
    found = prices.coarser(FAR)
    assert found.dtype == np.int32
    assert (np.diff(found) >= 0).all()
    assert (np.diff(found)[FAR[:-1] > 100] == 1).all()  # where a bit is worth the same share of a variance


@pytest.mark.parametrize("variance", [0.5, 1.0, 4.0, 30.0, 1000.0])
def test_a_squared_error_of_a_prediction_counts_as_much_as_the_bits_that_it_costs_coefficients(variance):
    """Beside the difference of two prices; a step is told to 1/16 octave, prices by pieces of 1/4."""
    error = variance / 4
    bits = prices.price(np.array(variance + error)) - prices.price(np.array(variance - error))
    assert prices.worth(np.array(variance)) == pytest.approx(LAMBDA * bits / (2 * error), rel=0.15)


def test_what_is_lost_for_good_counts_in_full():
    assert prices.worth(np.array([0.0, 1e-9, 1e-3])).tolist() == [1, 1, 1]


@LAW
@given(st.integers(1, 2**53 - 1))
def test_logarithms_are_those_of_integers(number):
    """2^(found / 16) <= number < 2^((found + 1) / 16), in Python's integers."""
    found = int(prices.whole_log(np.array([float(number)]))[0])
    assert 2**found <= number**UNITS < 2 ** (found + 1)


@LAW
@given(st.integers(0, 10_000), st.integers(1, 300), st.integers(0, 30))
def test_norms_are_those_of_integers_of_at_most_24_bits(seed, size, octaves):
    """A decoder depends on it: whichever way squares are summed, and of louder rows the last bits never count."""
    rows = np.random.default_rng(seed).integers(-(2**octaves), 2**octaves, (3, size), endpoint=True)
    exact = []
    for row in rows.tolist():
        beyond = max(max(abs(one) for one in row).bit_length() - 24, 0)
        squares = sum(round(Fraction(one, 2**beyond)) ** 2 for one in row)
        exact.append(math.ldexp(math.sqrt(max(squares, 1)), beyond))
    assert rank.norms_of(rows.astype(np.float64)).tolist() == exact


def test_sizes_are_powers_of_two():
    units = np.arange(0, 320, dtype=np.int32)
    assert prices.size_of(units).tolist() == pytest.approx([2 ** (unit / UNITS) for unit in units], rel=1e-14)


@LAW
@given(seed=st.integers(0, 10_000), loud=st.sampled_from([-100, 0, 60, 300]))
def test_a_direction_has_the_step_of_the_mean_of_its_components_worth(seed, loud):
    rng = np.random.default_rng(seed)
    units = (loud - rng.integers(0, 80, 50)).astype(np.int32)
    squares = np.rint(2.0**32 * rng.dirichlet(np.full(50, 0.2), 3))
    for found, direction in zip(prices.coarser_along(squares, units), squares, strict=True):
        worth = np.maximum(np.exp2(-2 / UNITS * prices.coarser(units)), 2.0**-15)
        expected = -0.5 * UNITS * math.log2((direction @ worth) / direction.sum())
        assert abs(found - expected) <= 1.1


def test_a_direction_of_nothing_has_a_step_all_the_same():
    assert prices.coarser_along(np.zeros((1, 4)), np.zeros(4, np.int32)).dtype == np.int32
    assert prices.coarser_along(np.zeros((0, 4)), np.zeros((0, 4), np.int32)).shape == (0,)


@pytest.mark.parametrize(("images", "budget"), [(3, 36_000), (1, 12_000)])
def test_coarse_predictions_leave_more_for_what_they_predict(images, budget, monkeypatch):
    """Squared error of the same labels in as many bytes, beside predictions with the step of coefficients: a bit and
    more for each of those. Of fewer bits both are about as good."""
    labels = mixed(images, 300, 200, 0, 6)

    def error() -> float:
        found = klt.decode(klt.encode(labels, budget, None)).numpy().astype(np.float64)
        rest = found - labels.logits.numpy()
        return float(np.square(rest - rest.mean(2, keepdims=True)).mean())

    coarse = error()
    monkeypatch.setattr(prices, "_COARSER", np.zeros_like(prices._COARSER))
    assert coarse < error()
