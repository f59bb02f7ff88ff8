"""Condensed sets made elsewhere: a tree of image files or a safetensors file, and a digest of the content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError, safe_open

from bench.errors import UserError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MODES = {1: "L", 3: "RGB"}  # of Pillow, by channels
# Decoders that stay in this process: that of PostScript starts another program, whatever a file is called.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM")


@dataclass(frozen=True)
class Foreign:
    """Images of somebody else, opened one by one."""

    images: Sequence[Path] | np.ndarray  # files, or uint8 [M, c, h, w]
    labels: np.ndarray  # int64 [M], ascending
    names: tuple[str, ...]  # of the classes, by number; empty where the source has none
    digest: str  # sha256 (hex) of classes and content

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, channels: int, size: int) -> Iterator[np.ndarray]:
        """uint8 [channels, size, size] of each, in order.

        An image of another size is cut to its largest centred square and resized by Pillow's bicubic filter, which
        averages where it shrinks; one of the right size is taken as it is. Colour becomes grey, and grey becomes
        colour, by Pillow's conversion.

        Raises:
            UserError: a file cannot be read, or the channels do not fit.
        """
        for index, image in enumerate(self.images):
            if isinstance(image, Path):
                yield _fitted(_opened(image, channels), size)
            elif image.shape == (channels, size, size):
                yield np.array(image)
            elif image.shape[0] == channels and channels in MODES:
                pixels = image[0] if channels == 1 else image.transpose(1, 2, 0)
                yield _fitted(Image.fromarray(np.ascontiguousarray(pixels), MODES[channels]), size)
            else:
                raise UserError(
                    f"image {index} is {list(image.shape)}; the data set has images {[channels, size, size]}, "
                    f"and what is resized must have its channels (1 or 3)."
                )


def open_tree(root: Path, classes: int, listed: Path | None) -> Foreign:
    """A folder with a folder for each class, its images in the order of their names.

    The classes are the folders in sorted order, as torchvision's ImageFolder has them; folders that are all whole
    numbers are sorted as numbers. Or they are what the file `listed` says: a folder's name a line, class 0 first.

    Raises:
        UserError: the number of classes is another, a class has no folder or no image, a folder is in no class.
    """
    folders = {path.name: path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    if listed is None:
        numbered = bool(folders) and all(name.isdecimal() for name in folders)
        names = sorted(folders, key=(lambda name: (int(name), name)) if numbered else None)
    else:
        names = _listed(listed, folders, root)
    if len(names) != classes:
        raise UserError(
            f"{listed or root} has {len(names)} classes ({_some(names)}); the data set has {classes}. "
            f"Every class needs a folder, and the folder's parent is what `path` names."
        )
    files: list[Path] = []
    labels: list[int] = []
    content = hashlib.sha256(json.dumps(names).encode())
    for label, name in enumerate(names):
        own = sorted(path for path in folders[name].iterdir() if path.suffix.lower() in IMAGES and path.is_file())
        if not own:
            raise UserError(f"{folders[name]} (class {label}) holds no image ({', '.join(IMAGES)}).")
        for path in own:
            content.update(json.dumps([label, path.name]).encode() + hashlib.sha256(path.read_bytes()).digest())
        files += own
        labels += [label] * len(own)
    return Foreign(files, np.array(labels, dtype=np.int64), tuple(names), content.hexdigest())


def open_tensors(file: Path, classes: int) -> Foreign:
    """A safetensors file with `images` uint8 [M, c, h, w] and `labels`, whole numbers [M].

    Raises:
        UserError: it is none, a tensor is missing or of another kind, a label is out of range.
    """
    try:
        with safe_open(file, framework="numpy") as stored:
            names = list(stored.keys())
            missing = [name for name in ("images", "labels") if name not in names]
            if missing:
                raise UserError(
                    f"{file} has no tensor {' and '.join(map(repr, missing))}; it has {_some(names)}. "
                    f"images uint8 [M, c, h, w] and labels [M] are needed."
                )
            images, labels = stored.get_tensor("images"), stored.get_tensor("labels")
    except (SafetensorError, OSError, TypeError) as error:
        raise UserError(f"{file} cannot be read as a safetensors file: {error}") from None
    if images.dtype != np.uint8 or images.ndim != 4:
        raise UserError(
            f"{file}: images must be uint8 [M, c, h, w], 0 to 255; they are {images.dtype} {list(images.shape)}. "
            f"Undo the normalisation and round."
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise UserError(
            f"{file}: labels must be whole numbers [{len(images)}]; they are {labels.dtype} {list(labels.shape)}."
        )
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise UserError(
            f"{file}: labels lie in {labels.min()}..{labels.max()}; the data set has classes 0..{classes - 1}."
        )
    order = np.argsort(labels, kind="stable")
    content = hashlib.sha256(json.dumps(list(images.shape)).encode())
    for part in (labels.astype("<i8"), images):
        content.update(np.ascontiguousarray(part[order]).tobytes())
    return Foreign(images[order], labels[order].astype(np.int64), (), content.hexdigest())


def _listed(listed: Path, folders: dict[str, Path], root: Path) -> list[str]:
    try:
        names = [line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"classes={listed} cannot be read: {error}") from None
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"classes={listed} names {_some(twice)} twice.")
    absent = [name for name in names if name not in folders]
    if absent:
        raise UserError(f"classes={listed} names {_some(absent)}, but {root} has no such folder.")
    spare = sorted(set(folders) - set(names))
    if spare:
        raise UserError(f"{root} has folders that classes={listed} does not name: {_some(spare)}.")
    return names


def _opened(path: Path, channels: int) -> Image.Image:
    if channels not in MODES:
        raise UserError(
            f"{path}: image files have 1 or 3 channels, the data set has {channels}; use a safetensors file."
        )
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.convert(MODES[channels])
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as an image: {error}") from None


def _fitted(image: Image.Image, size: int) -> np.ndarray:
    if image.size != (size, size):
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        # Cut first: a filter over the whole image would let in pixels from beyond the square.
        square = image.crop((left, top, left + side, top + side))
        image = square.resize((size, size), Image.Resampling.BICUBIC)
    pixels = np.array(image)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _some(names: Sequence[str]) -> str:
    names = list(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "none"
