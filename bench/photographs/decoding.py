"""An image file of a data set as pixels. Pillow opens it in bench/foreign/image_file.py, within bounds.

Pillow's pixels are the reference. A photograph is decoded, turned to RGB (or grey), and cut square as torchvision's
Resize and CenterCrop do it, to the bit.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from dataclasses import dataclass, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, features

from bench.errors import UserError, unknown
from bench.foreign.bounds import MAX_PIXELS
from bench.foreign.image_file import MODES, open_picture

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}
CROPS = ("centre", "none")
_DEEP = ("I", "F")  # modes of more than 8 bits, which Pillow would clip
# A JPEG of 18x12 pixels. What this machine's decoder and resize make of it stands in the digest of every FileSource.
_SAMPLE = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAYEBQYFBAYGBQYHBwYIChAKCgkJChQODwwQFxQYGBcUFhYaHSUfGhsjHBYWICwgIyYnKSopGR8tMC0o"
    "MCUoKSj/2wBDAQcHBwoIChMKChMoGhYaKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCj/wAARCAAMABID"
    "ASIAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAABwAG/8QAJRAAAQIEBgIDAAAAAAAAAAAAAQIRAAMEBQYSISMxURNBgdHS/8QAFgEBAQEAAAAA"
    "AAAAAAAAAAAABQQH/8QAIREAAQIGAgMAAAAAAAAAAAAAAQADAgYREjFBIZEFEyL/2gAMAwEAAhEDEQA/AC2x4LStAUuWAkclo2VswbLZOWnD+goO"
    "T8CEKz22mFPJ2wWBUx7AjX2u3U6vJmQ7ZetXb7iGPykDTMIs5IzQc/N28axvpGy5Mr5Iyi5OEJBSNiXx0P1FDQujkJWpIRoC3JigwzCAaesdBaWJ"
    "jeptf//Z"
)


@dataclass(frozen=True)
class Policy:
    """How an image file becomes a square of uint8 pixels. The two splits of a data set may have two policies.

    Args:
        size: pixels of the square.
        resize: the shorter side is brought to so many pixels first, then the centre is cut out; 0: the file has the
            size already, and one that has not is refused.
        channels: 3 (RGB) or 1 (grey).
        crop: "centre", or "none": both sides are brought to `size`, so that the proportions change.
        filter: of the resize, one of bilinear, bicubic, lanczos, box; all average where they shrink.
        exif: turn a photograph upright as its EXIF orientation says. torchvision and timm do not.

    Raises:
        UserError: a value is none of those.
    """

    size: int
    resize: int = 0
    channels: int = 3
    crop: str = "centre"
    filter: str = "bilinear"
    exif: bool = False

    def __post_init__(self) -> None:
        if self.size < 1 or self.resize < 0 or 0 < self.resize < self.size:
            raise UserError(f"{self}: allowed is 0 < size <= resize, or resize=0 for files of that size.")
        for name, value, allowed in (
            ("channels", self.channels, MODES),
            ("crop", self.crop, CROPS),
            ("filter", self.filter, FILTERS),
        ):
            if value not in allowed:
                raise UserError(f"{self}: {unknown(name, str(value), map(str, allowed))}")

    def identity(self) -> dict[str, Any]:
        """What a digest holds of it. What stands at its default is left out, so that a new field moves no digest."""
        always = ("size", "resize", "channels")
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {name: value for name, (value, default) in values.items() if name in always or value != default}


def decode(file: str | Path, policy: Policy, content: bytes | None = None) -> np.ndarray:
    """uint8 [channels, size, size] of an image file. Raises UserError with the file's name.

    Args:
        file: to read.
        policy: how it becomes pixels.
        content: the file's bytes, where they were read already.
    """
    image = _opened(file, policy.channels, exif=policy.exif, content=content)
    scale = policy.resize / min(image.size)
    if policy.crop != "none" and image.width * image.height * scale**2 > MAX_PIXELS:
        raise UserError(
            f"{file} is {image.width}x{image.height} px: with {policy.resize} px on the shorter side it would have "
            f"more than {MAX_PIXELS:,} pixels."
        )
    image = _squared(image, policy)
    if image.size != (policy.size, policy.size):
        width, height = image.size
        raise UserError(f"{file} is {width}x{height} px; this data set takes {policy.size}x{policy.size}.")
    return _channels_first(image)


def original(file: str | Path, channels: int, *, exif: bool = False) -> np.ndarray:
    """uint8 [channels, height, width] of an image file, in the size that it has. Raises UserError with its name."""
    return _channels_first(_opened(file, channels, exif=exif))


def _opened(file: str | Path, channels: int, *, exif: bool, content: bytes | None = None) -> Image.Image:
    with open_picture(file if content is None else content, file) as image:
        if image.mode.startswith(_DEEP):
            raise UserError(f"{file} has more than 8 bits a channel ({image.mode}): save it with 8 bits.")
        upright = ImageOps.exif_transpose(image) if exif else image
        return upright.convert(MODES[channels])


def _squared(image: Image.Image, policy: Policy) -> Image.Image:
    """As torchvision's Resize(resize) and CenterCrop(size), or Resize((size, size)); a test compares the bits."""
    if not policy.resize:
        return image
    size, method = policy.size, FILTERS[policy.filter]
    if policy.crop == "none":
        return image.resize((size, size), method)
    width, height = image.size
    short, long = policy.resize, int(policy.resize * max(width, height) / min(width, height))
    width, height = (short, long) if width <= height else (long, short)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.resize((width, height), method).crop((left, top, left + size, top + size))


def _channels_first(image: Image.Image) -> np.ndarray:
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


@cache
def decoder_digest() -> str:
    """Hex sha256 of the pixels that this machine's decoder and resize make of a sample: 64 digits that change with what
    they do, not with their version."""
    with Image.open(io.BytesIO(base64.b64decode(_SAMPLE))) as image:
        pixels = image.convert("RGB")
    return hashlib.sha256(pixels.tobytes() + _squared(pixels, Policy(size=5, resize=7)).tobytes()).hexdigest()


@cache
def decoder_version() -> str:
    """Pillow and the libraries below it, with their versions: pixels that are kept are those of one version."""
    names = ("jpg", "zlib", "libtiff", "webp")
    below = {each: features.version(each) for each in names if features.check(each)}
    turbo = features.version("libjpeg_turbo") if features.check_feature("libjpeg_turbo") else None
    return f"pillow {version('pillow')}, libjpeg-turbo {turbo}, {', '.join(f'{k} {v}' for k, v in below.items())}"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
