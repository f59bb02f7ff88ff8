"""Photographs of ImageNet's shape, cut from those that ship inside packages: JPEG, 200 to 600 pixels, all colours."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from bench.seeds import numpy_generator

SHIPPED = {
    ("sklearn", "datasets/images"): ("china.jpg", "flower.jpg"),
    ("matplotlib", "mpl-data/sample_data"): ("grace_hopper.jpg",),
    ("skimage", "data"): ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png"),
}
COPIES = 10  # files of one photograph; what is appended behind the end of the image tells them apart


def write_photographs(folder: Path, count: int) -> list[Path]:
    """`count` files of different content, in ten folders. Of scikit-image, only what is installed is cut."""
    wholes = shipped_photographs(SHIPPED)
    files = []
    for index in range(count):
        files.append(folder / f"n{index % 10:08}" / f"{index:06}.JPEG")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        original = index // COPIES * COPIES
        if index == original:
            cut(wholes, index).save(files[-1], quality=90)
        else:
            files[-1].write_bytes(files[original].read_bytes() + index.to_bytes(4, "little"))
    return files


def cut(wholes: list[Image.Image], index: int, least: int = 200, most: int = 600) -> Image.Image:
    """A crop that is like no other: `least` to `most` pixels wide and high, with the colours in any order."""
    rng = numpy_generator("speed", "photographs", index)
    whole = wholes[int(rng.integers(len(wholes)))]
    width, height = (int(rng.integers(least, min(most, side) + 1)) for side in whole.size)
    left, top = int(rng.integers(whole.width - width + 1)), int(rng.integers(whole.height - height + 1))
    pixels = np.asarray(whole.crop((left, top, left + width, top + height)))
    return Image.fromarray(np.ascontiguousarray(pixels[..., rng.permutation(3)]))


def shipped_photographs(packages: Iterable[tuple[str, str]]) -> list[Image.Image]:
    """RGB, of those packages that are installed."""
    files: list[Path] = []
    for package, folder in packages:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            place = Path(spec.submodule_search_locations[0]) / folder
            files += [place / name for name in SHIPPED[package, folder] if (place / name).is_file()]
    return [Image.open(file).convert("RGB") for file in files]
