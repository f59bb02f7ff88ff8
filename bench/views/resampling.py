"""Resampling of images along rows and columns: bilinear, at positions of each image's own.

By matrix products it is two calls whatever the positions are; but all weights of a row are zero except two, so that at
64 px a processor multiplies by zero 62 times of 64. Reading the two pixels (bench.views.pixel_loops) takes a third to a
seventh of the time. It is done where it gives the bits of the products, so that records stay what they are: libraries
sum in ways of their own, by processor, size and switches, which are found out by trying.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

_TRIES = 4  # draws that have to agree to the bit
_LARGEST = 128  # pixels; above, a student's step takes fifty times what the products do, and has no room for numba
_Kernel = Callable[..., None]


def along_axes(x: torch.Tensor, position: torch.Tensor, places: torch.Tensor | None = None) -> torch.Tensor:
    """Images read at positions along rows and columns, linearly between the two pixels beside each; zero outside.

    Args:
        x: float [n, C, size, size].
        position: float32 [2 (rows, columns), n, size]: where each output pixel looks.
        places: float32 [2, n or 1, 1, size]: where each source pixel stands; None: in their order.

    Returns:
        float [n, C, size, size].
    """
    if places is None and _for_taps(x):
        kernel = _kernel(*x.shape[:3])
        if kernel is not None:
            return _by_taps(x, position, kernel)
    return _by_products(x, position, places)


def _for_taps(x: torch.Tensor) -> bool:
    """Several threads share out the products among them, and gradients go through products alone."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not (x.requires_grad and torch.is_grad_enabled())
    return plain and 1 < x.shape[-1] <= _LARGEST and torch.get_num_threads() == 1


def _by_products(x: torch.Tensor, position: torch.Tensor, places: torch.Tensor | None) -> torch.Tensor:
    n, channels, size, _ = x.shape
    if places is None:
        places = torch.arange(size, dtype=torch.float32, device=x.device).view(1, 1, 1, -1)
    # The weight of a source pixel at k is 1 - |position - k| where that is positive.
    weights = (position[..., None] - places).abs_().neg_().add_(1).clamp_(min=0)
    tall = torch.bmm(x.reshape(n, channels * size, size), weights[1].transpose(1, 2))
    return torch.matmul(weights[0][:, None], tall.view(n, channels, size, size))


def _by_taps(x: torch.Tensor, position: torch.Tensor, kernel: _Kernel) -> torch.Tensor:
    # Beyond the borders one of the two weights, or both, are zero.
    first = position.floor().clamp_(0, x.shape[-1] - 2)
    weights = torch.stack([position - first, position - (first + 1)]).abs_().neg_().add_(1).clamp_(min=0)
    out = torch.empty(x.shape, dtype=torch.float32)
    kernel(x.detach().contiguous().numpy(), first.to(torch.int32).numpy(), weights.numpy(), out.numpy())
    return out


@cache
def _kernel(n: int, channels: int, size: int) -> _Kernel | None:
    """The loop of bench.views.pixel_loops that gives the bits of the products for so many images of this size, tried on
    noise that is read everywhere; None: neither does, or what was tried does not tell them apart."""
    # numba takes a quarter of a second and 60 MB: only where views are rendered.
    from bench.views.pixel_loops import fused, rounded

    alike = [rounded, fused]
    generator = torch.Generator().manual_seed(0)
    for _ in range(_TRIES):
        x = torch.randn(n, channels, size, size, generator=generator)
        position = torch.rand(2, n, size, generator=generator) * (size + 1) - 1
        expected = _by_products(x, position, None)
        alike = [kernel for kernel in alike if torch.equal(_by_taps(x, position, kernel), expected)]
    return alike[0] if len(alike) == 1 else None
