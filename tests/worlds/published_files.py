"""The field's data sets in miniature, in the formats in which they are published."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    """Random uint8."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def idx(values: np.ndarray) -> bytes:
    """An idx file of bytes."""
    return struct.pack(f">HBB{values.ndim}i", 0, 8, values.ndim, *values.shape) + values.tobytes()


def mnist(folder: Path, *, packed: bool = True, train: int = 20, test: int = 10) -> dict[str, np.ndarray]:
    """Four idx files; returns what they hold."""
    folder.mkdir(parents=True, exist_ok=True)
    held = {
        "train-images-idx3-ubyte": drawn(train, 28, 28),
        "train-labels-idx1-ubyte": np.arange(train, dtype=np.uint8) % 10,
        "t10k-images-idx3-ubyte": drawn(test, 28, 28, seed=1),
        "t10k-labels-idx1-ubyte": np.arange(test, dtype=np.uint8) % 10,
    }
    for name, values in held.items():
        content = gzip.compress(idx(values)) if packed else idx(values)
        (folder / (f"{name}.gz" if packed else name)).write_bytes(content)
    return held


def cifar_rows(count: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(pixels [n, 3072], labels [n])."""
    return drawn(count, 3072, seed=seed), (np.arange(count) % classes).astype(np.uint8)


def cifar_binary(file: Path, pixels: np.ndarray, *labels: np.ndarray) -> None:
    """A .bin file: for each image its labels, then its pixels."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(np.concatenate([*(each[:, None] for each in labels), pixels], axis=1).tobytes())


def cifar_pickle(file: Path, pixels: np.ndarray, **labels: np.ndarray) -> None:
    """A batch as Python 2 pickled it (protocol 2, byte strings), opcode by opcode."""
    count, width = pixels.shape
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + b"J" + struct.pack("<i", count) + b"J" + struct.pack("<i", width) + b"\x86"
        + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + b"\x89T" + struct.pack("<i", pixels.size) + pixels.tobytes() + b"tb"
    )  # fmt: skip
    lists = b"".join(
        b"U" + bytes([len(name)]) + name.encode() + b"](" + b"".join(b"K" + bytes([each]) for each in values) + b"e"
        for name, values in labels.items()
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"\x80\x02}(U\x04data" + array + lists + b"u.")


def photograph(file: Path, width: int, height: int, seed: int = 0, **options: object) -> None:
    """A file of smooth noise that no other seed gives."""
    file.parent.mkdir(parents=True, exist_ok=True)
    coarse = Image.fromarray(drawn(4, 4, 3, seed=seed))
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(file, **options)


def tree(folder: Path, classes: Iterable[str], *, train: int = 3, test: int = 1, val: str = "val") -> None:
    """train/CLASS/ and val/CLASS/ with photographs of several sizes."""
    for number, name in enumerate(classes):
        for split, count in (("train", train), (val, test)):
            for index in range(count):
                seed = 1000 * number + 10 * index + (split != "train")
                photograph(folder / split / name / f"{name}_{index}.JPEG", 60 + 7 * index, 50 + number % 9, seed)


def tiny_imagenet(folder: Path, classes: Iterable[str]) -> None:
    """tiny-imagenet-200 with these classes: unsorted ids, boxes, annotations of val/, one grey image."""
    names = list(classes)
    folder.mkdir(parents=True)
    (folder / "wnids.txt").write_text("\n".join(names) + "\n")
    lines = []
    for number, name in enumerate(names):
        for index in range(3):
            photograph(folder / "train" / name / "images" / f"{name}_{index}.JPEG", 64, 64, 10 * number + index)
        (folder / "train" / name / f"{name}_boxes.txt").write_text(f"{name}_0.JPEG\t0\t0\t63\t63\n")
        photograph(folder / "val" / "images" / f"val_{number}.JPEG", 64, 64, 10 * number + 5)
        lines.append(f"val_{number}.JPEG\t{name}\t0\t0\t63\t63")
    Image.fromarray(drawn(64, 64)).save(folder / "train" / names[0] / "images" / f"{names[0]}_1.JPEG")
    (folder / "val" / "val_annotations.txt").write_text("\n".join(reversed(lines)) + "\n")
