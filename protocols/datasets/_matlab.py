"""Arrays of numbers in MATLAB files of version 5 to 7, as SVHN is published.

scipy reads such files too, but its compiled reader trusts what stands in them: a damaged file ends the process.
Source: MATLAB, MAT-File Format, version 5 ("MAT-File Level 5").
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.sources import read_content, unpack_zlib

_HEADER, _ENDIAN = 128, slice(126, 128)
_INT32, _UINT32, _MATRIX, _COMPRESSED = 5, 6, 14, 15
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_COMPLEX = 0x0800


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """The real arrays of numbers in a file, by name; whatever else stands in it is passed over.

    Raises:
        UserError: no regular file, or it would unpack to too much.
        ValueError, zlib.error: it is damaged.
    """
    content = read_content(file)
    order = {b"IM": "<", b"MI": ">"}.get(content[_ENDIAN])
    if order is None:
        raise ValueError("it does not begin as a MATLAB file of version 5 does")
    arrays = {}
    for kind, part in _elements(memoryview(content)[_HEADER:], order):
        if kind == _COMPRESSED:
            kind, part = next(_elements(memoryview(unpack_zlib(part, file)), order), (0, memoryview(b"")))
        if kind == _MATRIX and (array := _array(part, order)) is not None:
            arrays[array[0]] = array[1]
    return arrays


def _elements(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """(type, bytes) of each element. Raises ValueError where one is longer than the rest."""
    at = 0
    while at + 8 <= len(content):
        kind, size = (int(word) for word in np.frombuffer(content[at : at + 8], f"{order}u4"))
        if kind >> 16:  # a small one: its bytes stand in the second half of its head
            kind, size, start, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            start = at + 8
            after = start + (size if kind == _COMPRESSED else size + -size % 8)
        if start + size > len(content) or (size > 4 and start == at + 4):
            raise ValueError("an element is longer than the file")
        yield kind, content[start : start + size]
        at = after


def _array(matrix: memoryview, order: str) -> tuple[str, np.ndarray] | None:
    """(name, values) of a matrix; None for one that holds no real numbers. Raises ValueError."""
    parts = list(_elements(matrix, order))
    if len(parts) < 4 or [kind for kind, _ in parts[:3]] != [_UINT32, _INT32, 1]:
        return None
    (_, head), (_, shape), (_, name), (stored, data) = parts[:4]
    flags = int(np.frombuffer(head, f"{order}u4")[0]) if len(head) >= 4 else 0
    if flags & _COMPLEX or flags & 0xFF not in _CLASSES or stored not in _STORED:
        return None
    sizes = [int(size) for size in np.frombuffer(shape, f"{order}i4")]
    values = np.frombuffer(data, order + _STORED[stored])
    if min(sizes, default=-1) < 0 or math.prod(sizes) != len(values):
        raise ValueError(f"an array of {sizes} holds {len(values)} numbers")
    values = values.astype(_CLASSES[flags & 0xFF], casting="unsafe", copy=False)
    return bytes(name).decode("ascii"), values.reshape(sizes, order="F")
