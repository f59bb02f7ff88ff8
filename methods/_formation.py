"""Multi-formation of IDC: one stored image is a mosaic, and each of its tiles is an image of the whole size."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from bench.augment import draw_operation, operate

_MIDDLE = 0.5  # what the code pads with, halfway from black to white


def formed(stored: torch.Tensor, factor: int) -> torch.Tensor:
    """The images that a set stands for: each tile, enlarged to the size of the image that held it.

    Args:
        stored: float [n, channels, size, size] in [0, 1].
        factor: tiles a side; 1 gives the images themselves. Where it does not divide the size, the image is padded
            below and to the right with grey.

    Returns:
        [factor^2 * n, channels, size, size]: the first tile of all images, then the second, row by row.
    """
    if factor == 1:
        return stored
    size = stored.shape[-1]
    tile = -(-size // factor)
    if spare := tile * factor - size:
        # The code pads by factor - size % factor, which is the same number of pixels.
        stored = F.pad(stored, (0, spare, 0, spare), value=_MIDDLE)
    cut = [stored[..., i : i + tile, j : j + tile] for i in range(0, size, tile) for j in range(0, size, tile)]
    return F.interpolate(torch.cat(cut), size=(size, size), mode="bilinear", align_corners=False)


def mixed_boxes(images: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, float]:
    """CutMix of a batch [n, c, s, s]: one box for all, filled from a random partner.

    Returns:
        The images, the partners' rows int64 [n], and the share of the area that is an image's own.
    """
    size = images.shape[-1]
    whole, row, column = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    side = int(size * (1 - whole) ** 0.5)  # lambda ~ Beta(1, 1) is uniform
    top, bottom = _ends(int(row * size), side, size)
    left, right = _ends(int(column * size), side, size)
    partners = torch.randperm(len(images), generator=generator)
    images = images.clone()
    images[..., top:bottom, left:right] = images[partners.to(images.device), :, top:bottom, left:right]
    return images, partners, 1 - (bottom - top) * (right - left) / size**2


def _ends(centre: int, side: int, size: int) -> tuple[int, int]:
    return max(centre - side // 2, 0), min(centre + side // 2, size)


def coloured_and_moved(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Colour and then crop of DSA, each normalised image [n, c, s, s] with parameters of its own."""
    for operation in ("color", "crop"):
        drawn = int(torch.randint(2**62, (), generator=generator))
        images = operate(images, *draw_operation(drawn, (operation,), len(images)))
    return images
