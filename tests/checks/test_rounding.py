"""What rounding alone may do to a claim: limits keep the stated rate of false alarms and find what is far off."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.checks.verify.rounding import EXACT, TABLE, Limits, Spread, measured, spread_of

ONE = (0.8, 0.5, 0.25)


def results(rng: np.random.Generator, n: int, scale: float = 1.0) -> list[tuple[float, float, float]]:
    """Results of one seed each, under other instruction sets: normal, losses in their logarithm."""
    draws = rng.normal(0, scale, (n, 3)) * (0.01, 0.05, 0.1)
    return [(0.8 + a, 0.5 * math.exp(b), 0.25 * math.exp(c)) for a, b, c in draws]


@pytest.mark.parametrize(("pairs", "tests"), [(3, 1), (24, 1), (24, 10), (96, 60)])
def test_no_more_boards_than_stated_have_a_false_alarm(pairs: int, tests: int) -> None:
    rng, alarms, boards = np.random.default_rng(pairs + tests), 0, 600
    for _ in range(boards):
        first, second = results(rng, pairs + tests), results(rng, pairs + tests)
        limits = spread_of(zip(first[:pairs], second[:pairs], strict=True)).limits(tests, None)
        claims = zip(first[pairs:], second[pairs:], strict=True)
        alarms += any(limits.distance(one, other) > 1 for one, other in claims)
    assert alarms / boards <= 0.07  # 5 % are stated; the standard error is .9 %


def test_what_is_far_off_is_found() -> None:
    rng = np.random.default_rng(3)
    limits = spread_of(zip(results(rng, 24), results(rng, 24), strict=True)).limits(10, 600)
    assert limits.distance(ONE, (0.9, 0.5, 0.25)) > 1  # ten points, at a standard deviation of one
    assert limits.distance(ONE, (0.8, 0.9, 0.25)) > 1
    assert limits.distance(ONE, (0.8, 0.5, 0.05)) > 1
    assert limits.distance(ONE, (0.81, 0.52, 0.26)) < 1


def test_exact_limits_forgive_nothing() -> None:
    assert EXACT.distance(ONE, ONE) == 0
    for other in ((0.8, 0.5, math.nextafter(0.25, 1)), (0.8, math.nextafter(0.5, 1), 0.25), (0.81, 0.5, 0.25)):
        assert EXACT.distance(ONE, other) == math.inf


def test_what_is_missing_agrees_with_nothing_and_is_left_out_of_a_spread() -> None:
    limits = Limits(1.0, 1.0, 1.0)
    for other in ((None, 0.5, 0.25), (0.8, None, 0.25), (0.8, 0.5, 0.0)):
        assert limits.distance(ONE, other) == math.inf
        assert spread_of([(ONE, other), (ONE, ONE)]).pairs == 1


def test_spreads_add_up_as_their_pairs_do() -> None:
    rng = np.random.default_rng(5)
    pairs = list(zip(results(rng, 30), results(rng, 30), strict=True))
    whole, parts = spread_of(pairs), spread_of(pairs[:11]) + spread_of(pairs[11:])
    assert parts.pairs == whole.pairs == 30
    assert parts.squares == pytest.approx(whole.squares)


def test_what_was_measured_is_served_by_protocol_and_data_set() -> None:
    assert measured("small-soft-v1", "nowhere") == Spread()
    known = measured("small-soft-v1", "glyphs:classes=100")
    assert known.pairs >= 24, TABLE
    assert all(each > 0 for each in known.squares)
    assert known == measured("small-soft-v1", "glyphs")
