"""Paths of many files in few bytes: their names one after the other, and a folder once for all of its neighbours.

A Python text takes 49 bytes before its first letter, and a list of a million paths repeats a few thousand folders.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np

SEPARATOR = b"/"  # of folders, and so in no name
PIECE = 10_000  # paths that stand in memory as texts at once


class Paths(Sequence[str]):
    """Paths in index order; none is changed, not even where it is no clean one.

    Args:
        paths: as they shall come back.
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        names, ends, runs = bytearray(), array("q"), array("q")
        self._folders: list[bytes] = []  # with the separator at their ends; neighbours differ
        for index, path in enumerate(paths):
            folder, cut, name = _bytes(path).rpartition(SEPARATOR)
            if not self._folders or self._folders[-1] != folder + cut:
                self._folders.append(folder + cut)
                runs.append(index)
            names += name + SEPARATOR
            ends.append(len(names))
        self._names, self._ends, self._runs = bytes(names), np.array(ends, np.int64), np.array(runs, np.int64)

    @classmethod
    def joined(cls, several: Sequence[Paths]) -> Paths:
        """One after the other."""
        whole = cls()
        none = np.zeros(0, np.int64)
        whole._folders = [folder for each in several for folder in each._folders]
        whole._names = b"".join(each._names for each in several)
        whole._ends = np.concatenate([none, *_moved([(each._ends, len(each._names)) for each in several])])
        whole._runs = np.concatenate([none, *_moved([(each._runs, len(each)) for each in several])])
        return whole

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Paths: ...
    def __getitem__(self, index: int | slice) -> str | Paths:
        if isinstance(index, slice):
            return Paths(map(self.__getitem__, range(*index.indices(len(self)))))
        at = range(len(self))[index]
        folder = self._folders[int(np.searchsorted(self._runs, at, side="right")) - 1]
        return _text(folder + self._names[self._start(at) : int(self._ends[at]) - 1])

    def __iter__(self) -> Iterator[str]:
        for folder, names in self.pieces():
            head = _text(folder)
            yield from (head + _text(name) for name in names.split(SEPARATOR))

    @property
    def folders(self) -> list[str]:
        """The folder of every run of neighbours, with the separator at its end."""
        return list(map(_text, self._folders))

    def pieces(self) -> Iterator[tuple[bytes, bytes]]:
        """(folder with its separator, names with separators between them) of up to `PIECE` neighbours, in order."""
        for folder, (first, last) in zip(self._folders, pairwise([*self._runs.tolist(), len(self)]), strict=True):
            for start in range(first, last, PIECE):
                stop = min(start + PIECE, last)
                yield folder, self._names[self._start(start) : int(self._ends[stop - 1]) - 1]

    def _start(self, index: int) -> int:
        """Where the name of this path begins."""
        return int(self._ends[index - 1]) if index else 0


def _moved(parts: Sequence[tuple[np.ndarray, int]]) -> Iterator[np.ndarray]:
    """Each array plus the lengths of those before it."""
    before = 0
    for values, length in parts:
        yield values + before
        before += length


def _bytes(path: str) -> bytes:
    return path.encode(errors="surrogateescape")


def _text(path: bytes) -> str:
    return path.decode(errors="surrogateescape")
