"""A condensed set of somebody else, opened: its images one by one, its labels, the names of its classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from bench.errors import UserError
from bench.strangers import MODES, read_levels


@dataclass(frozen=True)
class Picture:
    """An image file, wherever it lies."""

    name: str
    read: Callable[[], bytes]


@dataclass(frozen=True)
class PublishedSet:
    """Images of somebody else, class after class."""

    images: Sequence[Picture] | np.ndarray  # files, or uint8 or float32 (grey levels) [M, c, h, w]
    labels: np.ndarray  # int64 [M], ascending
    names: tuple[str, ...] = ()  # of the classes, by number; empty where the source has none
    soft: np.ndarray | None = None  # float32 [M, C]: labels that were learnt with the images

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, channels: int, size: int) -> np.ndarray:
        """uint8 or float32 [M, channels, size, size].

        A uint8 image of another size is cut to its largest centred square and resized by Pillow's bicubic filter, which
        averages where it shrinks; one of the right size is taken as it is. Colour becomes grey, and grey becomes
        colour, by Pillow's conversion. Floats must have the right shape.

        Raises:
            UserError: a file cannot be read, or the channels or the size do not fit.
        """
        if not isinstance(self.images, np.ndarray):
            files = (read_levels(each.read(), each.name, channels) for each in self.images)
            return np.stack([_fitted(image, size) for image in files])
        shape = self.images.shape[1:]
        if shape == (channels, size, size):
            return np.ascontiguousarray(self.images)
        if self.images.dtype != np.uint8 or shape[0] != channels or channels not in MODES:
            raise UserError(
                f"image 0 is {list(shape)} of {self.images.dtype}; the data set has images {[channels, size, size]}, "
                f"and what is resized must be uint8 and have its channels (1 or 3)."
            )
        layers = self.images[:, 0] if channels == 1 else self.images.transpose(0, 2, 3, 1)
        pictures = (Image.fromarray(np.ascontiguousarray(layer), MODES[channels]) for layer in layers)
        return np.stack([_fitted(picture, size) for picture in pictures])


def in_class_order(
    images: Sequence[Picture] | np.ndarray, labels: np.ndarray, names: Sequence[str], soft: np.ndarray | None = None
) -> PublishedSet:
    """The set with its images class after class; within a class, in the order that they have."""
    order = np.argsort(labels, kind="stable")
    chosen = images[order] if isinstance(images, np.ndarray) else [images[at] for at in order]
    learnt = None if soft is None else soft[order].astype(np.float32)
    return PublishedSet(chosen, labels[order].astype(np.int64), tuple(names), learnt)


def check_labels(labels: np.ndarray, images: int, classes: int, source: str) -> None:
    """Raise UserError unless labels are whole numbers [images] within the classes of the data set."""
    if labels.dtype.kind not in "iu" or labels.shape != (images,):
        raise UserError(
            f"{source}: labels must be whole numbers [{images}]; they are {labels.dtype} {list(labels.shape)}."
        )
    if not images:
        raise UserError(f"{source} holds no image.")
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise UserError(
            f"{source}: labels lie in {labels.min()}..{labels.max()}; the data set has classes 0..{classes - 1}."
        )


def some(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "none"


def _fitted(image: Image.Image, size: int) -> np.ndarray:
    if image.size != (size, size):
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        # Cut first: a filter over the whole image would let in pixels from beyond the square.
        square = image.crop((left, top, left + side, top + side))
        image = square.resize((size, size), Image.Resampling.BICUBIC)
    pixels = np.array(image)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
