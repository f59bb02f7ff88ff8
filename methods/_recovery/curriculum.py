"""CDA's curriculum: crops begin as the whole image and may become smaller and smaller."""

from __future__ import annotations

import math

import torch

from methods._recovery.jitter import Jitter, draw_jitters


def smallest_shares(iterations: int, crop_scale: float, milestone: float) -> list[float]:
    """The smallest share of the area that a crop of each iteration may keep.

    CDA (Yin, Shen, TMLR 2024), cosine: 1 in the first iteration, falling by half a cosine to `crop_scale` at
    milestone * iterations, and constant from there.
    """
    end = milestone * iterations
    return [
        crop_scale + (1 - crop_scale) * (1 + math.cos(math.pi * min(1.0, iteration / end))) / 2
        for iteration in range(iterations)
    ]


def draw_curriculum(
    iterations: int,
    size: int,
    generator: torch.Generator,
    *,
    roll: int,
    crop_scale: float,
    milestone: float,
    mirror: bool,
) -> list[Jitter]:
    """One jitter per iteration, as `draw_jitters`, with the crop's smallest share of that iteration."""
    shares = smallest_shares(iterations, crop_scale, milestone)
    return [
        jitter
        for share in shares
        for jitter in draw_jitters(1, size, generator, roll=roll, crop_scale=share, mirror=mirror)
    ]
