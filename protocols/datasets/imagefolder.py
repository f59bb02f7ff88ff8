"""Any photographs in folders: DIR/NAME/train/CLASS/ and DIR/NAME/val/CLASS/ or test/CLASS/ (`imagefolder:of=NAME`)."""

from __future__ import annotations

import os
from pathlib import Path

from bench.api import Dataset
from bench.errors import UserError
from bench.places import Layout, find
from bench.sources import read_lines
from protocols.datasets._trees import photographs, subfolders

CITATION = "Whoever made the photographs."


def load(root: Path, *, of: str = "", classes: str = "classes.txt", size: int = 224, resize: int = 256) -> Dataset:
    """The data set in the folder `of`, in one of the folders that --data names.

    Args:
        root: cache folder, for digests.
        of: the folder's name.
        classes: a file in that folder that lists the folders of the classes, one a line, in the order of their labels;
            after a tab a class may have another name. Without that file they are all folders of train/, by name.
        size: pixels of the images.
        resize: pixels of the shorter side before the centre is cut out.

    Raises:
        UserError: there is no such folder, or a class is listed twice or has no images.
    """
    if not of or "/" in of or of.startswith("."):
        raise UserError(
            f"imagefolder: of={of!r} is no name of a folder. Type imagefolder:of=NAME for the folder NAME in the one "
            "that --data or $CONDENSEBENCH_DATA names."
        )
    layouts = [Layout(("train", split)) for split in ("test", "val")]
    folder, layout = find(of, layouts, shown=f"imagefolder:of={of}")
    test = layout.needed[1]
    if test == "test" and not subfolders(folder / "test") and os.path.isdir(folder / "val"):
        test = "val"  # as in ImageNet, whose test images have no classes
    listed = folder / classes
    if os.path.isfile(listed):
        named = read_list(listed)
    elif classes != "classes.txt":
        raise UserError(f"imagefolder:of={of}: classes={classes} is no file in {folder}.")
    else:
        named = {name: name for name in subfolders(folder / "train")}
    if len(named) < 2:
        raise UserError(f"imagefolder:of={of}: {folder / 'train'} has {len(named)} classes, and two are the least.")
    return photographs(f"imagefolder:of={of}", root, folder, named, size=size, resize=resize, test=test)


def read_list(file: Path) -> dict[str, str]:
    """Folder -> name of the classes that a file lists. Raises UserError where one stands there twice, or
    the file is none of text."""
    named: dict[str, str] = {}
    for number, line in enumerate(read_lines(file), start=1):
        folder, _, name = line.strip().partition("\t")
        if not folder:
            continue
        if "/" in folder or folder in (".", ".."):
            raise UserError(f"{file}, line {number}: {folder!r} is no name of a folder.")
        if folder in named or (name or folder) in named.values():
            raise UserError(f"{file}, line {number}: two classes are named '{name or folder}'.")
        named[folder] = name or folder
    return named
