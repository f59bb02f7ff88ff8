"""What the embedded data sets share: the fixed split, the released digests, and the cache on disk."""

from __future__ import annotations

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
from bench.sources import ArraySource, array_digest

__all__ = [
    "ArraySource",
    "array_digest",
    "atomic_path",
    "read_digests",
    "stratified_split",
]

DIGESTS = Path(__file__).parent / "digests.json"


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
