"""RandAugment (Cubuk et al., 2020) in torchvision's op space, on whole groups of images at once.

Every image has a code for each of its operations, drawn with its view (bench/augment.py): all images with the same code
go through torchvision together. Strengths, nearest neighbours and black corners are the defaults of
`torchvision.transforms.v2.RandAugment` with its 31 bins, on tensors. The older `torchvision.transforms.RandAugment`
differs by one grey level here and there in Color, Sharpness and AutoContrast; Pillow rounds in its own way throughout.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

# The order is part of stored views: a code is 2 * place, plus 1 for the negative direction.
OPERATIONS = (
    "Identity",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
)
SIGNED = np.array([name in OPERATIONS[1:10] for name in OPERATIONS])  # those that go both ways
BINS = 31


def randaugment(images: torch.Tensor, codes: np.ndarray, magnitude: int) -> torch.Tensor:
    """The images after all their operations: uint8 [n, C, size, size], on the device of `images`.

    Args:
        images: uint8 [n, C, size, size]; C is 1 or 3. Left as they are.
        codes: uint8 [n, operations], one row per image, in the order of application.
        magnitude: bin of all operations, 0..30.
    """
    import torch

    images = images.clone()
    for column in codes.T:
        for code in np.unique(column):
            place, negative = divmod(int(code), 2)
            name = OPERATIONS[place]
            if name == "Identity":
                continue
            rows = torch.from_numpy(np.flatnonzero(column == code)).to(images.device)
            amount = strength(name, magnitude, images.shape[-1])
            images[rows] = operate(images[rows], name, -amount if negative else amount)
    return images


def strength(name: str, magnitude: int, size: int) -> float:
    """What bin `magnitude` of an operation means, without its sign; 0 where the operation has no strength.

    In degrees (Rotate), pixels of an image of `size` (Translate), bits (Posterize), grey levels (Solarize), tangents
    (Shear), else a share.
    """
    import torch

    if name == "Posterize":
        return 8 - round(magnitude / ((BINS - 1) / 4))
    first, last = {
        "ShearX": (0.0, 0.3),
        "ShearY": (0.0, 0.3),
        "TranslateX": (0.0, 150 / 331 * size),
        "TranslateY": (0.0, 150 / 331 * size),
        "Rotate": (0.0, 30.0),
        "Solarize": (255.0, 0.0),
    }.get(name, (0.0, 0.9) if SIGNED[OPERATIONS.index(name)] else (0.0, 0.0))
    return float(torch.linspace(first, last, BINS)[magnitude])


def operate(images: torch.Tensor, name: str, amount: float) -> torch.Tensor:
    """One operation on all images, uint8 [n, C, size, size]; `amount` as `strength` gives it, with its sign."""
    from torchvision.transforms.v2 import functional as ops  # a second of imports that few protocols need

    changed: torch.Tensor
    match name:
        case "ShearX" | "ShearY":
            angle = math.degrees(math.atan(amount))
            shear = [angle, 0.0] if name == "ShearX" else [0.0, angle]
            changed = ops.affine(images, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, center=[0, 0])
        case "TranslateX" | "TranslateY":
            move = [int(amount), 0] if name == "TranslateX" else [0, int(amount)]
            changed = ops.affine(images, angle=0.0, translate=move, scale=1.0, shear=[0.0, 0.0])
        case "Rotate":
            changed = ops.rotate(images, amount)
        case "Brightness":
            changed = ops.adjust_brightness(images, 1 + amount)
        case "Color":
            changed = ops.adjust_saturation(images, 1 + amount)
        case "Contrast":
            changed = ops.adjust_contrast(images, 1 + amount)
        case "Sharpness":
            changed = ops.adjust_sharpness(images, 1 + amount)
        case "Posterize":
            changed = ops.posterize(images, int(amount))
        case "Solarize":
            changed = ops.solarize(images, amount)
        case "AutoContrast":
            changed = ops.autocontrast(images)
        case "Equalize":
            changed = ops.equalize(images)
        case _:
            raise ValueError(f"RandAugment has no operation '{name}'; it has {', '.join(OPERATIONS)}")
    return changed
