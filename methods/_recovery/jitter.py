"""What an image goes through at each step of its recovery: one random crop, mirror and roll for the whole batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Jitter:
    """One draw: crop to `box` and back to the full size, mirror, then roll (with wrap-around)."""

    box: tuple[int, int, int, int] | None  # top, left, height, width in pixels; None keeps the whole image
    mirror: bool
    roll: tuple[int, int]  # pixels down and to the right

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """[n, c, s, s] -> the same shape; differentiable."""
        if self.box is not None:
            top, left, height, width = self.box
            cut = images[:, :, top : top + height, left : left + width]
            images = F.interpolate(cut, size=images.shape[2:], mode="bilinear", align_corners=False)
        if self.mirror:
            images = images.flip(3)
        return images.roll(self.roll, dims=(2, 3)) if any(self.roll) else images


def draw_jitters(
    count: int, size: int, generator: torch.Generator, *, roll: int, crop_scale: float, mirror: bool
) -> list[Jitter]:
    """Draw one jitter per iteration (SRe2L's recovery).

    Args:
        count: iterations.
        size: of the images, pixels.
        generator: on the CPU.
        roll: largest roll of each axis; a draw is uniform in 0..roll.
        crop_scale: smallest share of the area that a crop keeps; 1 is no crop.
        mirror: True mirrors half of the time.
    """
    out = []
    for _ in range(count):
        box = None if crop_scale >= 1 else _random_box(size, crop_scale, generator)
        flips = mirror and bool(torch.rand((), generator=generator) < 0.5)
        down, right = torch.randint(0, roll + 1, (2,), generator=generator).tolist()
        out.append(Jitter(box, flips, (down, right)))
    return out


def _random_box(size: int, crop_scale: float, generator: torch.Generator) -> tuple[int, int, int, int]:
    """As torchvision's RandomResizedCrop with ratio (3/4, 4/3): ten tries, then the whole (square) image."""
    for _ in range(10):
        share, ratio, down, right = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        area = size * size * (crop_scale + (1 - crop_scale) * share)
        aspect = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * ratio)
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= size and 0 < height <= size:
            return int(down * (size - height + 1)), int(right * (size - width + 1)), height, width
    return 0, 0, size, size
