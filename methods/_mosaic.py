"""Square random crops of many images at once, and mosaics made of them: tensors only, no image is handled alone."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F


def square_boxes(n: int, size: int, scale: tuple[float, float], generator: torch.Generator) -> torch.Tensor:
    """Random squares inside a `size` x `size` image, as torchvision's RandomResizedCrop draws them for ratio (1, 1).

    Returns:
        int64 [n, 3] on the CPU: top, left, side in pixels; the area is uniform in `scale` (shares of the image).
    """
    draws = torch.rand(3, n, generator=generator, dtype=torch.float64)
    share = scale[0] + (scale[1] - scale[0]) * draws[0]
    # numpy's root is IEEE's; torch's hangs on the processor in its last bit, and one bit could move a rounded side.
    side = (size * torch.from_numpy(np.sqrt(share.numpy()))).round().clamp(1, size)
    room = size - side + 1
    return torch.stack([(draws[1] * room).floor(), (draws[2] * room).floor(), side], dim=1).to(torch.int64)


def _weights(start: torch.Tensor, side: torch.Tensor, size: int, out: int) -> torch.Tensor:
    """Float32 [n, out, size]: the rows resample [start, start + side) to `out` pixels, bilinear with antialiasing."""
    scale = side.to(torch.float32)[:, None, None] / out
    support = scale.clamp(min=1.0)
    device = start.device
    centre = scale * (torch.arange(out, device=device)[None, :, None] + 0.5)
    position = torch.arange(size, device=device)[None, None, :] - start[:, None, None]
    weight = (1 - (position + 0.5 - centre).abs() / support).clamp(min=0)
    weight = weight * ((position >= 0) & (position < side[:, None, None]))
    return weight / weight.sum(dim=2, keepdim=True)


def resized_crops(images: torch.Tensor, boxes: torch.Tensor, out: int) -> torch.Tensor:
    """Cut k boxes out of each image and resize them, as `resize(crop, antialias=True)` would one by one.

    Args:
        images: [m, c, S, S], any dtype.
        boxes: int64 [m, k, 3]: top, left, side.
        out: side of the result, pixels.

    Returns:
        float32 [m, k, c, out, out], in the images' range, on their device.
    """
    m, c, size, _ = images.shape
    k = boxes.shape[1]
    top, left, side = boxes.to(images.device).reshape(-1, 3).unbind(dim=1)
    rows = _weights(top, side, size, out).reshape(m, k * out, size)
    columns = _weights(left, side, size, out)  # [m * k, out, size]
    pixels = images.to(torch.float32).permute(0, 2, 1, 3).reshape(m, size, c * size)
    tall = (rows @ pixels).reshape(m * k, out * c, size)
    return (tall @ columns.transpose(1, 2)).reshape(m, k, out, c, out).transpose(2, 3)


def centre_pad(images: torch.Tensor, size: int) -> torch.Tensor:
    """Surround [n, c, s, s] with zeros up to [n, c, size, size]; an odd pixel goes below and to the right."""
    spare = size - images.shape[-1]
    before = spare // 2
    return F.pad(images, (before, spare - before, before, spare - before))


def mosaics(tiles: torch.Tensor, size: int, factor: int) -> torch.Tensor:
    """Stitch factor x factor tiles into each image, row by row.

    Of n images, image i gets the tiles i, i + n, i + 2n, ...: every image has one of the best tiles (RDED). Slots
    are size // factor pixels wide, the first size % factor ones a pixel wider; tiles of another size are resized to
    their slot by nearest neighbour.

    Args:
        tiles: [n * factor^2, c, s, s], best first.
        size: side of an image, pixels.
        factor: tiles per side.

    Returns:
        [n, c, size, size], dtype of the tiles.
    """
    n = len(tiles) // factor**2
    slots = [size // factor + (1 if place < size % factor else 0) for place in range(factor)]
    rows = []
    for row, height in enumerate(slots):
        row_tiles = []
        for column, width in enumerate(slots):
            start = (row * factor + column) * n
            row_tiles.append(F.interpolate(tiles[start : start + n], size=(height, width), mode="nearest"))
        rows.append(torch.cat(row_tiles, dim=3))
    return torch.cat(rows, dim=2)
