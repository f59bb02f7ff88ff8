"""Draws one image of `glyphs` from (seed, character, index) alone.

Only whole-number draws, additions, products and Pillow's own resampling touch the pixels: no transcendental function of
an array, whose last bit differs between machines.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bench.seeds import numpy_generator

SIDE = 64  # pixels
MARGIN = 2  # pixels that stay free of ink on every side
FACES = tuple(
    [f"DejaVu{family}{style}" for family in ("Sans", "SansMono") for style in ("", "-Bold", "-Oblique", "-BoldOblique")]
    + [f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")]
    + [f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")]
)

# Strengths of the nuisances: 10 random images a class leave a small network near 60 % of 100 classes, all 100 take it
# well above 90 %, so that condensed sets have room to differ. Ink of either polarity would halve the former.
EXTENT = (0.65, 0.98)  # long side of the drawn character, as a share of the free side
ROTATION = 12.0  # degrees, either way
SHEAR = 0.15  # horizontal, either way
STYLES = ((0, True), (0, True), (0, True), (1, True), (1, True), (1, False))  # (stroke in pixels at 64 px, filled)
CONTRAST = 80  # luma by which either background colour is lighter than the ink, at least, of 255
TEXTURE = 0.7  # the most of the second background colour that is mixed into the first
NOISE = (0, 24)  # half-width of the uniform noise, in levels
_FONT_SIZE = 64
_FINE = 2  # the character is placed on a grid this much finer, then averaged


@lru_cache(maxsize=64)
def load_face(face: str, size: int) -> ImageFont.FreeTypeFont:
    """A face that matplotlib ships, `size` in pixels, with Pillow's own layout (one character needs no shaping)."""
    return ImageFont.truetype(str(_fonts() / f"{face}.ttf"), size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=64)
def characters_of(face: str) -> frozenset[int]:
    """Code points that a face has a drawing for; all others would show its empty box."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(_fonts() / f"{face}.ttf")).get_charmap())


@lru_cache(maxsize=2048)
def faces_of(character: str) -> tuple[str, ...]:
    """The faces that have this character."""
    return tuple(face for face in FACES if ord(character) in characters_of(face))


def draw(seed: int, character: str, index: int, attempt: int = 0) -> np.ndarray:
    """uint8 [3, SIDE, SIDE]. `attempt` counts the redraws of an image that came out equal to another."""
    rng = numpy_generator("dataset", "glyphs", seed, ord(character), index, attempt)
    faces = faces_of(character)
    ink = _place(_mask(faces[rng.integers(len(faces))], character, *STYLES[rng.integers(len(STYLES))]), rng)
    foreground, first, second = _colours(rng)
    background = first + (second - first) * (_blend(rng) * np.float32(TEXTURE))
    picture = background + (foreground - background) * ink
    amplitude = int(rng.integers(NOISE[0], NOISE[1] + 1))
    noise = rng.integers(-amplitude, amplitude + 1, size=(3, SIDE, SIDE), dtype=np.int16)
    return np.clip(np.rint(picture) + noise, 0, 255).astype(np.uint8)


def _fonts() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@lru_cache(maxsize=256)
def _mask(face: str, character: str, stroke: int, filled: bool) -> Image.Image:
    """The character in white on black, cut to its ink; with a stroke and not filled, its outline alone."""
    font = load_face(face, _FONT_SIZE)
    if filled:
        image = Image.new("L", (4 * _FONT_SIZE, 4 * _FONT_SIZE))
        ImageDraw.Draw(image).text((_FONT_SIZE, _FONT_SIZE), character, fill=255, font=font, stroke_width=stroke)
    else:
        mask = font.getmask(character, mode="L", stroke_width=stroke)
        image = Image.frombytes("L", mask.size, bytes(mask))
    return image.crop(image.getbbox())


def _place(mask: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """Ink share float32 [SIDE, SIDE]: rotated, sheared, scaled and shifted so that no part leaves the picture."""
    angle = math.radians(rng.uniform(-ROTATION, ROTATION))
    shear = rng.uniform(-SHEAR, SHEAR)
    cos, sin = math.cos(angle), math.sin(angle)
    # (x, y) of the mask -> (a x + b y, c x + d y): shear, then rotation.
    a, b, c, d = cos, cos * shear - sin, sin, sin * shear + cos
    width, height = mask.size
    wide, high = abs(a) * width + abs(b) * height, abs(c) * width + abs(d) * height
    free = SIDE - 2 * MARGIN
    scale = rng.uniform(*EXTENT) * free / max(wide, high)
    x = MARGIN + wide * scale / 2 + rng.uniform() * (free - wide * scale)
    y = MARGIN + high * scale / 2 + rng.uniform() * (free - high * scale)

    # Pillow asks where in the mask an output pixel comes from: the inverse map, on the fine grid.
    step = 1 / (scale * _FINE * (a * d - b * c))
    ia, ib, ic, id_ = d * step, -b * step, -c * step, a * step
    fx, fy = x * _FINE, y * _FINE
    inverse = (ia, ib, width / 2 - ia * fx - ib * fy, ic, id_, height / 2 - ic * fx - id_ * fy)
    side = SIDE * _FINE
    placed = mask.transform((side, side), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)
    return np.asarray(placed.reduce(_FINE), dtype=np.float32) / np.float32(255)


def _colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ink and two background colours, float32 [3, 1, 1] each: dark on light, as in print."""
    while True:
        colours = rng.integers(0, 256, size=(3, 3))
        luma = colours @ np.array([299, 587, 114]) // 1000
        if luma[1:].min() - luma[0] >= CONTRAST:
            ink, first, second = colours.astype(np.float32).reshape(3, 3, 1, 1)
            return ink, first, second


def _blend(rng: np.random.Generator) -> np.ndarray:
    """How the two background colours mix, float32 [SIDE, SIDE] in 0..1: one colour, a gradient, clouds or stripes."""
    kind = int(rng.integers(4))
    if kind == 0:
        return np.zeros((SIDE, SIDE), np.float32)
    if kind == 1:
        corners = rng.integers(0, 256, size=(2, 2), dtype=np.uint8)
        return _enlarge(corners, Image.Resampling.BILINEAR)
    if kind == 2:
        cells = int(rng.integers(4, 13))
        return _enlarge(rng.integers(0, 256, size=(cells, cells), dtype=np.uint8), Image.Resampling.BICUBIC)
    period, lean = int(rng.integers(6, 25)), rng.integers(-2, 3, size=2)
    if not lean.any():
        lean[0] = 1
    line = np.arange(SIDE)
    phase = (lean[0] * line[:, None] + lean[1] * line[None, :] + int(rng.integers(period))) % period
    return np.abs(phase * 2 - period).astype(np.float32) / np.float32(period)


def _enlarge(cells: np.ndarray, resample: Image.Resampling) -> np.ndarray:
    image = Image.fromarray(cells).resize((SIDE, SIDE), resample)
    return np.asarray(image, dtype=np.float32) / np.float32(255)
