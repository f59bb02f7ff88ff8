"""What the data sets on disk share: the folder that a set lies in, and splits that are read once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from bench.api import Dataset, ImageSource
from bench.errors import UserError
from bench.places import Layout, find
from bench.sources import ArraySource, listing
from protocols.datasets._published import SETS

Reader = Callable[..., tuple[np.ndarray, np.ndarray]]  # (images uint8 [N, c, s, s], labels [N]) of files


@dataclass(frozen=True)
class Look:
    """What a set's images are like: all that `Dataset` fixes besides its content."""

    class_names: tuple[str, ...]
    channels: int
    size: int
    mirror: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]


def place(name: str) -> tuple[Path, Layout]:
    """The folder of one of the field's data sets and how it is laid out there. Raises UserError."""
    return find(name, SETS[name].layouts)


def dataset(
    look: Look,
    folder: Path,
    train: Callable[[], ImageSource],
    test: Callable[[], ImageSource],
    files: Callable[[], Sequence[str | Path]],
) -> Dataset:
    """A `Dataset` whose sources have the size of its images."""
    return Dataset(
        num_classes=len(look.class_names),
        channels=look.channels,
        size=look.size,
        source_size=look.size,
        mirror=look.mirror,
        mean=look.mean,
        std=look.std,
        train=train,
        test=test,
        class_names=look.class_names,
        folder=folder,
        files=files,
    )


def array_dataset(look: Look, folder: Path, read: Reader, train: Sequence[Path], test: Sequence[Path]) -> Dataset:
    """A data set whose splits fit into memory, each read from its files when it is asked for, once."""

    def source(files: Sequence[Path]) -> ArraySource:
        return _read_once(read, tuple(files), listing(files))

    return dataset(look, folder, lambda: source(train), lambda: source(test), lambda: (*train, *test))


@lru_cache(maxsize=4)  # `state` is part of the key: exchanged files are read anew
def _read_once(read: Reader, files: tuple[Path, ...], state: str) -> ArraySource:
    try:
        return ArraySource(*read(*files))
    except OSError as error:
        raise UserError(f"{files[0]}: {error.strerror or error}") from None
