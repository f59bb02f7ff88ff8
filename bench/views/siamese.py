"""DSA's augmentation as its evaluation applies it: one operation a batch, with parameters of each image's own.

B. Zhao, H. Bilen: Dataset Condensation with Differentiable Siamese Augmentation, ICML 2021, with the values of its code
(VICO-UoE/DatasetCondensation at 53f63a6, utils.py: `DiffAugment` with aug_mode "S", not Siamese). Images are
normalised, so what an operation leaves empty has the mean colour of the data set. All is differentiable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional as F

from bench.views.words import Words

PARAMETERS = 3  # uniform draws an image; an operation reads those that it needs

_BRIGHTNESS = 1.0  # width of the range of what is added, in standard deviations of the data set
_SATURATION = 2.0  # largest factor of the distance to the pixel's grey; the smallest is 0
_CONTRAST = 0.5  # smallest factor of the distance to the image's mean; the largest is 1 more
_CROP = 0.125  # largest shift as a share of the side
_CUTOUT = 0.5  # side of the erased square as a share of the side
_SCALE = 1.2  # factors of the sampling grid are 1/1.2 to 1.2, each axis has its own
_ROTATE = 15.0  # degrees, to either side


def draw_operation(seed: int, operations: Sequence[str], n: int) -> tuple[str, torch.Tensor]:
    """(one of the operations with equal chances, its parameters float64 [n, PARAMETERS] in [0, 1)).

    Args:
        seed: 63-bit; equal arguments give equal draws on every platform.
        operations: names, keys of OPERATIONS.
        n: images of the batch.
    """
    words = Words(seed)
    name = operations[int(words.below(len(operations), 1)[0])]
    return name, torch.from_numpy(words.unit(n * PARAMETERS).reshape(n, PARAMETERS))


def without_flip(operations: Sequence[str], *, mirror: bool) -> tuple[str, ...]:
    """The operations; `mirror` False, where a mirrored image loses its class, leaves the flip out."""
    return tuple(name for name in operations if mirror or name != "flip")


def operate(images: torch.Tensor, operation: str, values: torch.Tensor) -> torch.Tensor:
    """The images after one operation, each with parameters of its own.

    Args:
        images: normalised, float32 [n, c, s, s].
        operation: a key of OPERATIONS.
        values: float64 [n, PARAMETERS] in [0, 1), on the CPU.
    """
    return OPERATIONS[operation](images, values)


def _each(values: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """A value an image, to be multiplied with images [n, c, s, s]."""
    return values.to(images).view(-1, 1, 1, 1)


def _color(images: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    brightness, saturation, contrast = (_each(column, images) for column in values.T)
    images = images + (brightness - 0.5) * _BRIGHTNESS
    grey = images.mean(dim=1, keepdim=True)
    images = (images - grey) * (saturation * _SATURATION) + grey
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - mean) * (contrast + _CONTRAST) + mean


def _crop(images: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    n, size = len(images), images.shape[-1]
    most = int(size * _CROP + 0.5)
    starts = (values[:, :2] * (2 * most + 1)).long().to(images.device)
    rows, columns = (starts[:, axis, None] + torch.arange(size, device=images.device) for axis in (0, 1))
    every = torch.arange(n, device=images.device)[:, None, None]
    padded = F.pad(images, (most,) * 4).permute(0, 2, 3, 1)
    return padded[every, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _cutout(images: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    size = images.shape[-1]
    side = int(size * _CUTOUT + 0.5)
    places = size + 1 - side % 2  # centres; the square is clipped at the border
    starts = (values[:, :2] * places).long().to(images.device) - side // 2
    away = torch.arange(size, device=images.device) - starts[:, :, None]
    inside = (away >= 0) & (away < side)
    return images * ~(inside[:, 0, :, None] & inside[:, 1, None, :])[:, None]


def _scale(images: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    factors = values[:, :2] * (_SCALE - 1 / _SCALE) + 1 / _SCALE
    across, down = factors[:, 0], factors[:, 1]
    return _resample(images, across, torch.zeros_like(across), torch.zeros_like(down), down)


def _rotate(images: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    angles = (2 * values[:, 0] - 1) * math.radians(_ROTATE)
    return _resample(images, angles.cos(), -angles.sin(), angles.sin(), angles.cos())


def _flip(images: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return torch.where(_each(values[:, 0], images) < 0.5, images.flip(3), images)


def _resample(images: torch.Tensor, *matrix: torch.Tensor) -> torch.Tensor:
    """Bilinear sampling by a 2x2 matrix an image, given row by row; zeros outside."""
    theta = F.pad(torch.stack(matrix, dim=1).view(-1, 2, 2), (0, 1)).to(images)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


OPERATIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
