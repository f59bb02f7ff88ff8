"""Image files in folders by class: ILSVRC's tree and all that are like it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from bench.api import Dataset, ImageSource
from bench.errors import UserError
from bench.sources import FileList, FileSource, Policy, joined, list_folder
from protocols.datasets._files import Look, dataset

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def photographs(
    name: str, root: Path, folder: Path, classes: Mapping[str, str], *, size: int, resize: int, test: str = "val"
) -> Dataset:
    """A data set of photographs: train/CLASS/ and val/CLASS/, resized and cut as evaluation in the field does it.

    Args:
        name: of the data set.
        root: the harness's folder for caches.
        folder: where train/ and val/ lie.
        classes: folder of a class -> its name, in the order of the labels.
        size: pixels of the images.
        resize: pixels of the shorter side before the centre is cut out.
        test: the folder of the test split.
    """
    if not 0 < size <= resize:
        raise UserError(f"{name}: size={size},resize={resize}; allowed: 0 < size <= resize.")
    policy = Policy(size=size, resize=resize)

    @cache  # a folder of a million files is listed once each time the data set is opened
    def listed(split: str) -> tuple[FileList, np.ndarray]:
        return class_folders(name, folder / split, list(classes))

    def source(split: str) -> ImageSource:
        return FileSource(*listed(split), policy, root / "files")

    def files() -> FileList:
        return joined(listed(split)[0] for split in ("train", test))

    look = Look(tuple(classes.values()), 3, size, True, IMAGENET_MEAN, IMAGENET_STD)
    return dataset(look, folder, partial(source, "train"), partial(source, test), files)


def class_folders(name: str, split: Path, classes: Sequence[str], inside: str = "") -> tuple[FileList, np.ndarray]:
    """(files, labels int64) of a folder with a folder for each class, classes in order, files by name.

    Hidden files are none of a data set's. Raises UserError where a class has no images.
    """
    lists = []
    for each in classes:
        folder = split / each / inside
        lists.append(list_folder(folder))
        if not lists[-1]:
            raise UserError(f"The data set '{name}' lacks images of the class {each}: {folder} has none.")
    return joined(lists), np.repeat(np.arange(len(lists)), [len(each) for each in lists])


def subfolders(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted, without hidden ones."""
    try:
        with os.scandir(folder) as entries:
            return sorted(each.name for each in entries if not each.name.startswith(".") and os.path.isdir(each))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:  # no right to look, a name that no file system takes
        raise UserError(f"{os.fspath(folder)!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
