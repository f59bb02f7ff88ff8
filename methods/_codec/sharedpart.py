"""What all blobs of `pq` or `vq` share: whether one was made with it, and whether it is the one given."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from methods._codec.container import Container, CorruptBlobError, Specs, unpack

REFERENCE: Specs = {"s": ("<u4", 1)}  # in a blob: checksum of the shared part that it was made with


def reference(shared: bytes) -> dict[str, np.ndarray]:
    """`REFERENCE` of this shared part."""
    return {"s": np.array([zlib.crc32(shared)], np.uint32)}


def opened(codec: str, shared: bytes, classes: int) -> Container:
    """The shared part. Raises ValueError if it is of another number of classes, CorruptBlobError if it is damaged."""
    container = unpack(shared, codec)
    if container.shape[2] != classes:
        raise ValueError(f"shared: was fitted on {container.shape[2]} classes, the labels have {classes}")
    return container


def sections(codec: str, blob: Container, shared: bytes) -> Mapping[str, np.ndarray]:
    """Of the shared part that a blob was made with; its own where it was made without.

    Raises:
        CorruptBlobError: it was made with another one.
    """
    if "s" not in blob.sections:
        return blob.sections
    if zlib.crc32(shared) != int(blob.sections["s"][0]):
        raise CorruptBlobError("label blob was made with a shared part other than the one given")
    return opened(codec, shared, blob.shape[2]).sections
