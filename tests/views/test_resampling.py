"""Resampling by two pixels an axis, and pasting: the bits of what they stand for, and close to scipy's."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from bench import machine
from bench.protocol.recipe import Augment
from bench.views import resampling
from bench.views.parameters import Views
from bench.views.pasting import pasted
from bench.views.pixel_loops import fused, rounded
from bench.views.render import finish
from tests.worlds import ROOT

SHAPES = [
    (1, 1, 8),
    (50, 1, 8),
    (3, 1, 2),
    (4, 3, 5),
    (7, 1, 28),
    (6, 3, 32),
    (2, 2, 33),
    (5, 3, 64),
    (2, 3, 96),
    (1, 3, 224),
]
CHOSEN = """
import torch
from bench import machine
from bench.views import resampling
torch.set_num_threads(1)
assert machine.current() == "portable"
print(*(resampling._kernel(4, 3, size).__name__ for size in (8, 28, 32, 64, 96, 128)))
"""


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    resampling._kernel.cache_clear()
    yield
    torch.set_num_threads(threads)
    resampling._kernel.cache_clear()


def noise(n: int, channels: int, size: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, and positions from a pixel before them to one behind."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, channels, size, size, generator=generator)
    return x, torch.rand(2, n, size, generator=generator) * (size + 1) - 1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_two_pixels_an_axis_give_the_bits_of_the_products(shape: tuple[int, int, int]) -> None:
    for seed in range(3):
        x, position = noise(*shape, seed)
        position[:, :, 0] = seed  # on a pixel
        position[:, :, 1] = -0.0
        resampled, expected = resampling.along_axes(x, position), resampling._by_products(x, position, None)
        assert torch.equal(resampled, expected)
        assert torch.equal(resampled.signbit(), expected.signbit())


@pytest.mark.parametrize("loop", [rounded, fused], ids=["rounded", "fused"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_loop_reads_between_pixels_as_scipy_does(shape: tuple[int, int, int], loop: resampling._Kernel) -> None:
    x, position = noise(*shape)
    resampled = resampling._by_taps(x, position, loop)
    for i, image in enumerate(x.double().numpy()):
        at = np.meshgrid(*position[:, i].double().numpy(), indexing="ij")
        for channel, values in enumerate(image):
            expected = map_coordinates(values, at, order=1, mode="grid-constant")
            np.testing.assert_allclose(resampled[i, channel], expected, atol=2e-5)


def test_far_outside_all_is_zero() -> None:
    x, _ = noise(2, 3, 8)
    position = torch.full((2, 2, 8), 11.0)
    position[0, 1] = -7.5
    for loop in (rounded, fused):
        assert resampling._by_taps(x, position, loop).count_nonzero() == 0


@pytest.mark.skipif(not machine.usable(), reason="no x86-64 processor with AVX2 and FMA")
def test_under_portable_arithmetic_every_size_takes_the_fast_way() -> None:
    """Its products round every product and every sum, whatever the size."""
    clean = {key: value for key, value in os.environ.items() if key not in machine.OVERRIDES}
    command = [sys.executable, "-c", CHOSEN]
    portable = {**clean, **machine.switches("portable"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=portable, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["_rounded"] * 6


def test_a_library_that_sums_otherwise_keeps_its_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row of the result differs in its last bits, and so all are the library's own."""
    products = resampling._by_products

    def other_sums(x: torch.Tensor, position: torch.Tensor, places: torch.Tensor | None) -> torch.Tensor:
        out = products(x, position, places)
        out[:, :, 3] = torch.nextafter(out[:, :, 3], torch.tensor(torch.inf))
        return out

    monkeypatch.setattr(resampling, "_by_products", other_sums)
    x, position = noise(4, 1, 16)
    assert torch.equal(resampling.along_axes(x, position), other_sums(x, position, None))


def test_large_images_gradients_and_several_threads_go_through_products(monkeypatch: pytest.MonkeyPatch) -> None:
    x, position = noise(2, 1, 12)
    expected = resampling.along_axes(x, position)
    monkeypatch.setattr(resampling, "_by_taps", None)
    assert resampling.along_axes(*noise(1, 1, 224)).isfinite().all()
    moving = x.clone().requires_grad_(True)
    resampling.along_axes(moving, position).sum().backward()
    assert moving.grad is not None
    assert moving.grad.count_nonzero() > 0
    torch.set_num_threads(2)
    torch.testing.assert_close(resampling.along_axes(x, position), expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("unit", ["image", "batch"])
def test_pasted_boxes_are_those_that_are_looked_up(unit: str, channels: int, layout: torch.memory_format) -> None:
    size, n = 9, 30
    base = torch.randn(n, channels, size, size).contiguous(memory_format=layout)
    views = Views(Augment(mix="cutmix", mix_unit=unit), n, size, mirror=True, batch=7, seed=3, count=4)
    rows = np.random.default_rng(0).permutation(n)[:20]
    for view in views:
        view.mix_box[:3] = [[0, 0, 0, 0], [0, 0, size, size], [size - 1, 2, 1, 4]]
        partners = view.partner[rows]
        mixed = pasted(base, rows, partners, view.mix_box[rows])
        assert torch.equal(mixed, finish(base[rows].clone(), base[partners], view, rows))
        assert mixed.is_contiguous(memory_format=layout)
