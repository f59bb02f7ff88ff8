"""Content-addressed artifacts on disk, made once under a lock and memory-mapped on reading.

The address of an artifact is the digest of everything that it was made from; what is found at an address is therefore
what would be computed again. Files are written beside their place and renamed into it, under a lock, so that two tasks
that need the same artifact make it once and a crash leaves no half of one. bench/artifacts/artifact_file.py has the
format of a file.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from bench import machine
from bench.artifacts.artifact_file import (
    LOG,
    UNFINISHED,
    Artifact,
    Blocks,
    DamagedArtifact,
    arrays_digest,
    atomic,
    blocks_of_rows,
    discard,
    mapped,
    read,
    size_of,
    write,
)
from bench.artifacts.size_limits import refuse_if_too_large
from bench.errors import MachineError, UserError
from bench.fingerprint import digest

__all__ = [
    "LOG", "Artifact", "Blocks", "DamagedArtifact", "Store", "alone", "arrays_digest", "blocks_of_rows", "discard",
    "read", "write",
]  # fmt: skip

IN_USE = ".in-use"  # the file that every process which works in a store holds a shared lock on
_IN_USE: dict[Path, IO[str]] = {}  # of this process, by the store's root


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
                    inputs = mapped(path)[0].meta.get("inputs")
                except DamagedArtifact:
                    continue
                if isinstance(inputs, dict):
                    yield path, inputs

    def get(
        self,
        kind: str,
        inputs: Mapping[str, Any],
        make: Callable[[], tuple[Mapping[str, np.ndarray | Blocks], Mapping[str, Any]]],
    ) -> Artifact:
        """The artifact made from `inputs`, made now by `make() -> (arrays, metadata)` if it is not there yet. Arrays
        may be `Blocks`; then `metadata` is read after the last one.

        Raises:
            MachineError: it would exceed the store's limit, or fill its disk.
        """
        path = self.path(kind, inputs)
        artifact = self.find(kind, inputs)
        if artifact is None:
            with self._lock(path):
                artifact = self.find(kind, inputs)
                if artifact is None:
                    arrays, meta = make()
                    refuse_if_too_large(self.root, size_of(arrays), f"An artifact of kind {kind}")
                    write(path, arrays, ChainMap[str, Any]({"inputs": inputs}, cast(dict[str, Any], meta)))
        return artifact or read(path)

    def adopt(self, relative: str, content: bytes) -> None:
        """Put an artifact that was made elsewhere (another node) where it belongs."""
        path = self.root / relative
        if not path.is_file():
            self._use()
            refuse_if_too_large(self.root, len(content), f"{relative}, made on another machine,")
            atomic(path, lambda temporary: temporary.write_bytes(content))

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
            with alone(self.root):
                for path in (path for paths in left.values() for path in paths):
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        path.unlink()
        except (OSError, UserError):  # in use, not ours to write, or without locks
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


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """Work in a store while no other process does. Raises UserError where one does, OSError without locks."""
    with (root / IN_USE).open("a") as other:
        handle = _IN_USE.get(root, other)  # this process may use the store itself
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{root} is in use by another process. Type the same command when it has ended.") from None
        try:
            yield
        finally:
            fcntl.flock(handle, fcntl.LOCK_SH)
