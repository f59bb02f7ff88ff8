"""Views applied to images: patches, crops and flip as one separable resampling, then mixing, then erasing.

Every step that moves pixels (strips, tile, crops, flip) works on rows and columns alone, so all of them together are
one position for each row and one for each column of the result (bench.views.resampling). The crop is bilinear with
half-pixel centres, as torchvision's `resized_crop`; a crop is never larger than the result, so antialiasing on or off
is the same thing. Pixels that a crop finds outside the image are black: resampling gives zero there, so it is applied
to image minus black. RandAugment comes first, on raw pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from bench.views.parameters import View
from bench.views.randaugment import randaugment
from bench.views.resampling import along_axes

_TOGETHER = 4 * 2**20  # bytes of float images that a processor renders together: six times as many are in memory then


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
        images: the whole set, uint8 [N, C, size, size], or float32 if it is normalised already (not for RandAugment).
        view: parameters for all N images.
        indices: int64 [n].
        mean, std: of the normalisation, per channel, in [0, 1].

    Raises:
        ValueError: the images do not have the size that the view was drawn for.
    """
    if images.shape[-1] != view.size or images.shape[-2] != view.size:
        raise ValueError(f"the view was drawn for {view.size} px, the images have {tuple(images.shape[-2:])}")

    def show(rows: np.ndarray) -> torch.Tensor:
        chosen = images[torch.from_numpy(rows).to(images.device)]
        return transform(chosen, view, rows, mean=mean, std=std)

    def finished(rows: np.ndarray) -> torch.Tensor:
        shown = show(rows)
        return finish(shown, show(view.partner[rows]) if view.partner is not None else None, view, rows)

    first, *rest = pieces(images, np.asarray(indices, np.int64))
    if not rest:
        return finished(first)
    shown = finished(first)
    every, start = shown.new_empty(len(indices), *shown.shape[1:]), len(first)
    every[:start] = shown
    for rows in rest:
        every[start : start + len(rows)] = finished(rows)
        start += len(rows)
    return every


def pieces(images: torch.Tensor, rows: np.ndarray) -> list[np.ndarray]:
    """Those of `rows` (int64 [n]) of a set that `render` works on together, in order; it takes the images of each, and
    then their partners. What it makes of an image does not depend on the others."""
    image_bytes = 4 * math.prod(images.shape[1:])
    at_once = max(1, _TOGETHER // image_bytes if images.device.type == "cpu" else len(rows))
    return [rows[start : start + at_once] for start in range(0, max(1, len(rows)), at_once)]


def transform(
    x: torch.Tensor, view: View, rows: np.ndarray, *, mean: Sequence[float], std: Sequence[float]
) -> torch.Tensor:
    """The steps before mixing: RandAugment, normalisation, resampling.

    Args:
        x: uint8 [n, C, size, size], or float32 if normalised already (not for RandAugment).
        rows: int64 [n], where they stand in the view.
        mean, std: per channel, in [0, 1].

    Raises:
        ValueError: RandAugment is to work on normalised images.
    """
    if view.operations is not None:
        if x.is_floating_point():
            raise ValueError("RandAugment works on raw images, uint8")
        x = randaugment(x, view.operations[rows], view.magnitude)
    if not x.is_floating_point():
        x = normalise(x, mean, std)
    if view.shift is None:
        return resample(x, view, rows)
    black = normalise(x.new_zeros(x.shape[1], 1, 1), mean, std)
    return resample(x - black, view, rows).add_(black)


def finish(shown: torch.Tensor, other: torch.Tensor | None, view: View, rows: np.ndarray) -> torch.Tensor:
    """The steps after resampling: the partners mixed in, then the squares erased.

    Args:
        shown, other: resampled images and their partners, float32 [n, C, size, size]; `shown` may be overwritten.
        rows: int64 [n], where they stand in the view.
    """
    if other is not None and view.lam is not None:
        if view.mix_box is not None:
            shown = torch.where(_inside(view.mix_box[rows], view.size, shown.device), other, shown)
        else:
            shown = torch.lerp(other, shown, torch.from_numpy(view.lam[rows]).to(shown.device).view(-1, 1, 1, 1))
    if view.cutout is not None:
        shown = shown.masked_fill_(_inside(view.cutout[rows], view.size, shown.device), 0.0)
    return shown


def resample(x: torch.Tensor, view: View, rows: np.ndarray) -> torch.Tensor:
    """Strips, tile, crops and flip of images float [n, C, size, size] that stand at `rows` in the view.

    Where a crop leaves the image, it finds zeros.
    """
    flip = torch.from_numpy(view.flip[rows]).to(x.device) if view.flip is not None else None
    if view.box is None and view.tile is None and view.strips is None and view.shift is None:
        return x if flip is None else torch.where(flip.view(-1, 1, 1, 1), x.flip(-1), x)
    n, size = len(rows), view.size
    if view.box is None:
        side = size // view.grid if view.tile is not None else size
        box = np.tile(np.array([0, 0, side, side], np.float32), (n, 1))
    else:
        box = view.box[rows].astype(np.float32)
    if view.tile is not None:
        tile = view.tile[rows].astype(np.int64)
        box[:, 0] += tile // view.grid * (size // view.grid)
        box[:, 1] += tile % view.grid * (size // view.grid)
    if view.shift is not None:
        box[:, :2] += view.shift[rows]
    starts, lengths = torch.from_numpy(box.T.reshape(2, 2, n)).to(x.device)  # each [rows or columns, n]
    # Output pixel j looks at source position start + clamp((j + 1/2) length / size - 1/2).
    middle = torch.arange(size, dtype=torch.float32, device=x.device) + 0.5
    position = torch.minimum((middle * (lengths / size)[..., None] - 0.5).clamp_(min=0), lengths[..., None] - 1)
    position += starts[..., None]
    if flip is not None:
        position[1] = torch.where(flip[:, None], position[1].flip(1), position[1])
    return along_axes(x, position, _places(view, rows, x.device))


def _places(view: View, rows: np.ndarray, device: torch.device) -> torch.Tensor | None:
    """Where each source pixel stands once the strips are shuffled: float32 [2 (rows, columns), n, 1, size]."""
    if view.strips is None:
        return None
    width = view.size // view.grid
    place = np.argsort(view.strips[rows], axis=2)[:, ::-1]  # [n, (rows, columns), source strip] -> its place
    pixels = (place[..., None] * width + np.arange(width)).reshape(len(rows), 2, view.size)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(1, 0, 2), np.float32)).to(device)[:, :, None]


def _inside(boxes: np.ndarray, size: int, device: torch.device) -> torch.Tensor:
    """bool [n, 1, size, size]: the pixels of each box."""
    at = np.arange(size)
    start, length = boxes[:, :2, None].astype(np.int64), boxes[:, 2:, None].astype(np.int64)
    inside = torch.from_numpy((at >= start) & (at < start + length)).to(device)  # [n, 2, size]
    return (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None]
