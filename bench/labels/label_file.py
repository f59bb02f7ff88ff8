"""Bytes: what is really serialized, counted by the harness and by nobody else.

Labels of a condensed set are one byte string: the parameters that replay the stored augmentations, what all images
share, and one blob for each shard of images. Images of whole grey levels are counted as lossless PNG files, float
images with the bytes of their values, the same for every method.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from bench import varint
from bench.errors import UserError
from bench.records.schema import COUNTED_AS

if TYPE_CHECKING:
    import torch

Bytes = bytes | memoryview  # in memory, or mapped from a file
MAGIC = b"CBL1"
SMALL_SIDE = 64  # pixels of an image up to which zlib searches for the best coding
SHARD_BYTES = 64 * 2**20  # raw fp16 logits that are in memory at once


@dataclass(frozen=True)
class LabelFile:
    """The encoded labels of one condensed set."""

    views: bytes
    shared: bytes
    blobs: tuple[Bytes, ...]

    def to_bytes(self) -> bytes:
        """The file: magic, lengths as variable-length integers, then the parts."""
        return self._header() + b"".join((self.views, self.shared, *self.blobs))

    def _header(self) -> bytes:
        parts = (self.views, self.shared, *self.blobs)
        return MAGIC + b"".join(varint.encode(n) for n in (len(parts), *(len(p) for p in parts)))

    @staticmethod
    def from_bytes(data: bytes) -> LabelFile:
        """The inverse of to_bytes. Raises UserError on bytes that are no label file or are cut short."""
        if data[:4] != MAGIC:
            raise UserError("These bytes are no label file (they do not begin with CBL1).")
        try:
            position = 4
            count, position = varint.decode(data, position)
            lengths = []
            for _ in range(count):
                length, position = varint.decode(data, position)
                lengths.append(length)
        except IndexError:
            raise UserError("The label file is cut short.") from None
        if count < 2 or position + sum(lengths) != len(data):
            whole = f"{position + sum(lengths)}" if sum(lengths) < 2**63 else "more than any file has"
            raise UserError(f"The label file has {len(data)} bytes; its header tells {whole}.")
        parts = []
        for length in lengths:
            parts.append(data[position : position + length])
            position += length
        return LabelFile(parts[0], parts[1], tuple(parts[2:]))

    def sizes(self) -> dict[str, int]:
        """Bytes: total (the file's length), shared, blobs, views; the container is what remains. No file is made."""
        views, shared, blobs = len(self.views), len(self.shared), sum(len(b) for b in self.blobs)
        return {"total": len(self._header()) + views + shared + blobs, "shared": shared, "blobs": blobs, "views": views}


def blob_allowance(total: int, *, views: int, shared: int, shard_sizes: Sequence[int]) -> list[int]:
    """Bytes each shard's blob may take, so that the whole file stays within `total`; in proportion to its images.

    The lengths in the header are counted at the size they have when every blob uses its allowance in full. May be zero
    or negative: then not even the overhead fits, and the compressor says what it would need.
    """
    # A length below `total` never takes more digits than `total` itself.
    left = total - _fixed_bytes(views, shared, len(shard_sizes)) - len(shard_sizes) * len(varint.encode(max(total, 0)))
    images = sum(shard_sizes)
    return [left * size // images for size in shard_sizes]


def smallest_total(blob: int, shard: int, *, views: int, shared: int, shard_sizes: Sequence[int]) -> int:
    """The smallest `total` for which `blob_allowance` gives this shard `blob` bytes."""
    parts = -(-blob * sum(shard_sizes) // shard_sizes[shard]) + _fixed_bytes(views, shared, len(shard_sizes))
    digits = 1
    while len(varint.encode(parts + digits * len(shard_sizes))) > digits:
        digits += 1
    return parts + digits * len(shard_sizes)


def _fixed_bytes(views: int, shared: int, shards: int) -> int:
    """What a label file takes beside its blobs and their lengths."""
    return (
        len(MAGIC)
        + len(varint.encode(shards + 2))
        + len(varint.encode(views))
        + len(varint.encode(shared))
        + views
        + shared
    )


def shard_sizes(images: int, views: int, classes: int, limit: int = SHARD_BYTES) -> list[int]:
    """Images per shard, so that a shard's raw fp16 logits stay within `limit` bytes; as even as can be."""
    largest = max(1, limit // max(1, views * classes * 2))
    count = -(-images // largest)
    return [images // count + (index < images % count) for index in range(count)]


def shards(images: int, views: int, classes: int) -> Iterator[np.ndarray]:
    """Consecutive int64 image indices of each shard."""
    start = 0
    for size in shard_sizes(images, views, classes):
        yield np.arange(start, start + size)
        start += size


def image_bytes(images: torch.Tensor) -> int:
    """Bytes of [n, channels, s, s]: of uint8 as lossless PNG files, of floats as their values lie in memory.

    Images of more than `SMALL_SIDE` pixels are compressed with zlib's run lengths instead of its best search: a
    photograph of 224 pixels takes 3 instead of 48 ms, and 2 % more bytes.
    """
    if images.is_floating_point():
        return images.numel() * images.element_size()
    options: dict[str, Any] = {"optimize": True} if images.shape[-1] <= SMALL_SIDE else {"compress_type": zlib.Z_RLE}
    total = 0
    for image in images.numpy():
        pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", **options)
        total += buffer.tell()
    return total


def image_count(size: int, *, floats: bool) -> dict[str, str]:
    """What a record's provenance says beside the number that `image_bytes` gives; nothing for the count that earlier
    versions made of all sets."""
    return {} if floats or size <= SMALL_SIDE else {COUNTED_AS: "png-rle"}
