"""Sets of image files in a folder for each class, as a tree or an archive (SRe2L, RDED, D4M), and their class lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.errors import UserError
from bench.strangers import Member, archive_members, is_junk, regular, tree_members
from methods._published.published_set import Picture, PublishedSet, in_class_order, some

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def open_class_folders(root: Path, classes: int, listed: Path | None) -> PublishedSet:
    """A folder, a tar or a zip with a folder for each class, its images in the order of their names.

    The classes are the folders in sorted order, as torchvision's ImageFolder has them; folders that are all whole
    numbers are sorted as numbers. Or they are what the file `listed` says: a folder's name a line, class 0 first.

    Raises:
        UserError: the number of classes is another, a class has no folder or no image, a folder is in no class.
    """
    members = tree_members(root) if root.is_dir() else archive_members(root)
    folders = (
        {each.name for each in root.iterdir() if each.is_dir() and not is_junk(each.name)} if root.is_dir() else ()
    )
    images: dict[str, list[Member]] = {name: [] for name in folders}
    for member in members:
        top, _, rest = member.name.partition("/")
        if rest:
            images.setdefault(top, [])
            if Path(rest).suffix.lower() in IMAGES:
                images[top].append(member)
    names = class_names(list(images), classes, listed, str(root))
    empty = next((name for name in names if not images[name]), None)
    if empty is not None:
        raise UserError(f"{root}/{empty} (class {names.index(empty)}) holds no image ({', '.join(IMAGES)}).")
    pictures = [Picture(f"{root}/{each.name}", each.read) for name in names for each in images[name]]
    labels = np.repeat(np.arange(len(names)), [len(images[name]) for name in names])
    return in_class_order(pictures, labels, names)


def class_names(found: Sequence[str], classes: int, listed: Path | None, source: str) -> list[str]:
    """The names of the classes by number: sorted, or as a file lists them.

    Raises:
        UserError: their number is another than that of the data set, or the list does not fit them.
    """
    if listed is None:
        numbered = bool(found) and all(name.isdecimal() for name in found)
        names = sorted(found, key=(lambda name: (int(name), name)) if numbered else None)
    else:
        names = _listed(listed, found, source)
    if len(names) != classes:
        raise UserError(
            f"{listed or source} has {len(names)} classes ({some(names)}); the data set has {classes}. "
            f"Every class needs a folder, and the folder's parent is what `path` names."
        )
    return names


def _listed(listed: Path, found: Sequence[str], source: str) -> list[str]:
    try:
        text = regular(listed).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"classes={listed} cannot be read: {error}") from None
    names = [line.strip() for line in text.splitlines() if line.strip()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"classes={listed} names {some(twice)} twice.")
    absent = [name for name in names if name not in found]
    if absent:
        raise UserError(f"classes={listed} names {some(absent)}, but {source} has no such folder.")
    spare = sorted(set(found) - set(names))
    if spare:
        raise UserError(f"{source} has folders that classes={listed} does not name: {some(spare)}.")
    return names
