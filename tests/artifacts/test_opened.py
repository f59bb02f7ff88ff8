"""The training split as methods see it: sources averaged down to the evaluation resolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.artifacts.opened import shrink


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_shrinking_takes_the_rounded_mean_of_each_block(factor: int) -> None:
    rng = np.random.default_rng(factor)
    images = rng.integers(0, 256, (3, 2, 4 * factor, 4 * factor), dtype=np.uint8)
    expected = np.zeros((3, 2, 4, 4), np.uint8)
    for place in np.ndindex(*expected.shape):
        n, c, y, x = place
        block = images[n, c, y * factor : (y + 1) * factor, x * factor : (x + 1) * factor].astype(int)
        expected[place] = (block.sum() + factor**2 // 2) // factor**2
    assert np.array_equal(shrink(torch.from_numpy(images), 4).numpy(), expected)


def test_a_block_of_white_stays_white() -> None:
    assert shrink(torch.full((1, 3, 64, 64), 255, dtype=torch.uint8), 32).min() == 255
