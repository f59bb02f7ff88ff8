"""What images are normalised with: by the data set, or by the name of another one."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from bench.api import Dataset
from bench.protocol.recipe import Recipe
from bench.training.normalisation import CONSTANTS, statistics


def dataset(channels: int) -> Dataset:
    nothing: Any = None
    return Dataset(10, channels, 8, 8, False, (0.1,) * channels, (0.2,) * channels, nothing, nothing)


def test_every_name_that_a_recipe_may_give_has_constants() -> None:
    names = set(get_args(Recipe.model_fields["normalisation"].annotation))
    assert names == {"dataset", *CONSTANTS}


def test_a_data_set_keeps_its_own_unless_another_is_named() -> None:
    assert statistics("dataset", dataset(3)) == ((0.1,) * 3, (0.2,) * 3)
    assert statistics("cifar10", dataset(3)) == ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


@pytest.mark.parametrize("channels", [1, 2])
def test_constants_of_colours_are_averaged_for_other_images(channels: int) -> None:
    mean, std = statistics("imagenet", dataset(channels))
    assert mean == pytest.approx((1.347 / 3,) * channels)
    assert std == pytest.approx((0.678 / 3,) * channels)
