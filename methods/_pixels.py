"""Pixels of 8 bits: rounded from floats, and what JPEG leaves of them."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image


def to_bytes(images: torch.Tensor) -> torch.Tensor:
    """Float images in [0, 255] -> uint8 by a truncating cast, blind to rounding noise (199.9999 is 200)."""
    return (images + 1e-3).clamp(0, 255).to(torch.uint8).cpu()


def through_jpeg(images: torch.Tensor, quality: int) -> torch.Tensor:
    """Uint8 [n, 1 or 3, s, s] after encoding and decoding as JPEG."""
    out = []
    for image in images.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(file, "JPEG", quality=quality)
        pixels = np.array(Image.open(file))
        out.append(torch.from_numpy(pixels).reshape(image.shape).permute(2, 0, 1))
    return torch.stack(out)
