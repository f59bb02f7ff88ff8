"""Content-addressed artifacts on disk: named arrays with JSON metadata, one safetensors file each.

The address of an artifact is the digest of everything that it was made from; what is found at an address is therefore
what would be computed again. Files are written beside their place and renamed into it, under a lock, so that two tasks
that need the same artifact make it once and a crash leaves no half of one. Arrays are memory-mapped on reading.

A file carries a digest of its content. It is checked when a process first reads the file; what does not fit is made
again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from bench import machine
from bench.errors import MachineError
from bench.fingerprint import digest
from bench.texts import cut

LOG = logging.getLogger("condensebench")
DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16,
    "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip

_RUST_ERRNO = re.compile(r"\(os error (\d+)\)")  # safetensors has the number of an OSError in its text only
UNFINISHED = ".making-"  # how the name of a file begins that is being written
IN_USE = ".in-use"  # the file that every process which works in a store holds a shared lock on
_IN_USE: dict[Path, IO[str]] = {}  # of this process, by the store's root


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


class Store:
    """Artifacts under one folder: root/kind/address.safetensors.

    Args:
        root: the folder.
        arithmetic: in which artifacts are made (see bench.machine); None: that of this process. What is made in the
            one is never served to the other.
    """

    def __init__(self, root: str | Path, arithmetic: str | None = None) -> None:
        self.root, self.arithmetic = Path(root), arithmetic or machine.current()

    def path(self, kind: str, inputs: Mapping[str, Any]) -> Path:
        """Where the artifact made from `inputs` lies, or will."""
        # Addresses of native artifacts are those that they had before there was another arithmetic.
        key = inputs if self.arithmetic == machine.NATIVE else {**inputs, "arithmetic": self.arithmetic}
        return self.root / kind / f"{digest(key)[:32]}.safetensors"

    def relative(self, artifact: Artifact) -> str:
        """The artifact's path below the root: the same in every store that holds it."""
        return artifact.path.relative_to(self.root).as_posix()

    def find(self, kind: str, inputs: Mapping[str, Any]) -> Artifact | None:
        """The artifact, or None if it has not been made. A file that is not what was written is removed."""
        path = self.path(kind, inputs)
        try:
            return read(path) if path.is_file() else None
        except DamagedArtifact as error:
            discard(path, str(error))
            return None

    def kept(self, kind: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
        """(file, inputs) of every artifact of a kind, in order of their names. Files that cannot be read are left out;
        what a file holds is checked by `read`, not here."""
        for path in sorted((self.root / kind).glob("*.safetensors")):
            if not path.name.startswith(UNFINISHED):
                try:
                    inputs = _mapped(path)[0].meta.get("inputs")
                except DamagedArtifact:
                    continue
                if isinstance(inputs, dict):
                    yield path, inputs

    def get(
        self,
        kind: str,
        inputs: Mapping[str, Any],
        make: Callable[[], tuple[Mapping[str, np.ndarray], Mapping[str, Any]]],
    ) -> Artifact:
        """The artifact made from `inputs`, made now by `make() -> (arrays, metadata)` if it is not there yet."""
        path = self.path(kind, inputs)
        artifact = self.find(kind, inputs)
        if artifact is None:
            with self._lock(path):
                artifact = self.find(kind, inputs)
                if artifact is None:
                    arrays, meta = make()
                    write(path, arrays, {**meta, "inputs": inputs})
        return artifact or read(path)

    def adopt(self, relative: str, content: bytes) -> None:
        """Put an artifact that was made elsewhere (another node) where it belongs."""
        path = self.root / relative
        if not path.is_file():
            self._use()
            _atomic(path, lambda temporary: temporary.write_bytes(content))

    def sweep(self) -> dict[str, int]:
        """Remove what killed processes left, unless another process works in the store: kind -> number removed."""
        left = {
            "unfinished artifact": [*self.root.glob(f"*/{UNFINISHED}*")],
            "scratch folder": [*(self.root / "scratch").glob("*")],
            "lock file": [*(self.root / "locks").glob("*")],
        }
        if not any(left.values()):
            return {}
        try:
            with (self.root / IN_USE).open("a") as other:
                handle = _IN_USE.get(self.root, other)  # this process may use the store itself
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for path in (path for paths in left.values() for path in paths):
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        path.unlink()
                fcntl.flock(handle, fcntl.LOCK_SH)
        except OSError:  # in use, not ours to write, or without locks
            return {}
        return {kind: len(paths) for kind, paths in left.items()}

    def _use(self) -> None:
        """Keep the store from being swept until this process ends."""
        if self.root not in _IN_USE:
            with contextlib.suppress(OSError):  # without locks nobody sweeps either
                self.root.mkdir(parents=True, exist_ok=True)
                handle = (self.root / IN_USE).open("a")
                fcntl.flock(handle, fcntl.LOCK_SH)
                _IN_USE[self.root] = handle

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder, removed afterwards. Raises MachineError where the store went away meanwhile."""
        self._use()
        parent = self.root / "scratch"
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent))
        try:
            yield folder
        except Exception as error:
            if not self.root.is_dir():
                raise MachineError(f"{self.root} went away while it was in use.") from error
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def _lock(self, path: Path) -> Iterator[None]:
        self._use()
        lock = self.root / "locks" / f"{path.parent.name}-{path.stem}"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("w") as handle:
            # Released by the system if this process dies. Without locks (some network file systems) an artifact may be
            # made twice, to the same bits; the one that is renamed last stays.
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            try:
                yield
            finally:  # whoever waits for it sees the artifact, or makes it
                lock.unlink(missing_ok=True)


def write(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Write one artifact atomically. Raises OSError, as where the disk is full."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = json.dumps({**meta, "content": _content(contiguous, meta)}, sort_keys=True)
    try:
        _atomic(path, lambda temporary: save_file(contiguous, temporary, metadata={"json": text}))
    except SafetensorError as error:
        if (number := _RUST_ERRNO.search(str(error))) is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def read(path: Path) -> Artifact:
    """Memory-map one artifact. Raises MachineError if it is gone, DamagedArtifact if it is not what was written."""
    if not path.is_file():
        raise MachineError(f"{path} is gone: the store was emptied while it was in use.")
    artifact, content = _mapped(path)
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


def _mapped(path: Path) -> tuple[Artifact, str | None]:
    """(a file's arrays, mapped, and metadata; the digest that it carries), unchecked. Raises DamagedArtifact if it
    cannot be read at all."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > os.fstat(file.fileno()).st_size:
                raise ValueError("its header is cut short")
            header = json.loads(file.read(length))
        arrays = {}
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
                if math.prod(shape) * np.dtype(dtype).itemsize != end - begin or min(begin, *shape, 0) < 0:
                    raise ValueError(f"{name} takes other bytes than its shape and type tell")
                empty = begin == end  # nothing can be mapped over no bytes
                arrays[name] = (
                    np.zeros(shape, dtype)
                    if empty
                    else np.memmap(path, dtype=dtype, mode="r", offset=8 + length + begin, shape=shape)
                )
        meta = json.loads(header.get("__metadata__", {}).get("json", "{}"))
        content = meta.pop("content", None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DamagedArtifact(
            f"{path} is no readable artifact ({cut(str(error), 200)}). Delete the file; it will be made again."
        ) from None
    return Artifact(path, arrays, meta), content


def discard(path: Path, why: str) -> None:
    """Remove a damaged file, so that it is made again, and say so in the log."""
    LOG.warning("%s", why.replace("Delete the file; it will be made again.", "It is made again."))
    path.unlink(missing_ok=True)


def arrays_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Hex sha256 of the arrays' names and bytes: what a teacher's weights are known by."""
    content = hashlib.sha256()
    for name in sorted(arrays):
        content.update(name.encode())
        content.update(np.ascontiguousarray(arrays[name]).data.cast("B") if arrays[name].size else b"")
    return content.hexdigest()


def _content(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> str:
    """Hex sha256 of an artifact: its metadata, and names, types, shapes and bytes of its arrays."""
    content = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name in sorted(arrays):
        array = arrays[name]
        content.update(f"{name} {array.dtype.str} {array.shape}".encode())
        content.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return content.hexdigest()


def _atomic(path: Path, fill: Callable[[Path], Any]) -> None:
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
