"""Gaussian noise with class labels: what labels alone are worth."""

from __future__ import annotations

import torch

from bench.api import Condensed, Context, Train
from methods._random_networks import above_zero, at_least
from methods._recovery.loop import to_uint8, valid_range

CITATION = "A control; Rethinking Large-scale Dataset Compression trains on Gaussian noise under soft labels."


def synthesize(train: Train, ipc: int, ctx: Context, *, std: float = 1.0) -> Condensed:
    """`ipc` images of independent Gaussian pixels for every class; under soft labels the teacher labels them.

    Args:
        train: gives the number of classes and the shape; its images are not looked at.
        ipc: images per class; at least 1.
        ctx: gives the generators, and the mean and standard deviation of the data set through its normalisation.
        std: of the pixels, in standard deviations of the data set; above 0. Values are cut at black and white.

    Returns:
        Condensed with uint8 images [num_classes * ipc, channels, size, size], class after class.

    Raises:
        ValueError: an argument is out of range.
    """
    at_least(ipc=(ipc, 1))
    above_zero(std=std)
    low, high = valid_range(ctx, train.channels)
    shape = (ipc, train.channels, train.size, train.size)
    drawn = [torch.randn(shape, generator=ctx.torch("class", label)) for label in range(train.num_classes)]
    images = torch.cat(drawn).to(ctx.device) * std
    labels = torch.arange(train.num_classes).repeat_interleave(ipc)
    return Condensed(images=to_uint8(images, low, high), labels=labels)
