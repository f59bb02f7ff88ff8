"""The page of the pictures: contact sheets of condensed sets, each set bound to the records that it was scored in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from bench.errors import UserError
from bench.texts import visible
from bench.website.material import Material
from bench.website.tables import board_tables, row_key

_SET = re.compile(r"^(\S+) ([0-9a-f]{64})$", re.MULTILINE)  # a line that `picture` writes into its file
SHOWN_LINKS = 6


@dataclass(frozen=True)
class PicturedSet:
    """A condensed set of a picture."""

    method: str
    digest: str  # hex sha256, as records tell it
    links: tuple[tuple[str, str], ...]  # (title, address) of rows whose students were trained on this very set
    more: int  # rows that are not linked


@dataclass(frozen=True)
class Pictured:
    """A picture file with what it tells of itself."""

    file: Path
    name: str  # of the copy, below pictures/
    title: str
    size: tuple[int, int]  # pixels
    sets: tuple[PicturedSet, ...]

    @property
    def alt(self) -> str:
        """The picture in words, for whoever does not see it."""
        names = ", ".join(each.method for each in self.sets)
        return f"{self.title}; rows: {names}" if names else self.title


def pictures(folders: Sequence[str | Path], material: Material) -> list[Pictured]:
    """The PNG files of folders that the verb `picture` wrote, in order of their names.

    Raises:
        UserError: a folder has none, or a file cannot be read.
    """
    rows = _rows_by_set(material)
    pictured: list[Pictured] = []
    for folder in map(Path, folders):
        files = sorted(folder.glob("*.png"))
        if not files:
            raise UserError(
                f"--pictures {folder}: there is no PNG file. "
                f"Make some with: condensebench picture --plan PLAN --out {folder}"
            )
        pictured += [_pictured(file, f"{number:03}-{len(pictured)}.png", rows) for number, file in enumerate(files)]
    return pictured


def _pictured(file: Path, name: str, rows: Mapping[str, list[tuple[str, str]]]) -> Pictured:
    try:
        with Image.open(file, formats=("PNG",)) as image:
            size, texts = image.size, {str(key): str(value) for key, value in image.info.items()}
    except OSError as error:
        raise UserError(f"--pictures: {file} is no PNG file that can be read ({error}).") from None
    sets = []
    for method, digest in _SET.findall(texts.get("Description", "")):
        links = rows.get(digest, [])
        sets.append(PicturedSet(visible(method), digest, tuple(links[:SHOWN_LINKS]), max(0, len(links) - SHOWN_LINKS)))
    title = visible(" ".join(texts.get("Title", file.stem).splitlines()))
    return Pictured(file, name, title, size, tuple(sets))


def _rows_by_set(material: Material) -> dict[str, list[tuple[str, str]]]:
    """Digest of a condensed set -> (title, address) of the rows that were trained on it."""
    rows: dict[str, dict[tuple[str, str], None]] = {}
    for table in board_tables(material.rows):
        for row in table.rows:
            for record in row.standing.entry.records:
                if record.condensed is not None:
                    stored = " ".join(filter(None, (row.values["compressor"], row.values["budget"])))
                    title = f"{row.values['protocol']} {row.values['student']} {stored}".strip()
                    link = (visible(title), f"index.html#table={table.key}&row={row_key(row)}")
                    rows.setdefault(record.condensed.digest, {})[link] = None
    return {digest: list(links) for digest, links in rows.items()}
