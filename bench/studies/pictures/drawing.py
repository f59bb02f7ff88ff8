"""Contact sheets: rows of small images under column headings, as a PNG whose pixels can be trusted.

Images are enlarged by a whole number and nothing else is done to them: every pixel of a sheet is a pixel of the set.
Grey images give a grey file. The same sheet gives the same bytes under the same Pillow and matplotlib (its font).
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from bench.errors import UserError

CELL = 84  # pixels that an image may be enlarged to
GAP = 4
MARGIN = 10
TEXT = 12  # size of the letters
LINE = 16  # from one line of text to the next
MODES = {1: "L", 3: "RGB"}
INK, PAPER, PALE = 0, 255, 110  # levels of grey


@dataclass(frozen=True)
class Row:
    """Images beside their name.

    `label` may have several lines; `note` stands below it, paler. `images`: uint8 [n, channels, s, s].
    """

    label: str
    images: np.ndarray
    note: str = ""

    @property
    def lines(self) -> list[str]:
        """Lines of text, the note's included."""
        return [*self.label.splitlines(), *self.note.splitlines()]


@dataclass(frozen=True)
class Sheet:
    """What is drawn: a caption of some lines, headings of the columns (or none), and groups of rows with a title each.

    Raises:
        UserError: the images have neither one nor three channels.
    """

    caption: str
    columns: Sequence[str]
    groups: Mapping[str, Sequence[Row]]

    def __post_init__(self) -> None:
        if self.channels not in MODES:
            raise UserError(f"A picture shows images of 1 or 3 channels; these have {self.channels}.")

    @property
    def rows(self) -> list[Row]:
        """All rows, group by group."""
        return [row for rows in self.groups.values() for row in rows]

    @property
    def channels(self) -> int:
        """Of the images."""
        return int(self.rows[0].images.shape[1])

    @cached_property
    def scale(self) -> int:
        """How many pixels a pixel is enlarged to, in each direction."""
        return max(1, CELL // int(self.rows[0].images.shape[-1]))

    @cached_property
    def cell(self) -> int:
        """Side of an enlarged image."""
        return self.scale * int(self.rows[0].images.shape[-1])

    @cached_property
    def left(self) -> int:
        """Where the first column begins."""
        return MARGIN + max(_width(line) for row in self.rows for line in row.lines) + 2 * GAP

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """(x, y) of the upper left pixel of an image; rows are counted through all groups."""
        return self.left + column * (self.cell + GAP), self._tops[row]

    @cached_property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        columns = max(len(row.images) for row in self.rows)
        texts = [*self.caption.splitlines(), *self.groups]
        right = max(self.corner(0, columns)[0] - GAP, MARGIN + max(_width(line) for line in texts))
        return right + MARGIN, self._bottom + MARGIN

    @cached_property
    def titles(self) -> list[tuple[int, str]]:
        """(y, title) of each group."""
        return [(y, text) for y, text, _ in self._walk() if text]

    @cached_property
    def headings_top(self) -> int:
        """Where the headings of the columns begin."""
        return MARGIN + LINE * len(self.caption.splitlines()) + GAP

    @cached_property
    def _tops(self) -> list[int]:
        return [y for y, _, row in self._walk() if row is not None]

    @cached_property
    def _bottom(self) -> int:
        return self._tops[-1] + self._height(self.rows[-1])

    def _height(self, row: Row) -> int:
        return max(self.cell, LINE * len(row.lines))

    def _walk(self) -> Iterator[tuple[int, str, Row | None]]:
        """(y, title, None) of each title and (y, '', row) of each row, downwards."""
        y = self.headings_top + (LINE + GAP if self.columns else 0)
        for title, rows in self.groups.items():
            if title:
                yield y, title, None
                y += LINE + GAP
            for row in rows:
                yield y, "", row
                y += self._height(row) + GAP


def draw(sheet: Sheet) -> Image.Image:
    """The sheet as an image of mode L (grey images) or RGB."""
    mode = MODES[sheet.channels]
    image = Image.new(mode, sheet.size, _level(PAPER, mode))
    pen = ImageDraw.Draw(image)

    def write(x: int, y: int, text: str, level: int = INK) -> None:
        pen.text((x, y), text, fill=_level(level, mode), font=_font())

    for number, line in enumerate(sheet.caption.splitlines()):
        write(MARGIN, MARGIN + LINE * number, line, PALE if number else INK)
    for y, title in sheet.titles:
        write(MARGIN, y, title)
    for number, heading in enumerate(sheet.columns):
        write(sheet.corner(0, number)[0], sheet.headings_top, _fitted(heading, sheet.cell))
    for number, row in enumerate(sheet.rows):
        for column, pixels in enumerate(row.images):
            image.paste(_enlarged(pixels, sheet.scale), sheet.corner(number, column))
        _, y = sheet.corner(number, 0)
        for at, line in enumerate(row.lines):
            write(MARGIN, y + LINE * at, line, INK if at < len(row.label.splitlines()) else PALE)
    return image


def png(image: Image.Image, texts: Mapping[str, str]) -> bytes:
    """The image as a PNG file, with `texts` by keyword inside (Title, Description, ...)."""
    info = PngImagePlugin.PngInfo()
    for keyword, text in texts.items():
        info.add_itxt(keyword, text)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True, pnginfo=info)
    return file.getvalue()


def _enlarged(pixels: np.ndarray, scale: int) -> Image.Image:
    """uint8 [channels, s, s] with every pixel a square."""
    large = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    return Image.fromarray(np.ascontiguousarray(large[0] if len(large) == 1 else large.transpose(1, 2, 0)))


def _level(level: int, mode: str) -> int | tuple[int, int, int]:
    return level if mode == "L" else (level, level, level)


def _fitted(text: str, width: int) -> str:
    """The text, or as much of its beginning as fits beside three dots."""
    if _width(text) <= width:
        return text
    return next((part for end in range(len(text), 0, -1) if _width(part := f"{text[:end]}…") <= width), "")


def _width(text: str) -> int:
    return round(_font().getlength(text))


@lru_cache(maxsize=1)
def _font() -> ImageFont.FreeTypeFont:
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), TEXT, layout_engine=ImageFont.Layout.BASIC)
