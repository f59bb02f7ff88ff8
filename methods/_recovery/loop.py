"""The optimisation loop of image recovery: Adam on the pixels, cosine schedule, clipping after every step."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from bench.api import Context


def valid_range(ctx: Context, channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised black and normalised white, each [1, channels, 1, 1] on the context's device."""
    ends = [ctx.normalise(torch.full((1, channels, 1, 1), value).to(ctx.device)) for value in (0.0, 255.0)]
    return ends[0], ends[1]


def to_uint8(images: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Undo the normalisation (per channel, affine); rounds to the nearest of the 256 values. On the CPU."""
    return ((images - low) / (high - low) * 255).round().clamp(0, 255).to(torch.uint8).cpu()


def recover(
    start: torch.Tensor,
    loss_of: Callable[[torch.Tensor, int], torch.Tensor],
    low: torch.Tensor,
    high: torch.Tensor,
    *,
    iterations: int,
    lr: float,
    betas: tuple[float, float] = (0.5, 0.9),
) -> torch.Tensor:
    """Minimise `loss_of(images, iteration)` over the pixels and return the last iterate (SRe2L's settings).

    Adam with eps 1e-8; the learning rate of iteration t is lr (1 + cos(pi t / iterations)) / 2. Adam works pixel by
    pixel, so images whose losses do not depend on each other may share a call without any effect on each other.

    Args:
        start: [n, c, s, s], normalised; not changed.
        loss_of: a scalar for (images, iteration from 0).
        low: smallest valid value, broadcast to the images; they are clipped after every step.
        high: largest valid value.
        iterations: steps.
        lr: of the first step.
        betas: of Adam.
    """
    images = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([images], lr=lr, betas=betas, eps=1e-8)
    for iteration in range(iterations):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 + math.cos(math.pi * iteration / iterations)) / 2
        # Not backward(): a teacher whose parameters are not frozen would gather gradients.
        (images.grad,) = torch.autograd.grad(loss_of(images, iteration), images)
        optimizer.step()
        with torch.no_grad():
            images.copy_(torch.minimum(torch.maximum(images, low), high))
    return images.detach()
