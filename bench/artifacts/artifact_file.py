"""The file of an artifact: named arrays with JSON metadata, in the safetensors format.

Arrays are memory-mapped on reading. They are written from memory, or block by block (`Blocks`), so that what is larger
than the memory can be written. A file carries a digest of its content. It is checked when a process first reads the
file; what does not fit is made again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import math
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import MachineError
from bench.texts import cut

LOG = logging.getLogger("condensebench")
DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
_CODES = {np.dtype(dtype): code for code, dtype in DTYPES.items()}

UNFINISHED = ".making-"  # how the name of a file begins that is being written
PIECE = 16 * 2**20  # bytes that are hashed at a time
_ROOM = 4096  # bytes kept in the header for metadata that are known once all blocks are written

# Files whose content fitted their digest in this process -> (inode, time of the last change, size) of then.
_intact: dict[str, tuple[int, int, int]] = {}


class DamagedArtifact(MachineError):
    """A file of the store holds something else than what was written: cut short, edited, or of an earlier version."""


@dataclass(frozen=True)
class Artifact:
    """Named arrays (read-only, memory-mapped) and metadata."""

    path: Path
    arrays: Mapping[str, np.ndarray]
    meta: Mapping[str, Any]


@dataclass(frozen=True)
class Blocks:
    """An array that is written block by block and never stands in memory.

    Args:
        shape: of the whole array.
        dtype: one of DTYPES.
        blocks: arrays whose values follow each other in C order; they are asked for while the file is written.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    blocks: Iterable[np.ndarray]

    @property
    def nbytes(self) -> int:
        """Of the whole array."""
        return math.prod(self.shape) * self.dtype.itemsize


def blocks_of_rows(rows: int, blocks: Iterator[np.ndarray]) -> Blocks:
    """An array of so many rows from its blocks; the first one, made now, tells its type and the rest of its shape."""
    first = next(blocks)
    return Blocks((rows, *first.shape[1:]), first.dtype, itertools.chain([first], blocks))


def size_of(arrays: Mapping[str, np.ndarray | Blocks]) -> int:
    """Bytes of the arrays of an artifact."""
    return sum(array.nbytes for array in arrays.values())


def write(path: Path, arrays: Mapping[str, np.ndarray | Blocks], meta: Mapping[str, Any]) -> None:
    """Write one artifact atomically. Of arrays in blocks, `meta` is read after the last block. Raises OSError, as where
    the disk is full."""
    whole = {name: array if isinstance(array, Blocks) else _plain(array) for name, array in arrays.items()}
    atomic(path, lambda temporary: _save(temporary, whole, meta))


def _plain(array: np.ndarray) -> np.ndarray:
    """Contiguous, in the machine's order of bytes."""
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _save(path: Path, arrays: Mapping[str, np.ndarray | Blocks], meta: Mapping[str, Any]) -> None:
    streamed = any(isinstance(array, Blocks) for array in arrays.values())
    entries, position = dict[str, Any](), 0
    for name in sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name)):  # aligned, as the format has it
        array = arrays[name]
        if array.dtype not in _CODES:
            raise TypeError(f"{name} is of type {array.dtype}; an artifact holds {', '.join(map(str, _CODES))}")
        offsets = [position, position + array.nbytes]
        entries[name] = {"dtype": _CODES[array.dtype], "shape": list(array.shape), "data_offsets": offsets}
        position = offsets[1]
    room = len(_header(entries, {**meta, "content": "0" * 64})) + (_ROOM if streamed else 0)
    with path.open("r+b") as file:
        begin = 8 + room
        for name in entries:
            file.seek(begin + entries[name]["data_offsets"][0])
            _write_array(file.write, name, arrays[name])
        file.flush()
        whole = {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
        final = dict(meta)  # what was learnt with the blocks is there now
        content = _content(_arrays(path, entries, begin) if streamed else whole, final)
        header = _header(entries, {**final, "content": content})
        if len(header) > room:
            raise ValueError(f"the metadata grew by more than {_ROOM} bytes while blocks were written")
        file.seek(0)
        file.write(room.to_bytes(8, "little") + header.ljust(room))


def _header(entries: Mapping[str, Any], meta: Mapping[str, Any]) -> bytes:
    """The JSON header, filled up with spaces to whole words of 8 bytes."""
    text = json.dumps({"__metadata__": {"json": json.dumps(meta, sort_keys=True)}, **entries}, separators=(",", ":"))
    content = text.encode()
    return content.ljust(-(-len(content) // 8) * 8)


def _write_array(put: Callable[[memoryview], Any], name: str, array: np.ndarray | Blocks) -> None:
    values = 0
    for block in array.blocks if isinstance(array, Blocks) else [array]:
        if block.dtype != array.dtype:
            raise ValueError(f"{name}: a block is {block.dtype}, the array {array.dtype}")
        values += block.size
        if values > math.prod(array.shape):
            break
        if block.size:
            put(np.ascontiguousarray(block).data.cast("B"))
    if values != math.prod(array.shape):
        raise ValueError(f"{name}: its blocks hold {values} values, or more, where {array.shape} takes others")


def read(path: Path) -> Artifact:
    """Memory-map one artifact. Raises MachineError if it is gone, DamagedArtifact if it is not what was written."""
    if not path.is_file():
        raise MachineError(f"{path} is gone: the store was emptied while it was in use.")
    artifact, content = mapped(path)
    state = path.stat()
    known = (state.st_ino, state.st_mtime_ns, state.st_size)
    if _intact.get(str(path)) != known:
        if content is None and "digest" in artifact.meta:  # weights of an earlier version
            intact = artifact.meta["digest"] == arrays_digest(artifact.arrays)
        else:
            intact = content == _content(artifact.arrays, artifact.meta)
        if not intact:
            why = "its content is not what was written" if content else "an earlier version wrote it, without a digest"
            raise DamagedArtifact(f"{path}: {why}. Delete the file; it will be made again.")
        _intact[str(path)] = known
    return artifact


def mapped(path: Path) -> tuple[Artifact, str | None]:
    """(a file's arrays, mapped, and metadata; the digest that it carries), unchecked. Raises DamagedArtifact if it
    cannot be read at all."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > os.fstat(file.fileno()).st_size:
                raise ValueError("its header is cut short")
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        arrays = _arrays(path, header, 8 + length)
        meta = json.loads(metadata.get("json", "{}"))
        content = meta.pop("content", None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DamagedArtifact(
            f"{path} is no readable artifact ({cut(str(error), 200)}). Delete the file; it will be made again."
        ) from None
    return Artifact(path, arrays, meta), content


def metadata(path: Path) -> Mapping[str, Any]:
    """What an artifact tells of itself; its arrays are not looked at. Raises DamagedArtifact."""
    return mapped(path)[0].meta


def _arrays(path: Path, entries: Mapping[str, Any], data: int) -> dict[str, np.ndarray]:
    """The arrays of a file, mapped; `data`: where they begin."""
    arrays = dict[str, np.ndarray]()
    for name, entry in entries.items():
        begin, end = entry["data_offsets"]
        dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
        if math.prod(shape) * np.dtype(dtype).itemsize != end - begin or min(begin, *shape, 0) < 0:
            raise ValueError(f"{name} takes other bytes than its shape and type tell")
        empty = begin == end  # nothing can be mapped over no bytes
        arrays[name] = (
            np.zeros(shape, dtype)
            if empty
            else np.memmap(path, dtype=dtype, mode="r", offset=data + begin, shape=shape)
        )
    return arrays


def hand_back(array: np.ndarray) -> None:
    """Give the memory of a mapped array back to the system's cache of files: what a process has read of a map counts as
    its own until somebody wants it. It is read again where it is needed again."""
    if isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        array.base.madvise(mmap.MADV_DONTNEED)


def discard(path: Path, why: str) -> None:
    """Remove a damaged file, so that it is made again, and say so in the log."""
    LOG.warning("%s", why.replace("Delete the file; it will be made again.", "It is made again."))
    path.unlink(missing_ok=True)


def arrays_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Hex sha256 of the arrays' names and bytes: what a teacher's weights are known by."""
    content = hashlib.sha256()
    for name in sorted(arrays):
        content.update(name.encode())
        for piece in _pieces(arrays[name]):
            content.update(piece)
    return content.hexdigest()


def _content(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> str:
    """Hex sha256 of an artifact: its metadata, and names, types, shapes and bytes of its arrays."""
    content = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        content.update(f"{name} {array.dtype.str} {array.shape}".encode())
        for piece in _pieces(array):
            content.update(piece)
    return content.hexdigest()


def _pieces(array: np.ndarray) -> Iterator[memoryview]:
    """The bytes of an array; of a mapped one, no more than a piece stays in memory."""
    if array.size:
        content = np.ascontiguousarray(array).data.cast("B")
        for start in range(0, len(content), PIECE):
            yield content[start : start + PIECE]
            if len(content) > PIECE:
                hand_back(array)


def atomic(path: Path, fill: Callable[[Path], Any]) -> None:
    """Have a file written beside its place and renamed into it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED)
    os.close(descriptor)
    temporary = Path(name)
    try:
        fill(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
