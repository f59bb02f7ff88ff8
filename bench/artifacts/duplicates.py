"""Images that are the same, or all but the same: within a condensed set, and between it and the test split.

"All but the same" is a root mean square difference of at most 6 of 255 levels. Between the test and the training images
of the embedded data sets the least is 10.6 (digits; mnist5k 10.7, glyphs 21.9), so what comes closer was not found but
made: a test image with a little noise, saved with losses, or changed by a few levels.

Float images are compared with test images by their nearest grey levels: normalising and its undoing change last bits.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from bench.artifacts.artifact_file import hand_back
from bench.artifacts.pixels import nearest_levels

NEAR = 6.0  # levels of 255, root mean square over all pixels and channels
_GRID = 8  # cells per side of the coarse images that are compared first
BLOCK_BYTES = 16 * 2**20  # of images that are compared at once; as floats they take four times as much
_PAIRS = 2**22  # of coarse images, whose distances stand in memory at once: four numbers each


class Slices(Protocol):
    """Images uint8 [n, channels, s, s] by slices: an array, or a test split that is read when it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Any: ...


def image_digests(images: np.ndarray) -> list[bytes]:
    """16 bytes for each of [n, channels, s, s]; equal for images of equal bytes."""
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]


def equal_count(batches: Iterable[np.ndarray], others: Slices) -> int:
    """How many images of all batches (uint8 [n, channels, s, s]) equal one of `others` (the same shape)."""
    known = {each for block in _blocks(others) for each in image_digests(block)}
    return sum(each in known for batch in batches for each in image_digests(batch))


def condensed_facts(
    images: np.ndarray,
    labels: np.ndarray,
    test: Slices,
    *,
    classes: int,
    train_in_test: int,
    soft_labels: np.ndarray | None = None,
) -> dict[str, Any]:
    """The fields of bench.records.files.CondensedSet.

    Args:
        images: uint8 or float [M, channels, s, s], the condensed set.
        labels: int64 [M].
        test: uint8 [T, channels, s, s], the test split.
        classes: of the data set; one without an image has 0.
        train_in_test: as the description of the data set tells it.
        soft_labels: float [M, C], where students learn from them.
    """
    counts, per_class = Counter(_digests(images)), np.bincount(labels, minlength=classes)
    levels = _Levels(images)
    known = {each for block in _blocks(test) for each in image_digests(block)}
    exact = np.array([each in known for each in _digests(levels)], bool)
    return {
        "digest": set_digest(images, labels, soft_labels),
        "per_class": (int(per_class.min()), int(per_class.max())),
        **({"empty_classes": int((per_class == 0).sum())} if per_class.min() < per_class.max() else {}),
        "repeated": sum(count for count in counts.values() if count > 1),
        "in_test_exact": int(exact.sum()),
        "in_test_near": int((near(levels, test) & ~exact).sum()),
        "train_in_test": train_in_test,
    }


def set_digest(images: np.ndarray, labels: np.ndarray, soft_labels: np.ndarray | None = None) -> str:
    """Hex sha256 of the shape, the pixels, the labels (int64) and the soft labels, if any, of a condensed set, all
    little-endian.

    Pixels are uint8 or floats; of floats, the type is part of the digest as well.
    """
    content = hashlib.sha256(repr(tuple(map(int, images.shape))).encode())
    if images.dtype.kind == "f":
        content.update(images.dtype.name.encode())
        dtype = images.dtype.newbyteorder("<")
    else:
        dtype = np.dtype(np.uint8)
    for block in _blocks(images):
        content.update(np.ascontiguousarray(block, dtype).tobytes())
    content.update(np.ascontiguousarray(labels, "<i8").tobytes())
    if soft_labels is not None:
        content.update(_floats(soft_labels))
    return content.hexdigest()


def _floats(values: np.ndarray) -> bytes:
    return values.dtype.name.encode() + np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


class _Levels:
    """The nearest grey levels of images, by slices."""

    def __init__(self, images: np.ndarray) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, part: slice) -> np.ndarray:
        return nearest_levels(self._images[part])


def near(images: Slices, others: Slices, limit: float = NEAR) -> np.ndarray:
    """bool [n]: which images have one among `others` within `limit` levels, root mean square.

    Coarse images (sums over cells, divided by the root of their pixels: an orthogonal projection) are never further
    apart than the images themselves. One matrix product a block tells which pairs are worth an exact look.

    Args:
        images, others: uint8 [n, channels, s, s] and [m, channels, s, s].
        limit: in levels of 255.
    """
    matched = np.zeros(len(images), bool)
    if not len(images):
        return matched
    most = limit * limit * images[:1].size
    coarse = np.concatenate([_coarse(block) for block in _blocks(images)])
    squares = (coarse * coarse).sum(axis=1)
    for block in _blocks(others):
        left = np.flatnonzero(~matched)
        if not len(left):
            break
        coarse_block = _coarse(block)
        squares_block = (coarse_block * coarse_block).sum(axis=1)
        step = max(1, _PAIRS // len(block))
        for rows in np.split(left, range(step, len(left), step)):
            total = squares[rows, None] + squares_block
            distance = total - 2 * (coarse[rows] @ coarse_block.T)
            # A float32 product of this length is exact to a few parts in a million of its terms.
            for row, candidates in zip(rows, distance <= most + 1e-5 * total, strict=True):
                if candidates.any():
                    image = np.asarray(images[row : row + 1])[0]
                    matched[row] = _any_within(image, block, np.flatnonzero(candidates), most)
    return matched


def _digests(images: Slices) -> Iterator[bytes]:
    for block in _blocks(images):
        yield from image_digests(block)


def _blocks(images: Slices) -> Iterator[np.ndarray]:
    """The images in blocks of bounded memory; what was mapped for a block is handed back."""
    step = max(1, BLOCK_BYTES // max(1, images[:1].nbytes))
    for start in range(0, len(images), step):
        yield np.asarray(images[start : start + step])
        if isinstance(images, np.ndarray):
            hand_back(images)


def _any_within(image: np.ndarray, others: np.ndarray, candidates: np.ndarray, most: float) -> bool:
    pixels = image.astype(np.int32)
    return any(
        bool((((pixels - others[part]) ** 2).sum(axis=(1, 2, 3), dtype=np.int64) <= most).any())
        for part in np.split(candidates, range(64, len(candidates), 64))
    )


def _coarse(images: np.ndarray) -> np.ndarray:
    """float32 [n, channels * cells]: centred, so that the products stay small."""
    n, channels, size = images.shape[:3]
    edges = np.unique(np.linspace(0, size, min(size, _GRID) + 1).round().astype(np.int64))
    widths = np.diff(edges).astype(np.float32)
    centred = images.astype(np.float32) - np.float32(127.5)
    if len(widths) < size:
        centred = np.add.reduceat(np.add.reduceat(centred, edges[:-1], axis=2), edges[:-1], axis=3)
    return (centred / np.sqrt(np.outer(widths, widths))).reshape(n, channels * len(widths) ** 2)
