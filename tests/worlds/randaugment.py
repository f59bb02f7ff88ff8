"""torchvision's own RandAugment, one image and one given operation at a time."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.transforms.v2 import RandAugment


def torchvisions(image: torch.Tensor, code: int, magnitude: int) -> torch.Tensor:
    """uint8 [C, size, size] after the operation `code` at bin `magnitude`, by the code of `RandAugment.forward`."""
    transform = RandAugment()
    place, negative = divmod(code, 2)
    name, (strengths, signed) = list(transform._AUGMENTATION_SPACE.items())[place]
    assert signed or not negative
    values = strengths(31, *image.shape[-2:])
    strength = 0.0 if values is None else float(values[magnitude])
    return transform._apply_image_or_video_transform(
        image, name, -strength if negative else strength, interpolation=transform.interpolation, fill=transform._fill
    )


def slow_randaugment(image: torch.Tensor, codes: np.ndarray, magnitude: int) -> torch.Tensor:
    """One image after all its operations."""
    for code in codes:
        image = torchvisions(image, int(code), magnitude)
    return image
