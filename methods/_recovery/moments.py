"""Channel means and variances of what enters a network's batch-norm layers, per group of images and per class."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.api import Context, Train
from methods._compiled import compiled

Moments = list[tuple[torch.Tensor, torch.Tensor]]  # per layer: mean and biased variance, each [groups, channels]


class _GroupMoments(torch.autograd.Function):
    """Mean and biased variance of [n, c, h, w] over the images of each group and over space.

    Written out because autograd's own var keeps and walks several copies of the activations: this backward is one pass.
    """

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
        # Per image and channel first: sums over space are short, so that the float32 sums stay exact enough.
        count = inputs.shape[2] * inputs.shape[3]
        own = inputs.mean(dim=(2, 3))
        spread = _distances(inputs, own).square() / count
        own_mean = own.unflatten(0, (groups, -1))
        mean = own_mean.mean(dim=1)
        var = spread.unflatten(0, (groups, -1)).mean(dim=1) + (own_mean - mean[:, None]).square().mean(dim=1)
        ctx.save_for_backward(inputs, mean)
        return mean, var

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        inputs, mean = ctx.saved_tensors
        grad_mean, grad_var = grads
        members = len(inputs) // len(mean)
        scale = 1.0 / (members * inputs.shape[2] * inputs.shape[3])
        slope = (2 * scale * grad_var).repeat_interleave(members, dim=0)[:, :, None, None]
        offset = (scale * (grad_mean - 2 * grad_var * mean)).repeat_interleave(members, dim=0)[:, :, None, None]
        return torch.addcmul(offset, inputs, slope), None


def _distances(inputs: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """float [n, c]: the norm of each channel [h, w] less its centre ([n, c]).

    torch.linalg.vector_norm adds the squares one pixel after the other. So does the loop below, to the bit and in a
    quarter of the time: all channels of a pixel at once, with no copy. Of one channel, torch sums in another order.
    """
    n, c, height, width = inputs.shape
    channels_together = c > 1 and inputs.is_contiguous(memory_format=torch.channels_last)
    if inputs.device.type != "cpu" or inputs.dtype != torch.float32 or not channels_together:
        return torch.linalg.vector_norm(inputs - centres[:, :, None, None], dim=(2, 3))
    pixels = inputs.detach().permute(0, 2, 3, 1).numpy().reshape(n, height * width, c)
    squares = np.zeros((n, c), np.float32)
    _add_squares(pixels, np.ascontiguousarray(centres.numpy()), squares)
    return torch.from_numpy(
        np.sqrt(squares, out=squares)
    )  # rounded correctly, as the norm's is; torch's own may not be


@compiled
def _add_squares(pixels: np.ndarray, centres: np.ndarray, squares: np.ndarray) -> None:
    """Add to float32 [n, c] the squares of pixels ([n, p, c]) less centres ([n, c]), one pixel after the other."""
    for image in range(pixels.shape[0]):
        for pixel in range(pixels.shape[1]):
            for channel in range(pixels.shape[2]):
                apart = pixels[image, pixel, channel] - centres[image, channel]
                squares[image, channel] += apart * apart


def group_moments(inputs: torch.Tensor, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean, biased variance), each [groups, c], of [n, c, h, w]; group g holds the images g n / groups and on."""
    return _GroupMoments.apply(inputs, groups)


class BatchNormMoments:
    """A context manager that measures what enters the BatchNorm2d layers of a network; its hooks never outlive it.

        with BatchNormMoments(teacher) as measured:
            logits = teacher(images)
            moments = measured.take(groups=4)

    Raises:
        ValueError: the network has no BatchNorm2d layer.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
        if not self._layers:
            raise ValueError(
                f"the teacher ({type(network).__name__}) has no BatchNorm2d layer, whose statistics this method "
                "matches; take a teacher with batch normalisation"
            )
        self._inputs: list[torch.Tensor] = []
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> BatchNormMoments:
        self._handles = [layer.register_forward_pre_hook(self._keep) for layer in self._layers]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._inputs.clear()

    def _keep(self, _: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self._inputs.append(inputs[0])

    def take(self, groups: int) -> Moments:
        """The moments of the last forward pass, in the order in which the layers ran, and forget them."""
        moments = [group_moments(inputs, groups) for inputs in self._inputs]
        self._inputs.clear()
        return moments


def class_moments(train: Train, ctx: Context, *, momentum: float = 0.1, batch: int = 64) -> Moments:
    """The statistics of every class at every batch-norm layer, the teacher in eval mode (LPLD).

    Batches of one class update a running mean with weight `momentum`; the t-th batch weighs at least 1/t, so that the
    first ten batches are plainly averaged and no start value is left in the result.

    Args:
        train: the training split.
        ctx: gives the teacher, the device and normalisation.
        momentum: weight of the newest batch, in [0, 1]; 0 averages all batches.
        batch: images of one class at a time.

    Returns:
        Moments with num_classes groups, on the context's device.

    Raises:
        ValueError: a class is empty, or the teacher has no BatchNorm2d layer.
    """
    classes: list[Moments] = []
    with BatchNormMoments(ctx.teacher) as measured, torch.no_grad():
        for label in range(train.num_classes):
            own = train.class_indices(label)
            if not len(own):
                raise ValueError(f"class {label} has no images, so it has no statistics to match")
            running: Moments = []
            for turn, (_, images) in enumerate(train.batches(batch, own)):
                ctx.teacher(to_channels_last(ctx.normalise(images.to(ctx.device))))
                newest = measured.take(groups=1)
                weight = max(momentum, 1 / (turn + 1))
                running = [
                    (mean.lerp(new_mean, weight), var.lerp(new_var, weight))
                    for (mean, var), (new_mean, new_var) in zip(running or newest, newest, strict=True)
                ]
            classes.append(running)
    return [
        (torch.cat([mean for mean, _ in layer]), torch.cat([var for _, var in layer]))
        for layer in zip(*classes, strict=True)
    ]


def select_groups(moments: Moments, groups: torch.Tensor) -> Moments:
    """The rows `groups` (int64 [g]) of every layer's moments."""
    return [(mean[groups], var[groups]) for mean, var in moments]


def to_channels_last(images: torch.Tensor) -> torch.Tensor:
    """The same values in the memory order in which CPU convolutions are about 1.5 times as fast."""
    return images.contiguous(memory_format=torch.channels_last)
