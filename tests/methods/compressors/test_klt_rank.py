"""Right factors of klt's low-rank parts: kept as narrow as holds them, and the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from methods._codec.klt import rank

KINDS = {15: np.int16, 16: np.int32, 31: np.int32, 32: np.float64, 45: np.float64}


@given(seed=st.integers(0, 10_000), octaves=st.integers(0, 45), factors=st.integers(0, 6), size=st.integers(1, 40))
def test_narrow_factors_say_what_wide_ones_do(seed: int, octaves: int, factors: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    wide = rng.integers(-(2**octaves), 2**octaves, (factors, size), endpoint=True).astype(np.float64)
    lefts = rng.integers(-500, 500, (7, factors)).astype(np.float64)
    narrow = rank.narrow(wide)
    assert (narrow == wide).all()
    assert (rank.product(lefts, narrow) == rank.product(lefts, wide)).all()


@pytest.mark.parametrize(("octaves", "kind"), KINDS.items())
def test_factors_take_the_narrowest_integers_that_hold_both_signs(octaves: int, kind: type) -> None:
    largest = 2.0**octaves - 1
    assert rank.narrow(np.array([[largest, -largest]])).dtype == kind
    assert rank.narrow(np.zeros((0, 3))).dtype == np.int16
