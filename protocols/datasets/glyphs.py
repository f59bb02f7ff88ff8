"""Characters in 16 font faces, 64x64 RGB used at 32x32, 2 to 1,000 classes of 100 train and 20 test images (drawn)."""

from __future__ import annotations

import hashlib
import inspect
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from bench.api import Dataset
from bench.errors import UserError
from protocols.datasets import _glyph_classes, _glyph_drawing
from protocols.datasets._arrays import ArraySource, atomic_path

CITATION = (
    "Drawn by this project with the fonts that matplotlib ships: DejaVu 2.37 and STIX 1.1 (SIL OFL). "
    "Idea: T. E. de Campos, B. R. Babu, M. Varma: Character recognition in natural images (Chars74K). VISAPP 2009."
)
ARITHMETIC = "portable"
PER_CLASS = {"train": 100, "test": 20}


def load(root: Path, *, classes: int = 100, seed: int = 0) -> Dataset:
    """The data set, drawn on first use (10,000 + 2,000 images with 100 classes) and then mapped from disk.

    An image depends on (seed, character, index) alone: 100 classes are the first 100 of 1,000, image by image. Face,
    size, place, rotation, shear, stroke, colours, background and noise vary within a class.

    Args:
        root: cache folder; 1.5 GB are written for 1,000 classes.
        classes: 2 to 1,000; the first `classes` characters of a fixed order.
        seed: of the drawing.

    Raises:
        UserError: `classes` out of range.
    """
    if not 2 <= classes <= len(_glyph_classes.CLASSES):
        raise UserError(f"glyphs: classes={classes}; allowed: 2 to {len(_glyph_classes.CLASSES)}")
    return Dataset(
        num_classes=classes,
        channels=3,
        size=32,
        source_size=64,
        mirror=False,
        mean=(0.5600, 0.6547, 0.5217),
        std=(0.2465, 0.2489, 0.2456),
        train=lambda: _open(root, classes, seed, "train"),
        test=lambda: _open(root, classes, seed, "test"),
        class_names=tuple(_glyph_classes.CLASSES[:classes]),
    )


def _open(root: Path, classes: int, seed: int, split: str) -> ArraySource:
    paths = {name: root / f"glyphs-{_drawn_by()}-{seed}-{classes}-{name}.npy" for name in PER_CLASS}
    if not all(path.exists() for path in paths.values()):
        _draw_all(paths, classes, seed)
    images = np.load(paths[split], mmap_mode="r", allow_pickle=False)
    return ArraySource(images, np.repeat(np.arange(classes), PER_CLASS[split]))


def _draw_all(paths: dict[str, Path], classes: int, seed: int) -> None:
    """Draws class by class, so that memory stays at one class; an image equal to an earlier one is drawn again."""
    seen: set[bytes] = set()
    with (
        atomic_path(paths["train"]) as train,
        atomic_path(paths["test"]) as test,
        train.open("wb") as train_file,
        test.open("wb") as test_file,
    ):
        files = {"train": train_file, "test": test_file}
        for split, file in files.items():
            shape = (classes * PER_CLASS[split], 3, _glyph_drawing.SIDE, _glyph_drawing.SIDE)
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for character in _glyph_classes.CLASSES[:classes]:
            index = 0
            for split, file in files.items():
                for _ in range(PER_CLASS[split]):
                    file.write(_draw_new(seed, character, index, seen))
                    index += 1


def _draw_new(seed: int, character: str, index: int, seen: set[bytes]) -> bytes:
    attempt = 0
    while True:
        pixels = _glyph_drawing.draw(seed, character, index, attempt).tobytes()
        key = hashlib.blake2b(pixels, digest_size=16).digest()
        if key not in seen:
            seen.add(key)
            return pixels
        attempt += 1


@lru_cache(maxsize=1)
def _drawn_by() -> str:
    """A short digest of what decides the pixels: a cache drawn by other code, fonts or FreeType is not read."""
    from PIL import features

    parts = [version("matplotlib"), version("pillow"), str(features.version("freetype2"))]
    parts += [inspect.getsource(module) for module in (_glyph_classes, _glyph_drawing)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
