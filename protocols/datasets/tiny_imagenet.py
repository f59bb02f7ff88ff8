"""Tiny-ImageNet, 64x64 RGB, 200 classes: 100,000 train and 10,000 validation images, which are the test split."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np

from bench.api import Dataset, ImageSource
from bench.errors import UserError
from bench.sources import FileList, FileSource, Policy, joined, list_files, read_lines
from protocols.datasets._files import Look, dataset, place
from protocols.datasets._trees import class_folders, subfolders

NAME = "tiny-imagenet"
CITATION = "Y. Le, X. Yang: Tiny ImageNet Visual Recognition Challenge. Stanford CS 231N, 2015."
POLICY = Policy(size=64)


def load(root: Path) -> Dataset:
    """The data set, as unpacked from tiny-imagenet-200.zip (`condensebench data` says where). Its own test images have
    no labels. Classes are in the order of their ids, as ImageFolder orders them.

    Args:
        root: cache folder, for digests and the decoded pixels (1.4 GB).
    """
    folder, _ = place(NAME)
    classes = tuple(sorted(" ".join(read_lines(folder / "wnids.txt")).split()))
    if not classes:
        raise UserError(f"The data set '{NAME}' has no classes: {folder / 'wnids.txt'} names none.")
    if len(set(classes)) < len(classes):
        raise UserError(f"The data set '{NAME}' has a class twice in {folder / 'wnids.txt'}.")

    @cache
    def trained() -> tuple[FileList, np.ndarray]:
        return class_folders(NAME, folder / "train", classes, "images")

    @cache
    def tested() -> tuple[FileList, np.ndarray]:
        return validation(folder / "val", classes)

    def train() -> ImageSource:
        return FileSource(*trained(), POLICY, root / "files", keep_pixels=True)

    def test() -> ImageSource:
        return FileSource(*tested(), POLICY, root / "files", keep_pixels=True)

    def files() -> FileList:
        return joined([trained()[0], tested()[0]])

    look = Look(classes, 3, 64, True, (0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262))
    return dataset(look, folder, train, test, files)


def validation(folder: Path, classes: tuple[str, ...]) -> tuple[FileList, np.ndarray]:
    """(files, labels) of val/: as published (images/ and val_annotations.txt), or sorted into folders by class."""
    annotations = folder / "val_annotations.txt"
    if not os.path.isfile(annotations):
        inside = "images" if os.path.isdir(folder / classes[0] / "images") else ""
        if classes[0] in subfolders(folder):
            return class_folders(NAME, folder, classes, inside)
        raise UserError(f"The data set '{NAME}' lacks {annotations}, which says the classes of the images beside it.")
    known = {each: label for label, each in enumerate(classes)}
    files, labels = [], []
    for number, line in enumerate(filter(None, read_lines(annotations)), start=1):
        file, _, rest = line.partition("\t")
        label = known.get(rest.partition("\t")[0])
        if label is None:
            raise UserError(f"{annotations}, line {number}: '{line}' names no class of wnids.txt.")
        if "/" in file:
            raise UserError(f"{annotations}, line {number}: '{file}' is no file beside it.")
        files.append(str(folder / "images" / file))
        labels.append(label)
    return list_files(files), np.array(labels, dtype=np.int64)
