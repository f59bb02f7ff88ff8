"""Differentiable Siamese augmentation (DSA): one random transformation, the same for real and synthetic images.

Zhao and Bilen, Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021, with the values of its code.
Of colour, crop, cutout, flip, scale and rotation one is drawn at a time; a data set whose images may not be mirrored
goes without the flip. Images are normalised, so what is left empty has the mean colour of the data set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

OPERATIONS = ("color", "crop", "cutout", "scale", "rotate", "flip")

_BRIGHTNESS = 1.0  # width of the range of what is added, in standard deviations of the data set
_SATURATION = 2.0  # largest factor of the distance to the pixel's grey
_CONTRAST = 0.5  # smallest factor of the distance to the image's mean; the largest is 1 more
_CROP = 0.125  # largest shift as a share of the size
_CUTOUT = 0.5  # side of the erased square as a share of the size
_SCALE = 1.2  # factors of the sampling grid are 1/1.2 to 1.2, each axis its own
_ROTATE = 15.0  # degrees, to either side


@dataclass(frozen=True)
class Transformation:
    """One drawn transformation, differentiable: normalised images [n, c, s, s] -> the same shape.

    `values` are three uniform draws from [0, 1); each operation reads those that it needs.
    """

    operation: str
    values: tuple[float, float, float]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Every image of the batch is changed in the same way."""
        return _APPLY[self.operation](images, *self.values)


def draw_transformation(generator: torch.Generator, *, mirror: bool) -> Transformation:
    """One of the operations with equal chances; `mirror` False leaves the flip out."""
    names = OPERATIONS if mirror else OPERATIONS[:-1]
    index = int(torch.randint(len(names), (), generator=generator))
    first, second, third = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    return Transformation(names[index], (first, second, third))


def _color(images: torch.Tensor, brightness: float, saturation: float, contrast: float) -> torch.Tensor:
    images = images + (brightness - 0.5) * _BRIGHTNESS
    grey = images.mean(dim=1, keepdim=True)
    images = (images - grey) * (saturation * _SATURATION) + grey
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * (contrast + _CONTRAST) + mean


def _crop(images: torch.Tensor, down: float, right: float, _: float) -> torch.Tensor:
    size = images.shape[-1]
    most = int(size * _CROP + 0.5)
    top, left = (int(u * (2 * most + 1)) for u in (down, right))
    return F.pad(images, (most,) * 4)[..., top : top + size, left : left + size]


def _cutout(images: torch.Tensor, row: float, column: float, _: float) -> torch.Tensor:
    size = images.shape[-1]
    side = int(size * _CUTOUT + 0.5)
    places = size + 1 - side % 2  # centres; the square is clipped at the border
    top, left = (int(u * places) - side // 2 for u in (row, column))
    mask = torch.ones_like(images[:1, :1])
    mask[..., max(top, 0) : top + side, max(left, 0) : left + side] = 0
    return images * mask


def _scale(images: torch.Tensor, across: float, down: float, _: float) -> torch.Tensor:
    x, y = (u * (_SCALE - 1 / _SCALE) + 1 / _SCALE for u in (across, down))
    return _resample(images, ((x, 0.0, 0.0), (0.0, y, 0.0)))


def _rotate(images: torch.Tensor, turn: float, _: float, __: float) -> torch.Tensor:
    angle = math.radians((2 * turn - 1) * _ROTATE)
    return _resample(images, ((math.cos(angle), -math.sin(angle), 0.0), (math.sin(angle), math.cos(angle), 0.0)))


def _flip(images: torch.Tensor, whether: float, _: float, __: float) -> torch.Tensor:
    return images.flip(3) if whether < 0.5 else images


def _resample(images: torch.Tensor, matrix: tuple[tuple[float, ...], ...]) -> torch.Tensor:
    theta = torch.tensor(matrix, dtype=images.dtype, device=images.device).expand(len(images), 2, 3)
    return F.grid_sample(images, F.affine_grid(theta, list(images.shape), align_corners=False), align_corners=False)


_APPLY = {"color": _color, "crop": _crop, "cutout": _cutout, "scale": _scale, "rotate": _rotate, "flip": _flip}
