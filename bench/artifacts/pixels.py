"""Pixels of condensed sets: whole grey levels (uint8), or numbers without bounds (float32, float16).

Both are in grey levels: 0 is black, 255 is white. Float pixels may lie between the levels and beyond black and white,
as DC, DSA, DM and MTT train and evaluate them. They take `itemsize` bytes a value; whole levels are counted as PNG.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import UserError
from bench.protocol.recipe import Recipe

if TYPE_CHECKING:
    import torch  # a check of records does without

NORMALISED = 8.0  # grey levels: a set without any value beyond is no picture, but was never brought to grey levels
FLOATS = ("float32", "float16")
ALLOWED = "uint8, float32 or float16, in grey levels (0 black, 255 white)"


def fault_of(images: torch.Tensor) -> str:
    """What forbids these images as pixels of a condensed set: their type, or their values; "" if nothing does.

    Args:
        images: of any type and shape.
    """
    kind = kind_of(images)
    if kind == "uint8":
        return ""
    if kind not in FLOATS:
        return f"images must be {ALLOWED}, not {kind}"
    if not bool(images.isfinite().all()):
        return "float images must be finite; some values are nan or infinite"
    most = float(images.detach().abs().max()) if images.numel() else 0.0
    if 0 < most <= NORMALISED:
        return (
            f"float images must be in grey levels (0 black, 255 white); no value is beyond {most:.3g}, as in images "
            f"that are normalised or lie in [0, 1]. Hand in 255 * (images * std + mean), or 255 * images"
        )
    return ""


def kind_of(images: torch.Tensor | np.ndarray) -> str:
    """Type of the pixels as a record calls it: uint8, float32 or float16."""
    return str(images.dtype).removeprefix("torch.")


def mapped_tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor over an array that is mapped from a file, without a copy. It is not to be written to."""
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def nearest_levels(images: np.ndarray) -> np.ndarray:
    """The nearest of the 256 grey levels: uint8 of the same shape; what is uint8 already is returned as it is."""
    if images.dtype == np.uint8:
        return images
    levels: np.ndarray = np.clip(np.rint(images), 0, 255).astype(np.uint8)
    return levels


def refuse_operations_on_floats(images: torch.Tensor | np.ndarray, recipe: Recipe) -> None:
    """Raise UserError where the recipe has RandAugment and pixels are floats: it is defined on whole levels alone."""
    if recipe.augment.randaugment_ops and kind_of(images) != "uint8":
        raise UserError(
            f"the protocol applies RandAugment, which is defined on whole grey levels (uint8); the condensed set has "
            f"{kind_of(images)} pixels. Round its images to uint8, or use a protocol without RandAugment."
        )
