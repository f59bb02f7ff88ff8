"""Views applied to images: patches and crop and flip as one separable resampling, then mixing, then erasing.

Every step that moves pixels (strips, tile, crop, flip) works on rows and columns alone, so all of them together are one
matrix for the rows and one for the columns of each image: two batched matrix products, faster on a CPU than
`grid_sample`. The crop is bilinear with half-pixel centres, as torchvision's `resized_crop`; a crop is never larger than
the result, so antialiasing on or off is the same thing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bench.augment import View


def normalise(images: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Images as a network sees them: float32 (x / 255 - mean) / std.

    Args:
        images: uint8, or float in [0, 255], [n, C, height, width].
        mean, std: per channel, in [0, 1].
    """
    centre = torch.tensor(mean, dtype=torch.float64, device=images.device).view(-1, 1, 1)
    spread = torch.tensor(std, dtype=torch.float64, device=images.device).view(-1, 1, 1)
    return images.to(torch.float32).mul((1 / (255 * spread)).float()).sub_((centre / spread).float())


def render(
    images: torch.Tensor,
    view: View,
    indices: np.ndarray,
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> torch.Tensor:
    """The images at `indices` as `view` shows them: float32 [n, C, size, size], on the device of `images`.

    Args:
        images: the whole set, uint8 [N, C, size, size], or float32 if it is normalised already.
        view: parameters for all N images.
        indices: int64 [n].
        mean, std: per channel, in [0, 1]; not read where `images` are normalised already.

    Raises:
        ValueError: the images do not have the size that the view was drawn for.
    """
    _check(images, view)

    def show(rows: np.ndarray) -> torch.Tensor:
        chosen = images[_move(rows, images.device)]
        return resample(chosen if chosen.is_floating_point() else normalise(chosen, mean, std), view, rows)

    shown = show(indices)
    if view.partner is None:
        return erase(shown, view, indices)
    partner = view.partner[indices]
    place = _places(indices, partner, len(images))
    return erase(
        mix(shown, shown[_move(place, images.device)] if place is not None else show(partner), view, indices),
        view,
        indices,
    )
