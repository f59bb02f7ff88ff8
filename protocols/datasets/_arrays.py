"""What the embedded data sets share: images in one array, the fixed split, digests, and the cache on disk."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.seeds import Coordinate, numpy_generator

DIGESTS = Path(__file__).parent / "digests.json"
_CHUNK = 4096  # images hashed at a time: memory stays bounded for splits that are mapped from disk


class ArraySource:
    """A `bench.api.ImageSource` in one uint8 array [N, channels, height, width], in memory or mapped from disk."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(labels):
            raise ValueError(
                f"images must be uint8 [N, channels, height, width] with N labels, "
                f"got {images.dtype} {images.shape} and {len(labels)} labels"
            )
        self._images = images
        self._digest: str | None = None
        self.labels = np.array(labels, dtype=np.int64)
        self.labels.flags.writeable = False

    def __len__(self) -> int:
        return len(self._images)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Copies of the images, uint8 [n, channels, height, width], in the order of `indices` (repeats allowed)."""
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.ndim != 1:
            raise ValueError(f"indices must have one dimension, got shape {wanted.shape}")
        return np.array(self._images[wanted])

    def digest(self) -> str:
        """Hex sha256 over shape, types, labels and pixels, in index order."""
        if self._digest is None:
            self._digest = array_digest(self._images, self.labels)
        return self._digest


def array_digest(images: np.ndarray, labels: np.ndarray) -> str:
    """Hex sha256 of a header (shape and types), then int64 little-endian labels, then the pixels in index order."""
    header = {"shape": list(images.shape), "images": "uint8", "labels": "int64"}
    digest = hashlib.sha256(json.dumps(header, sort_keys=True, separators=(",", ":")).encode())
    digest.update(np.ascontiguousarray(labels, dtype="<i8").tobytes())
    for start in range(0, len(images), _CHUNK):
        digest.update(np.ascontiguousarray(images[start : start + _CHUNK]).data)
    return digest.hexdigest()


def read_digests() -> dict[str, Any]:
    """digests.json: the released digests and the versions of the drawing libraries that they were made with."""
    return json.loads(DIGESTS.read_text(encoding="utf-8"))


def stratified_split(
    images: np.ndarray, labels: np.ndarray, test_size: int, *coordinates: Coordinate
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (train, test), ascending, int64: every class gives the same share to the test split.

    Images that occur more than once all stay in the train split, so that no test image was seen in training.

    Args:
        images: any dtype [N, ...].
        labels: integers [N].
        test_size: images in the test split.
        coordinates: of the seed (see bench.seeds).
    """
    pixels = [image.tobytes() for image in images]
    count = Counter(pixels)
    unique = np.array([count[p] == 1 for p in pixels])

    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * test_size / len(labels)
    shares = np.floor(exact).astype(int)
    largest_remainders = np.argsort(shares - exact, kind="stable")[: test_size - shares.sum()]
    shares[largest_remainders] += 1

    rng = numpy_generator(*coordinates)
    test = np.sort(
        np.concatenate(
            [
                rng.permutation(np.flatnonzero((labels == label) & unique))[:share]
                for label, share in zip(classes, shares, strict=True)
            ]
        )
    )
    if len(test) != test_size:
        raise ValueError(f"test_size={test_size}: a class has too few images that occur once")
    train = np.setdiff1d(np.arange(len(labels)), test)
    return train.astype(np.int64), test.astype(np.int64)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder, moved to `path` when the block ends well and removed when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
