"""Image files in folders by class: ILSVRC's tree and all that are like it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bench.api import Dataset, ImageSource
from bench.errors import UserError
from bench.sources import FileSource, Policy
from protocols.datasets._files import Look, dataset

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
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

    def source(split: str) -> ImageSource:
        return FileSource(*class_folders(name, folder / split, list(classes)), policy, root / "files")

    def files() -> Sequence[str]:
        return [file for split in ("train", test) for file in class_folders(name, folder / split, list(classes))[0]]

    look = Look(tuple(classes.values()), 3, size, True, IMAGENET_MEAN, IMAGENET_STD)
    return dataset(look, folder, partial(source, "train"), partial(source, test), files)


def class_folders(name: str, split: Path, classes: Sequence[str], inside: str = "") -> tuple[list[str], np.ndarray]:
    """(files, labels int64) of a folder with a folder for each class, classes in order, files by name.

    Hidden files are none of a data set's. Raises UserError where a class has no images.
    """
    files, labels = [], []
    for label, each in enumerate(classes):
        folder = split / each / inside
        images = image_files(folder)
        if not images:
            raise UserError(f"The data set '{name}' lacks images of the class {each}: {folder} has none.")
        files += images
        labels += [label] * len(images)
    return files, np.array(labels, dtype=np.int64)


def image_files(folder: Path) -> list[str]:
    """The image files of a folder by name; none where there is no such folder."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [
        os.path.join(folder, name) for name in names if not name.startswith(".") and name.lower().endswith(SUFFIXES)
    ]


def subfolders(folder: Path) -> list[str]:
    """The names of the folders in a folder, sorted, without hidden ones."""
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
