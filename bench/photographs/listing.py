"""Lists of image files with their sizes and times: what is looked at whenever a data set is opened.

A folder is read by one `os.scandir`, so that a million files take seconds.
"""

from __future__ import annotations

import hashlib
import os
import stat
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np

from bench.errors import UserError
from bench.photographs.paths import SEPARATOR, Paths

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's


class FileList(Sequence[str]):
    """Paths, with the size and the time of each file as they were when the list was made.

    Args:
        paths: of the files, in index order.
        sizes: bytes, int64 [N].
        times: of the last change, nanoseconds, int64 [N].
    """

    def __init__(self, paths: Iterable[str], sizes: np.ndarray, times: np.ndarray) -> None:
        self._paths = paths if isinstance(paths, Paths) else Paths(paths)
        self.sizes, self.times = sizes, times

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> FileList: ...
    def __getitem__(self, index: int | slice) -> str | FileList:
        if isinstance(index, slice):
            return FileList(self._paths[index], self.sizes[index], self.times[index])
        return self._paths[index]

    def __len__(self) -> int:
        return len(self._paths)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    @property
    def paths(self) -> list[str]:
        """All of them as texts, which take 100 bytes each and more."""
        return list(self._paths)

    @property
    def total_bytes(self) -> int:
        """Of all files."""
        return int(self.sizes.sum())

    @cached_property
    def digest(self) -> str:
        """Hex sha256 of paths, sizes and times: cheap, and it changes when a file is exchanged."""
        folders = dict.fromkeys(map(os.path.dirname, self._paths.folders))
        content = hashlib.sha256("\0".join(map(os.path.abspath, folders)).encode(errors="surrogateescape"))
        between = b""
        for folder, names in self._paths.pieces():
            content.update(between + folder + names.replace(SEPARATOR, b"\0" + folder))
            between = b"\0"
        for values in (self.sizes, self.times):
            content.update(np.ascontiguousarray(values, "<i8").data)
        return content.hexdigest()

    def keys(self) -> np.ndarray:
        """16 bytes for each file, uint8 [N, 16]: of its path, size and time."""
        content, at = bytearray(), 0
        for folder, names in self._paths.pieces():
            head = os.path.abspath(os.path.dirname(folder))
            within = names.split(SEPARATOR)
            part = slice(at, at := at + len(within))
            for name, size, time in zip(within, self.sizes[part].tolist(), self.times[part].tolist(), strict=True):
                content += hashlib.blake2b(b"%b\0%b\0%d\0%d" % (head, name, size, time), digest_size=16).digest()
        return np.frombuffer(content, np.uint8).reshape(-1, 16)


def joined(lists: Iterable[FileList]) -> FileList:
    """One list after the other."""
    several = list(lists)
    none = np.zeros(0, np.int64)
    return FileList(
        Paths.joined([each._paths for each in several]),
        np.concatenate([none, *(each.sizes for each in several)]),
        np.concatenate([none, *(each.times for each in several)]),
    )


def list_files(files: Iterable[str | Path]) -> FileList:
    """The list of given files. Raises UserError where one is none."""
    paths, states = list[str](), array("q")
    for file in files:
        paths.append(os.fspath(file))
        states.extend(_state(file))
    return _listed(paths, states)


def list_folder(folder: str | Path) -> FileList:
    """The image files of a folder (`SUFFIXES`) by name, without hidden ones; none where there is no such folder.

    Raises:
        UserError: what has the name of an image is no file.
    """
    paths, states = list[str](), array("q")
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                    paths.append(entry.path)
                    states.extend(_state(entry))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:  # no right to look, a name that no file system takes
        raise UserError(f"{os.fspath(folder)!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    order = sorted(range(len(paths)), key=paths.__getitem__)
    return _listed(paths, states, np.array(order, np.int64))


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


def _listed(paths: list[str], states: array[int], order: np.ndarray | None = None) -> FileList:
    """The list of files; `states`: (bytes, time) one after the other; `order` (int64 [N]): that of the list."""
    values = np.array(states, np.int64).reshape(-1, 2)
    if order is not None:
        paths, values = [paths[index] for index in order], values[order]
    return FileList(paths, values[:, 0].copy(), values[:, 1].copy())
