"""A data set of ImageNet's shape without a download: 1,000 classes of photographs, JPEG, 200 to 600 pixels.

`python -m speed._imagenet_shaped DIR` writes DIR/imagenet-shaped/train/CLASS/ (10 files a class) and val/CLASS/ (2),
for `--data DIR --dataset imagefolder:of=imagenet-shaped`. All are cut from the photographs inside scikit-learn,
scikit-image and matplotlib, as far as these are installed; no two are alike. A class is a photograph, an order of its
colours and a brightness, so that there is something to learn. What real folders hold is among them: CMYK, grey, an EXIF
orientation, a PNG named .JPEG.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from bench.seeds import numpy_generator
from speed._photographs import SHIPPED, shipped_photographs

NAME = "imagenet-shaped"
CLASSES, TRAIN, VAL = 1000, 10, 2
LEAST, MOST = 200, 600  # pixels of a side
QUALITY = 90
ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))  # of the colours
ORIENTATION = 0x0112  # EXIF
# Of 100 files: how many are awkward, and in which way.
KINDS = {"grey": 2, "cmyk": 1, "exif": 1, "png": 1}


def write(folder: Path, *, classes: int = CLASSES, train: int = TRAIN, val: int = VAL) -> int:
    """Write the data set into `folder`/imagenet-shaped; returns how many files it has."""
    wholes = shipped_photographs(SHIPPED)
    for label in range(classes):
        for index in range(train + val):
            split = "train" if index < train else "val"
            file = folder / NAME / split / f"n{label:08}" / f"{split}_{label:04}_{index}.JPEG"
            file.parent.mkdir(parents=True, exist_ok=True)
            save(picture(wholes, label, index), file, kind(label * (train + val) + index))
    return classes * (train + val)


def picture(wholes: list[Image.Image], label: int, index: int) -> Image.Image:
    """A crop of the class's photograph, with its colours and its brightness, slightly changed."""
    rng = numpy_generator("speed", NAME, label, index)
    number, order, exponent = look(label, len(wholes))
    whole = wholes[number]
    width, height = (int(rng.integers(LEAST, min(MOST, side) + 1)) for side in whole.size)
    left, top = int(rng.integers(whole.width - width + 1)), int(rng.integers(whole.height - height + 1))
    pixels = np.asarray(whole.crop((left, top, left + width, top + height)), np.float32)[..., list(order)]
    changed = 255 * (pixels / 255) ** exponent * rng.uniform(0.85, 1.15)
    return Image.fromarray(np.clip(changed, 0, 255).astype(np.uint8))


def look(label: int, photographs: int) -> tuple[int, tuple[int, int, int], float]:
    """What a class is: the number of its photograph, the order of its colours, and the exponent of their brightness."""
    turn, number = divmod(label, photographs)
    turn, order = divmod(turn, len(ORDERS))
    return number, ORDERS[order], 0.5 + 1.5 * turn * photographs * len(ORDERS) / CLASSES


def kind(number: int) -> str:
    """In which way the file of this number is awkward; "" for most of them."""
    place = number * 37 % 100  # spread over the classes
    for name, share in KINDS.items():
        if place < share:
            return name
        place -= share
    return ""


def save(image: Image.Image, file: Path, kind: str) -> None:
    """Write a file, in the way of its kind."""
    if kind == "png":
        image.save(file, format="PNG")
        return
    exif = Image.Exif()
    if kind == "exif":
        exif[ORIENTATION] = 6
    mode = {"grey": "L", "cmyk": "CMYK"}.get(kind, "RGB")
    image.convert(mode).save(file, format="JPEG", quality=QUALITY, exif=exif)


def main() -> None:
    """Write it where the command line says."""
    parser = argparse.ArgumentParser(prog="python -m speed._imagenet_shaped", description=__doc__)
    parser.add_argument("folder", metavar="DIR", type=Path)
    parser.add_argument("--classes", type=int, default=CLASSES)
    options = parser.parse_args()
    count = write(options.folder, classes=options.classes)
    print(f"{count} files in {options.folder / NAME}")


if __name__ == "__main__":
    main()
