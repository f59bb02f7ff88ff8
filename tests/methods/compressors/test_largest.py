"""The largest values are those of a stable sort, whatever the processor's partial sort does with equal ones."""

from __future__ import annotations

import numpy as np
import pytest

from methods._codec.largest import largest


@pytest.mark.parametrize("seed", range(40))
def test_of_equal_values_those_of_the_lowest_index_are_in(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, rng.integers(1, 9), rng.integers(1, 400)).astype(rng.choice([np.float32, np.float64]))
    for count in (-1, 0, 1, len(values) // 3, len(values) - 1, len(values), len(values) + 5):
        reference = np.sort(np.argsort(-values, kind="stable")[: max(count, 0)])
        assert np.array_equal(largest(values, count), reference)


@pytest.mark.parametrize("seed", range(20))
def test_where_the_border_is_one_value_the_choice_is_that_of_a_partial_sort(seed: int) -> None:
    """Records of the code before this rule stay valid: without ties it chose the same entries."""
    values = np.random.default_rng(seed).standard_normal(500)
    for count in (1, 17, 250, 499):
        assert set(largest(values, count)) == set(np.argpartition(-values, count - 1)[:count])
