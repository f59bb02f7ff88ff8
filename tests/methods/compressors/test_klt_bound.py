"""The rate-distortion bound that klt's rounding is set beside (speed/klt_bound.py)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad

from methods._codec.klt import tables
from speed import klt_bound


@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 3.0])
def test_of_a_normal_distribution_it_is_the_closed_form(scale):
    """R = log2(variance / D) / 2, and D = slope / (2 ln 2) wherever that is below the variance."""
    slope = tables.LAMBDA
    error = min(slope / (2 * math.log(2)), scale**2)
    bits, found = klt_bound.bound(scale, slope, spread=0.0)
    assert bits == pytest.approx(0.5 * math.log2(scale**2 / error), abs=2e-3)
    assert found == pytest.approx(error, rel=5e-3)


def test_no_scalar_quantiser_is_below_the_bound():
    for bucket in range(0, tables.BUCKETS, 3):
        bits, error = klt_bound.scalar(bucket)
        least_bits, least_error = klt_bound.bound(klt_bound.scale_of(bucket), tables.LAMBDA)
        assert least_error + tables.LAMBDA * least_bits < error + tables.LAMBDA * bits


def test_the_scalar_quantiser_is_that_of_means():
    """Its bits and errors beside a plain integral over the thresholds of one bucket."""
    bucket, scale = 10, klt_bound.scale_of(10)
    first = (bucket + 1) * tables.STRIDE
    bits = error = 0.0
    for level in range(12):
        low = 0.0 if level == 0 else level - 1 + float(tables.THRESHOLDS[first + level - 1])
        high = level + float(tables.THRESHOLDS[first + level])
        centre = tables.CENTRES[first + level] / tables.FRACTION

        def mass(x: float) -> float:
            return 2 * float(klt_bound.density(scale, np.array([x]))[0])

        bits += quad(mass, low, high)[0] * tables.BITS[first + level]
        error += quad(lambda x: mass(x) * (x - centre) ** 2, low, high)[0]  # noqa: B023
    assert klt_bound.scalar(bucket) == pytest.approx((bits, error), rel=2e-2)
