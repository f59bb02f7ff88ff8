"""The field's data sets in miniature and in the exact formats, cut from photographs that ship in packages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from bench.plugins.registry import discover
from protocols.datasets._published import IDC_100
from speed._photographs import SHIPPED, cut, shipped_photographs
from tests.worlds import published_files as files

WHOLES = shipped_photographs(each for each in SHIPPED if each[0] != "skimage")  # the same with and without extras
# Name -> the data set as a command names it: photographs are made small, so that networks are quick.
SETS = {
    "cifar10": "cifar10",
    "cifar100": "cifar100",
    "tiny-imagenet": "tiny-imagenet",
    "imagenette": "imagenette:size=32,resize=36",
    "imagewoof": "imagewoof:size=32,resize=36",
    "imagenet-10": "imagenet-10:size=32,resize=36",
    "imagenet-100": "imagenet-100:size=32,resize=36",
}
# Images of a class in the train split; teachers of two epochs learn them in seconds.
TRAIN = {"cifar10": 5, "cifar100": 2, "tiny-imagenet": 4, "imagenette": 4, "imagewoof": 4, "imagenet": 2}
TEST = 2


def write_all(folder: Path) -> None:
    """Every set of SETS below `folder`."""
    cifar(folder / "cifar-10-batches-bin", [f"data_batch_{part}.bin" for part in range(1, 6)], "test_batch.bin", 10, 1)
    cifar(folder / "cifar-100-binary", ["train.bin"], "test.bin", 100, TRAIN["cifar100"])
    tiny(folder / "tiny-imagenet-200", [f"n{number:08}" for number in range(20, 0, -1)])
    registry = discover()
    for name, place in (("imagenette", "imagenette2"), ("imagewoof", "imagewoof2")):
        tree(folder / place, list(registry.get("dataset", name).module.CLASSES), TRAIN[name])
    tree(folder / "imagenet", list(IDC_100), TRAIN["imagenet"])


def cifar(folder: Path, parts: list[str], test: str, classes: int, each: int) -> None:
    """The binary version: batches of records, with a coarse label before the fine one where there are 100 classes."""
    for number, name in enumerate([*parts, test]):
        count = classes * (TEST if name == test else each)
        labels = (np.arange(count) % classes).astype(np.uint8)
        rows = np.stack([pixels(index + 10_000 * number, 32).reshape(-1) for index in range(count)])
        files.cifar_binary(folder / name, rows, *((labels // 5, labels) if classes == 100 else (labels,)))


def tiny(folder: Path, classes: list[str]) -> None:
    """tiny-imagenet-200 with these classes: unsorted ids, boxes, annotations of val/, some grey images."""
    folder.mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(classes) + "\n")
    lines = []
    for number, name in enumerate(classes):
        images = folder / "train" / name / "images"
        images.mkdir(parents=True)
        (folder / "val" / "images").mkdir(parents=True, exist_ok=True)
        (folder / "train" / name / f"{name}_boxes.txt").write_text(f"{name}_0.JPEG\t0\t0\t63\t63\n")
        for index in range(TRAIN["tiny-imagenet"]):
            save(images / f"{name}_{index}.JPEG", pixels(100 * number + index, 64), grey=index == number)
        for index in range(TEST):
            file = f"val_{TEST * number + index}.JPEG"
            save(folder / "val" / "images" / file, pixels(100 * number + 50 + index, 64))
            lines.append(f"{file}\t{name}\t0\t0\t63\t63")
    (folder / "val" / "val_annotations.txt").write_text("\n".join(sorted(lines)) + "\n")


def tree(folder: Path, classes: list[str], train: int) -> None:
    """train/WNID/ and val/WNID/ with photographs of 40 to 90 pixels: CMYK, turned by EXIF and grey ones among them, and
    a PNG named .JPEG, as ImageNet has them."""
    for number, name in enumerate(classes):
        for split, count in (("train", train), ("val", TEST)):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                image = cut(WHOLES, 100 * number + index + 50 * (split == "val"), 40, 90)
                file = folder / split / name / f"{name}_{split}_{index}.JPEG"
                kind = (number + 3 * index) % 11
                if kind == 1:
                    image = image.convert("CMYK")
                elif kind == 2:
                    image = image.convert("L")
                exif = Image.Exif()
                if kind == 3:
                    exif[0x0112] = 6
                image.save(file, format="PNG" if kind == 4 else "JPEG", **({"exif": exif} if kind == 3 else {}))


def pixels(index: int, side: int) -> np.ndarray:
    """uint8 [3, side, side]: a crop, resized."""
    return np.asarray(cut(WHOLES, index, 60, 200).resize((side, side))).transpose(2, 0, 1)


def save(file: Path, image: np.ndarray, *, grey: bool = False) -> None:
    """A JPEG."""
    Image.fromarray(image.transpose(1, 2, 0)).convert("L" if grey else "RGB").save(file, quality=90)
