"""Where the files of data sets lie on this machine. That is no part of a data set's identity, nor of any seed.

`--data DIR` and $CONDENSEBENCH_DATA name one folder, or several joined as in $PATH; without them it is `data` in the
current folder. What the system's packages installed is looked at last.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError

VARIABLE = "CONDENSEBENCH_DATA"
DEFAULT = Path("data")
INSTALLED = (Path("/usr/share/datasets"),)  # where Debian's packages `dataset-...` put theirs


class NotHere(UserError):
    """A data set's files are in none of the folders."""


@dataclass(frozen=True)
class Layout:
    """One way in which a data set is published.

    Args:
        needed: files or folders, relative to the data set's folder, by which it is known.
        folders: names that the folder has, as unpacked; the data set's own name always counts.
    """

    needed: tuple[str, ...]
    folders: tuple[str, ...] = ()


def expanded(text: str | Path) -> Path:
    """A path that somebody typed, with `~` at its beginning replaced; that of nobody's home is left as it is.

    `Path.expanduser` raises RuntimeError there.
    """
    return Path(os.path.expanduser(text))


def absolute_path(text: str | Path) -> Path:
    """A path that somebody typed, absolute and without links; a link that leads to itself is left as it is.

    `Path.resolve` raises RuntimeError there.
    """
    return Path(os.path.realpath(expanded(text)))


def place_data(folders: str) -> None:
    """Make `--data` known to this process and to all that it starts. Raises UserError where there is no such folder."""
    absolute = [absolute_path(each) for each in folders.split(os.pathsep)]
    for folder in absolute:
        if not os.path.isdir(folder):
            raise UserError(f"--data {folders}: {folder} is no folder.")
    os.environ[VARIABLE] = os.pathsep.join(map(str, absolute))


def known() -> str:
    """The folders as worker processes are told of them, wherever they run; empty where there are none."""
    return os.pathsep.join(str(absolute_path(folder)) for folder in data_folders() if os.path.isdir(folder))


def data_folders() -> list[Path]:
    """The folders to look in, in order."""
    given = os.environ.get(VARIABLE, "")
    return [expanded(each) for each in given.split(os.pathsep) if each] or [DEFAULT]


def find(name: str, layouts: Sequence[Layout], *, shown: str = "") -> tuple[Path, Layout]:
    """The folder of a data set and the layout it has. Raises NotHere, which says what was looked for, and where.

    Args:
        name: of the folder, the data set's own name.
        layouts: in any of which it may be.
        shown: the data set as a message names it, where that is not `name` and it cannot be downloaded.
    """
    foreign = ""
    for folder, layout in candidates(name, layouts):
        missing = [each for each in layout.needed if not os.path.exists(folder / each)]
        if not missing:
            return folder, layout
        if "/" in missing[0] and os.path.isdir((folder / missing[0]).parent) and not foreign:
            foreign = f" {(folder / missing[0]).parent} lacks {Path(missing[0]).name}, so it is another set's."
    places = ", ".join(str(folder) for folder in data_folders())
    wanted = " or ".join(
        layout.needed[0] + (f" and {len(layout.needed) - 1} more" if layout.needed[1:] else "") for layout in layouts
    )
    names = " or ".join(dict.fromkeys(each for layout in layouts for each in (name, *layout.folders)))
    download = "" if shown else f", or: condensebench data get {name}"
    raise NotHere(
        f"The data set '{shown or name}' was not found: looked in {places} for a folder {names} with {wanted}."
        f"{foreign}\nType --data DIR where it lies elsewhere{download}"
    )


def candidates(name: str, layouts: Sequence[Layout]) -> Iterator[tuple[Path, Layout]]:
    """(folder, layout) in the order in which they are tried: the folder DIR/NAME, the published names in DIR or in
    DIR/NAME, then DIR itself."""
    for root in (*data_folders(), *INSTALLED):
        for layout in layouts:
            for folder in (root / name, *(base / each for each in layout.folders for base in (root, root / name))):
                yield folder, layout
        if root not in INSTALLED:
            for layout in layouts:
                yield root, layout
