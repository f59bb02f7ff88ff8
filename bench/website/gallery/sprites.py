"""Many small images in one PNG file, every pixel as it is; the page cuts them out and enlarges them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

CHANNELS = (1, 3)  # grey, or red, green and blue
NOT_STORED = 255  # index of the colour of what is not there
_GREY = (128, 128, 128)


def mosaic(tiles: np.ndarray) -> bytes:
    """The PNG file of uint8 [rows, columns, channels, s, s], of one or three channels, without gaps."""
    rows, columns, channels, height, width = tiles.shape
    pixels = tiles.transpose(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    return _png(Image.fromarray(np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels)))


def heat_maps(values: np.ndarray, highest: float) -> bytes:
    """The PNG file of float [rows, columns, height, width] in the colours of viridis, from 0 to `highest`; what is not
    a number is grey."""
    rows, columns, height, width = values.shape
    with np.errstate(invalid="ignore"):
        levels = np.clip(np.rint(values / highest * (NOT_STORED - 1)), 0, NOT_STORED - 1)
    indices = np.where(np.isnan(values), NOT_STORED, np.nan_to_num(levels)).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(indices.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)))
    image.putpalette(_viridis())
    return _png(image)


def _viridis() -> list[int]:
    from matplotlib import colormaps

    colours = colormaps["viridis"](np.linspace(0, 1, NOT_STORED), bytes=True)[:, :3]
    return [int(value) for value in (*colours.ravel(), *_GREY)]


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()
