"""MNIST's format (idx), plain or gzipped."""

from __future__ import annotations

import hashlib
import math
from functools import partial
from pathlib import Path

import numpy as np

from bench.api import Dataset
from bench.errors import UserError
from bench.sources import read_content
from protocols.datasets._files import Look, array_dataset, place

# md5 of the published training labels and test labels, unpacked: what tells apart sets of one format and one shape.
_LABELS = {
    "mnist": ("a25bea736e30d166cdddb491f175f624", "27ae3e4e09519cfbb04c329615203637"),
    "fashion-mnist": ("9018921c3c673c538a1fc5bad174d6f9", "15d484375f8d13e6eb1aabb0c3f46965"),
}


def load(name: str, look: Look) -> Dataset:
    """A data set of four idx files."""
    folder, layout = place(name)
    files = [folder / each for each in layout.needed]
    return array_dataset(look, folder, partial(read_split, name), files[:2], files[2:])


def read_split(name: str, images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [N, 1, height, width], labels [N]) of two files. Raises UserError, also for another set's files: sets of
    this format share names and shapes."""
    checksum = hashlib.md5(read_content(labels)).hexdigest()
    for other, checksums in _LABELS.items():
        if other != name and checksum in checksums:
            raise UserError(f"The data set '{name}' cannot be read from {labels}, which is that of '{other}'.")
    pixels, classes = read_idx(images, 3)[:, None], read_idx(labels, 1)
    if len(pixels) != len(classes):
        raise UserError(f"{images} holds {len(pixels):,} images and {labels} {len(classes):,} labels.")
    return pixels, classes


def read_idx(file: Path, dimensions: int) -> np.ndarray:
    """uint8 with so many dimensions: two zero bytes, the type 8, the number of dimensions, the sizes, the values."""
    data, head = read_content(file), 4 + 4 * dimensions
    if data[:4] != bytes((0, 0, 8, dimensions)) or len(data) < head:
        raise UserError(f"{file} is no idx file of bytes with {dimensions} dimension{'s' * (dimensions > 1)}.")
    shape = tuple(np.frombuffer(data, ">i4", dimensions, offset=4).tolist())
    if min(shape) < 0 or len(data) != head + math.prod(shape):
        raise UserError(f"{file} announces {shape} values and holds {len(data) - head:,} bytes: it was cut off.")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)
