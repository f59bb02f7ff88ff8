"""A reader under test: how its inputs are made, and how it reads one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzz.changes import Files, placed


@dataclass(frozen=True)
class Reader:
    """What reads inputs of one kind.

    Args:
        make: an input from a generator; the same generator gives the same input.
        read: reads an input. Raises UserError where it refuses it.
        share: of the inputs, where other readers have 1: less for one that takes long.
    """

    make: Callable[[Random], Files]
    read: Callable[[Files], None]
    share: float = 1.0


def of_bytes(make: Callable[[Random], bytes], read: Callable[[bytes], object]) -> Reader:
    """A reader of one string of bytes, which lies in no file."""

    def unpacked(files: Files) -> None:
        read(files["input"])

    return Reader(lambda random: {"input": make(random)}, unpacked)


def of_file(name: str, make: Callable[[Random], bytes], read: Callable[[Path], object]) -> Reader:
    """A reader of one file with a name of its own."""

    def written(files: Files) -> None:
        path = folder() / name
        path.unlink(missing_ok=True)
        path.write_bytes(files[name])
        read(path)

    return Reader(lambda random: {name: make(random)}, written)


def of_tree(make: Callable[[Random], Files], read: Callable[[Path], object]) -> Reader:
    """A reader of a folder, which is empty but for the input."""

    def laid_out(files: Files) -> None:
        root = folder() / "tree"
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        placed(files, root)
        read(root)

    return Reader(make, laid_out)


_folder: Path | None = None


def place(path: Path) -> None:
    """Say in which folder inputs are laid out from now on."""
    global _folder
    _folder = path


def folder() -> Path:
    """Where inputs are laid out."""
    assert _folder is not None
    return _folder
