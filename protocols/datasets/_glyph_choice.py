"""Which characters are classes of `glyphs`: `python -m protocols.datasets._glyph_choice` prints the list that
_glyph_classes.py holds.

A character is a class when at least `MIN_FACES` of the faces have it and its shape is not the shape of a character that
stands before it in the order of `candidates`. Two characters share a shape when their drawings, brought to the same
box (long side `BOX` pixels, aspect kept, centred, slightly blurred, so that neither size nor position nor one pixel of
stroke counts), have a cosine similarity of at least `SAME` in any face that has both. Upper and lower case of one
letter are held to the stricter `SAME_CASE`: C and c differ in relative stroke weight only, which the stroke nuisance
hides. A character is compared with every one before it, kept or not: Cyrillic с falls with Latin c.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image, ImageFilter

from protocols.datasets._glyph_drawing import FACES, characters_of, load_face

MIN_FACES = 6  # of 16
SAME = 0.96
SAME_CASE = 0.90
BOX, SIDE = 40, 48  # pixels
FONT_SIZE = 96  # pixels

# Letters, numbers and symbols. Marks, dashes, quotes, spaces and dots are known by size and place, which vary here.
_CATEGORIES = {"Lu", "Ll", "Lo", "Nd", "No", "Nl", "Sm", "So", "Sc"}
_BLOCKS: tuple[str | tuple[int, int], ...] = (
    "0123456789",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "abcdefghijklmnopqrstuvwxyz",
    (0x0391, 0x03AA),  # Greek
    (0x03B1, 0x03CA),
    (0x0410, 0x0450),  # Cyrillic
    "&@#$%?!+=~*{[/<",
    (0x0402, 0x0530),  # Cyrillic, other languages
    (0x0531, 0x0588),  # Armenian
    (0x10A0, 0x1100),  # Georgian
    (0x0250, 0x02B0),  # phonetic
    (0x00A1, 0x0250),  # Latin, other languages
    (0x0370, 0x0400),  # Greek, rest
    (0x2100, 0x2150),  # letterlike
    (0x2190, 0x2200),  # arrows
    (0x2200, 0x2300),  # mathematical operators
    (0x25A0, 0x2700),  # geometric and miscellaneous symbols
    (0x1E00, 0x2000),  # Latin and Greek with several accents
)


def candidates() -> Iterator[str]:
    """Characters in the order in which they become classes: plain ones first, accented ones last."""
    seen: set[str] = set()
    for accented in (False, True):
        for block in _BLOCKS:
            named = isinstance(block, str)  # chosen one by one
            for character in block if isinstance(block, str) else map(chr, range(*block)):
                is_accented = len(unicodedata.normalize("NFD", character)) > 1
                suits = named or unicodedata.category(character) in _CATEGORIES
                if suits and is_accented == accented and character not in seen:
                    seen.add(character)
                    yield character


def choose(limit: int) -> str:
    """The first `limit` classes, in order."""
    fonts = {face: load_face(face, FONT_SIZE) for face in FACES}
    supported = {face: characters_of(face) for face in FACES}
    order = list(candidates())
    position = {character: row for row, character in enumerate(order)}
    # A row per candidate, zero until it was drawn: a zero row resembles nothing.
    drawn = {face: np.zeros((len(order), SIDE * SIDE), dtype=np.float32) for face in FACES}
    chosen: list[str] = []
    for row, character in enumerate(order):
        faces = [face for face in FACES if ord(character) in supported[face]]
        if len(faces) < MIN_FACES:
            continue
        bar = np.full(row, SAME, dtype=np.float32)
        bar[[position[c] for c in _other_cases(character) if position.get(c, row) < row]] = SAME_CASE
        fresh = True
        for face in faces:
            shape = normal_shape(fonts[face].getmask(character, mode="L"))
            if shape is None:
                fresh = False
                continue
            fresh &= not bool((drawn[face][:row] @ shape >= bar).any())
            drawn[face][row] = shape
        if fresh:
            chosen.append(character)
            if len(chosen) == limit:
                break
    return "".join(chosen)


def normal_shape(mask: Image.core.ImagingCore) -> np.ndarray | None:
    """A drawing brought to the common box, as a unit vector float32 [SIDE * SIDE]; None for an empty one."""
    image = Image.frombytes("L", mask.size, bytes(mask)) if 0 not in mask.size else Image.new("L", (1, 1))
    box = image.getbbox()
    if box is None:
        return None
    image = image.crop(box)
    scale = BOX / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    canvas = Image.new("L", (SIDE, SIDE))
    canvas.paste(image.resize((width, height), Image.Resampling.BOX), ((SIDE - width) // 2, (SIDE - height) // 2))
    vector = np.asarray(canvas.filter(ImageFilter.GaussianBlur(1)), dtype=np.float32).reshape(-1)
    return vector / np.linalg.norm(vector)


def _other_cases(character: str) -> list[str]:
    return [other for other in {character.upper(), character.lower()} if other != character]


def _lines(text: str, width: int) -> Iterable[str]:
    return (text[start : start + width] for start in range(0, len(text), width))


if __name__ == "__main__":
    for line in _lines(choose(1000), 50):
        print(f"    {line!r}")
