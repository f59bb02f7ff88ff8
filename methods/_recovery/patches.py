"""Means and variances of the square patches of feature maps: the bits of torch.var_mean in a third of its time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from methods._compiled import compiled

_AT_ONCE = 64  # patches whose sums are in the processor's first cache
_WITHIN = (1, 2, 4, 6)  # of [groups, n, c, rows, side, columns, side]: what a patch's moments are over


def patch_moments(inputs: torch.Tensor, side: int, groups: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and biased variance of each side x side patch of [n, c, h, w], each [groups, patches], row by row.

    Group g holds the images g n / groups and on. A map whose height or width is no multiple of `side` is enlarged to
    the next one, bilinearly (G-VBSM's code).
    """
    height, width = (-(-length // side) * side for length in inputs.shape[2:])
    if (height, width) != tuple(inputs.shape[2:]):
        inputs = F.interpolate(inputs, size=(height, width), mode="bilinear", align_corners=False)
    mean, var = _PatchMoments.apply(inputs, side, groups)
    return mean, var


class _PatchMoments(torch.autograd.Function):
    """The forward pass is Welford's, in float64 and in the order of memory, as torch.var_mean's is: torch follows one
    patch after the other and waits for each division; here many patches go side by side. The backward pass is
    autograd's own arithmetic, in place."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, side: int, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(inputs)
        ctx.side, ctx.groups = side, groups
        if inputs.device.type == "cpu" and inputs.dtype == torch.float32 and _in_order(inputs):
            mean, var = _side_by_side(inputs, side, groups)
        else:
            var, mean = torch.var_mean(_patches(inputs, side, groups), dim=_WITHIN, correction=0)
        return mean.reshape(groups, -1), var.reshape(groups, -1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (inputs,) = ctx.saved_tensors
        patches = _patches(inputs, ctx.side, ctx.groups)
        shape = [1 if dim in _WITHIN else length for dim, length in enumerate(patches.shape)]
        grad_mean, grad_var = (grad.reshape(shape) for grad in grads)
        count = patches.numel() // grad_mean.numel()
        slope = patches - patches.mean(_WITHIN, keepdim=True)
        slope *= (2 / count) * grad_var
        slope += grad_mean / count
        return slope.reshape(inputs.shape), None, None


def _patches(inputs: torch.Tensor, side: int, groups: int) -> torch.Tensor:
    """[groups, n, c, rows, side, columns, side], a view."""
    return inputs.unflatten(3, (-1, side)).unflatten(2, (-1, side)).unflatten(0, (groups, -1))


def _in_order(inputs: torch.Tensor) -> bool:
    """Whether the channels of a pixel lie together, as convolutions have them on a processor."""
    return inputs.is_contiguous(memory_format=torch.channels_last)


def _side_by_side(inputs: torch.Tensor, side: int, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean, variance), float32 [groups * patches] each."""
    n, c, height, width = inputs.shape
    rows, columns = height // side, width // side
    pixel = np.arange(n * height * width, dtype=np.int64) * c  # where the channels of each begin
    grid = pixel.reshape(groups, n // groups, rows, side, columns, side)
    starts = grid[:, 0, :, 0, :, 0].ravel()
    offsets = (grid[0, :, 0, :, 0, :, None] + np.arange(c)).ravel()  # of a patch's values, in the order of memory
    values = inputs.detach().permute(0, 2, 3, 1).numpy().reshape(-1)
    mean, squares = np.zeros(len(starts)), np.zeros(len(starts))
    for first in range(0, len(starts), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        _welford(values, starts[some], offsets, mean[some], squares[some])
    return torch.from_numpy(mean).float(), torch.from_numpy(squares / len(offsets)).float()


@compiled
def _welford(
    values: np.ndarray, starts: np.ndarray, offsets: np.ndarray, mean: np.ndarray, squares: np.ndarray
) -> None:
    """Add to float64 means and sums of squared deviations (zeros before) what lies at starts + offsets, one offset
    after the other."""
    for number, offset in enumerate(offsets):
        count = np.float64(number + 1)
        for patch, start in enumerate(starts):
            value = np.float64(values[start + offset])
            apart = value - mean[patch]
            mean[patch] += apart / count
            squares[patch] += apart * (value - mean[patch])
