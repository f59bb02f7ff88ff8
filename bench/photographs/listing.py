"""Lists of image files with their sizes and times: what is looked at whenever a data set is opened.

A folder is read by one `os.scandir`, so that a million files take seconds.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np

from bench.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's


class FileList(Sequence[str]):
    """Paths, with the size and the time of each file as they were when the list was made.

    Args:
        paths: of the files, in index order.
        sizes: bytes, int64 [N].
        times: of the last change, nanoseconds, int64 [N].
    """

    def __init__(self, paths: list[str], sizes: np.ndarray, times: np.ndarray) -> None:
        self.paths, self.sizes, self.times = paths, sizes, times

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> FileList: ...
    def __getitem__(self, index: int | slice) -> str | FileList:
        if isinstance(index, slice):
            return FileList(self.paths[index], self.sizes[index], self.times[index])
        return self.paths[index]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def total_bytes(self) -> int:
        """Of all files."""
        return int(self.sizes.sum())

    @cached_property
    def digest(self) -> str:
        """Hex sha256 of paths, sizes and times: cheap, and it changes when a file is exchanged."""
        content = hashlib.sha256("\0".join(map(os.path.abspath, self._folders())).encode(errors="surrogateescape"))
        content.update("\0".join(self.paths).encode(errors="surrogateescape"))
        content.update(self.sizes.astype("<i8").tobytes() + self.times.astype("<i8").tobytes())
        return content.hexdigest()

    def keys(self) -> np.ndarray:
        """16 bytes for each file, uint8 [N, 16]: of its path, size and time."""
        content = bytearray()
        folders = {folder: os.path.abspath(folder) for folder in self._folders()}
        for path, size, time in zip(self.paths, self.sizes.tolist(), self.times.tolist(), strict=True):
            folder, name = os.path.split(path)
            text = f"{folders[folder]}\0{name}\0{size}\0{time}"
            content += hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=16).digest()
        return np.frombuffer(bytes(content), np.uint8).reshape(-1, 16)

    def _folders(self) -> list[str]:
        return list(dict.fromkeys(map(os.path.dirname, self.paths)))


def joined(lists: Iterable[FileList]) -> FileList:
    """One list after the other."""
    several = list(lists)
    none = np.zeros(0, np.int64)
    return FileList(
        [path for each in several for path in each.paths],
        np.concatenate([none, *(each.sizes for each in several)]),
        np.concatenate([none, *(each.times for each in several)]),
    )


def list_files(files: Iterable[str | Path]) -> FileList:
    """The list of given files. Raises UserError where one is none."""
    return _listed([(os.fspath(file), _state(file)) for file in files])


def list_folder(folder: str | Path) -> FileList:
    """The image files of a folder (`SUFFIXES`) by name, without hidden ones; none where there is no such folder.

    Raises:
        UserError: what has the name of an image is no file.
    """
    states = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                    states.append((entry.path, _state(entry)))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # no right to look, a name that no file system takes
        raise UserError(f"{os.fspath(folder)!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return _listed(sorted(states))


def _state(file: str | Path | os.DirEntry[str]) -> tuple[int, int]:
    """(bytes, time of the last change in nanoseconds)."""
    try:
        state = file.stat() if isinstance(file, os.DirEntry) else os.stat(file)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        name = os.fspath(file)
        raise UserError(f"{name!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(state.st_mode):
        raise UserError(f"{os.fspath(file)} cannot be read: it has the name of an image and is no file.")
    return state.st_size, state.st_mtime_ns


def _listed(states: list[tuple[str, tuple[int, int]]]) -> FileList:
    values = np.array([state for _, state in states], dtype=np.int64).reshape(-1, 2)
    return FileList([path for path, _ in states], values[:, 0].copy(), values[:, 1].copy())
