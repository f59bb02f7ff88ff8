"""The container of every label blob: a self-describing header of tens of bytes, named sections, a CRC32.

Layout (little endian): magic `CL`, version u8, crc32 u32 of all that follows, codec name, n, K, C, number of sections,
one entry per section (name, dtype, number of elements), then the sections' bytes one after the other, unpadded.
Integers of the header are LEB128 varints, names are a length byte and ASCII. The header counts against the byte budget.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bench import varint

MAGIC = b"CL"
VERSION = 1
DTYPES = ("u1", "i1", "<u2", "<i2", "<u4", "<i4", "<f2", "<f4")  # the position is the code; append only

Specs = dict[str, tuple[np.dtype | str, int]]  # name: (dtype, number of elements)

_CODES = {np.dtype(name): code for code, name in enumerate(DTYPES)}
_FIXED = len(MAGIC) + 1 + 4  # bytes before the checksummed part


class CorruptBlobError(ValueError):
    """A blob that is damaged, cut short, of another version or of another codec."""


@dataclass(frozen=True)
class Container:
    """A parsed blob. `sections` are read-only one-dimensional views into the blob's own bytes."""

    codec: str
    shape: tuple[int, int, int]  # n images, K views, C classes
    sections: Mapping[str, np.ndarray]


def pack(codec: str, shape: tuple[int, int, int], sections: Mapping[str, np.ndarray]) -> bytes:
    """One blob of one-dimensional sections, in the order given. Dtypes: one of `DTYPES`."""
    header = _header(codec, shape, {name: (data.dtype, data.size) for name, data in sections.items()})
    payload = b"".join(
        np.ascontiguousarray(data).astype(data.dtype.newbyteorder("<")).tobytes() for data in sections.values()
    )
    body = header + payload
    return MAGIC + bytes([VERSION]) + struct.pack("<I", zlib.crc32(body)) + body


def packed_size(codec: str, shape: tuple[int, int, int], specs: Specs) -> int:
    """len(pack(...)) in bytes for sections of these (dtype, number of elements), without building them."""
    typed = {name: (np.dtype(dtype), size) for name, (dtype, size) in specs.items()}
    return _FIXED + len(_header(codec, shape, typed)) + sum(dtype.itemsize * size for dtype, size in typed.values())


def unpack(blob: bytes, codec: str) -> Container:
    """Parse a blob and verify its checksum. `codec`: the name that the caller can decode.

    Raises:
        CorruptBlobError: bad magic, version, checksum, codec name or section table; the message says which.
    """
    if len(blob) < _FIXED or blob[:2] != MAGIC:
        raise CorruptBlobError(f"not a label blob: {len(blob)} bytes that do not start with {MAGIC!r}")
    if blob[2] != VERSION:
        raise CorruptBlobError(f"label blob of version {blob[2]}, this code reads version {VERSION}")
    body = memoryview(blob)[_FIXED:]
    stored, found = struct.unpack("<I", blob[3:_FIXED])[0], zlib.crc32(body)
    if stored != found:
        raise CorruptBlobError(f"label blob is damaged: checksum {found:08x}, its header says {stored:08x}")
    try:
        return _parse(body, codec)
    except (IndexError, UnicodeDecodeError) as error:  # the sender wrote a bad table under a good checksum
        raise CorruptBlobError(f"label blob has a malformed section table: {error}") from error


def _parse(body: memoryview, codec: str) -> Container:
    name, at = _read_name(body, 0)
    if name != codec:
        raise CorruptBlobError(f"label blob was encoded by {name!r}, asked to decode it as {codec!r}")
    n, at = varint.decode(body, at)
    k, at = varint.decode(body, at)
    c, at = varint.decode(body, at)
    count, at = varint.decode(body, at)
    table = []
    for _ in range(count):
        section, at = _read_name(body, at)
        dtype = np.dtype(DTYPES[body[at]])
        size, at = varint.decode(body, at + 1)
        table.append((section, dtype, size))
    expected = at + sum(dtype.itemsize * size for _, dtype, size in table)
    if expected != len(body):
        raise CorruptBlobError(f"label blob holds {len(body)} bytes after its checksum, its header says {expected}")
    sections = {}
    for section, dtype, size in table:
        sections[section] = np.frombuffer(body, dtype, size, at)
        at += dtype.itemsize * size
    return Container(name, (n, k, c), sections)


def _header(codec: str, shape: tuple[int, int, int], specs: Mapping[str, tuple[np.dtype, int]]) -> bytes:
    parts = [_name(codec), *(varint.encode(value) for value in shape), varint.encode(len(specs))]
    for name, (dtype, size) in specs.items():
        parts += [_name(name), bytes([_CODES[dtype.newbyteorder("<")]]), varint.encode(size)]
    return b"".join(parts)


def _name(text: str) -> bytes:
    raw = text.encode("ascii")
    return bytes([len(raw)]) + raw


def _read_name(body: memoryview, at: int) -> tuple[str, int]:
    end = at + 1 + body[at]
    return bytes(body[at + 1 : end]).decode("ascii"), end
