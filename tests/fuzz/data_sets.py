"""Readers of the field's data sets in the formats in which they are published, and of lists of classes."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
from functools import cache, partial
from pathlib import Path
from random import Random

import numpy as np

from bench.places import VARIABLE
from protocols.datasets import imagefolder, svhn, tiny_imagenet
from protocols.datasets._cifar import read_binary, read_python
from protocols.datasets._idx import read_split
from tests.fuzz.changes import NUMBERS, Files, bytes_changed, tree_changed
from tests.fuzz.pictures import png
from tests.fuzz.reader import Reader, of_file, of_tree
from tests.worlds.published_files import cifar_pickle, cifar_rows, drawn, idx


def _idx_input(random: Random) -> Files:
    packed = random.random() < 0.4
    files = {"images": idx(drawn(4, 5, 5)), "labels": idx(np.arange(4, dtype=np.uint8))}
    name = random.choice(sorted(files))
    if random.random() < 0.4:  # the sizes that its head tells
        at = 4 + 4 * random.randrange((len(files[name]) - 4) // 4 and 3)
        files[name] = files[name][:at] + struct.pack(">I", random.choice(NUMBERS) % 2**32) + files[name][at + 4 :]
    else:
        files[name] = bytes_changed(files[name], random)
    if packed:
        files = {f"{each}.gz": gzip.compress(data, 1, mtime=0) for each, data in files.items()}
        if random.random() < 0.5:
            name = random.choice(sorted(files))
            files[name] = bytes_changed(files[name], random)
    return files


def _read_idx(root: Path) -> None:
    files = [root / name for name in ("images", "labels")]
    images, labels = (file if file.exists() else file.with_suffix(".gz") for file in files)
    read_split("mnist", images, labels)


@cache
def _batch() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data_batch_1"
        pixels, labels = cifar_rows(2, 10, 0)
        cifar_pickle(file, pixels, labels=labels)
        return file.read_bytes()


def _pickle_input(random: Random) -> bytes:
    data = _batch()
    kind = random.randrange(8)
    if kind == 0:
        others = ([], {}, {b"data": 1}, {"data": b"", "labels": []}, None, {b"labels": [300]})
        return pickle.dumps(random.choice(others))
    at = random.randrange(200)  # what describes the pixels stands there and behind them
    tail = random.randrange(len(data) - 100, len(data))
    if kind < 4:
        return bytes_changed(data[:at], random, 2) + data[at:]
    return data[:tail] + bytes_changed(data[tail:], random, 2) if kind < 6 else bytes_changed(data, random)


@cache
def _mat() -> tuple[bytes, ...]:
    from scipy.io import savemat

    files = []
    for packed in (False, True):
        file = io.BytesIO()
        savemat(file, {"X": drawn(32, 32, 3, 2), "y": np.array([[1], [10]], np.uint8)}, do_compression=packed)
        files.append(file.getvalue())
    return tuple(files)


def _mat_input(random: Random) -> bytes:
    data = random.choice(_mat())
    at = random.randrange(400)
    return bytes_changed(data[:at], random, 2) + data[at:] if random.random() < 0.6 else bytes_changed(data, random)


def _tiny_input(random: Random) -> Files:
    classes = ["n02", "n01"]
    lines = "".join(f"val_{number}.JPEG\t{name}\t0\t0\t63\t63\n" for number, name in enumerate(classes))
    files = {
        "tiny-imagenet/wnids.txt": "\n".join(classes).encode() + b"\n",
        "tiny-imagenet/val/val_annotations.txt": lines.encode(),
        "tiny-imagenet/words.txt": b"n01\tone\n",
        **{f"tiny-imagenet/train/{name}/images/{name}_0.JPEG": png(0) for name in classes},
        **{f"tiny-imagenet/val/images/val_{number}.JPEG": png(0) for number in range(2)},
    }
    if random.random() < 0.7:
        name = random.choice([each for each in sorted(files) if each.endswith(".txt")])
        return {**files, name: bytes_changed(files[name], random)}
    return tree_changed(files, random)


def _opened(root: Path, load: object) -> None:
    """Both splits of a data set in a folder, labels and files; no picture is decoded."""
    os.environ[VARIABLE] = str(root)
    try:
        dataset = load(root / "cache")  # type: ignore[operator]
        for source in (dataset.train(), dataset.test()):
            assert len(source) == len(source.labels)
        dataset.files()
    finally:
        del os.environ[VARIABLE]


def _folder_input(random: Random) -> Files:
    classes = ["\u00e9t\u00e9", "two"]
    files = {
        "mine/classes.txt": "\n".join(f"{name}\tname of {name}" for name in classes).encode("utf-8-sig"),
        **{f"mine/{split}/{name}/0.png": png(0) for name in classes for split in ("train", "val")},
    }
    if random.random() < 0.7:
        return {**files, "mine/classes.txt": bytes_changed(files["mine/classes.txt"], random)}
    return tree_changed(files, random)


def _binary_input(random: Random) -> bytes:
    pixels, labels = cifar_rows(2, 10, 0)
    return bytes_changed(np.concatenate([labels[:, None], pixels], axis=1).tobytes(), random)


READERS: dict[str, Reader] = {
    "mnist-idx": of_tree(_idx_input, _read_idx),
    "cifar-binary": of_file("data_batch_1.bin", _binary_input, partial(read_binary, "cifar10", 1)),
    "cifar-pickle": of_file("data_batch_1", _pickle_input, partial(read_python, "cifar10", b"labels")),
    "svhn-mat": of_file("train_32x32.mat", _mat_input, svhn.read_mat),
    "tiny-imagenet": of_tree(_tiny_input, lambda root: _opened(root, tiny_imagenet.load)),
    "imagefolder": of_tree(_folder_input, lambda root: _opened(root, partial(imagefolder.load, of="mine"))),
}
