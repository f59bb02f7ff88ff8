"""Readers of condensed sets as their authors publish them, and of the label files that come with them."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
import zipfile
from functools import cache
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import zstandard
from safetensors.numpy import save

from bench.artifacts.pixels import fault_of
from bench.errors import UserError
from bench.labels.label_file import image_bytes
from methods import _stored_labels
from methods.synthesis import folder as published
from tests.fuzz.blobs import archive_changed
from tests.fuzz.changes import LINK, NUMBERS, PIPE, Files, bytes_changed, tree_changed, value_changed
from tests.fuzz.pictures import SIZE, picture_changed, png
from tests.fuzz.reader import Reader, of_file, of_tree

CLASSES, IPC = 2, 2
LABELS = np.repeat(np.arange(CLASSES), IPC)


def _images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (len(LABELS), 3, SIZE, SIZE), dtype=np.uint8)


class _Context:
    """A teacher that agrees with every label."""

    @staticmethod
    def predict(images: torch.Tensor) -> torch.Tensor:
        assert images.shape == (len(LABELS), 3, SIZE, SIZE)
        return torch.eye(CLASSES)[torch.from_numpy(LABELS)]


def _read_set(path: Path, **options: Any) -> None:
    """As a trial reads it, up to the bytes that are counted."""
    train = SimpleNamespace(num_classes=CLASSES, channels=3, size=SIZE)
    condensed = published.synthesize(train, IPC, _Context(), path=str(path), **options)  # type: ignore[arg-type]
    assert condensed.images.shape == (len(LABELS), 3, SIZE, SIZE)
    if reason := fault_of(condensed.images):
        raise UserError(reason)
    image_bytes(condensed.images)


# --- trees and archives -----------------------------------------------------------------------------------------------


@cache
def _tree() -> Files:
    return {f"{label}/{index}.png": png(index) for index, label in enumerate(LABELS.tolist())}


def _tree_input(random: Random) -> Files:
    files = dict(_tree())
    if random.random() < 0.3:
        files[random.choice(sorted(files))] = picture_changed(random)
    else:
        files = tree_changed(files, random)
    return {f"set/{name}" if name[:5] not in (LINK, PIPE) else f"{name[:5]}set/{name[5:]}": data
            for name, data in files.items()}  # fmt: skip


def _list_input(random: Random) -> Files:
    """A tree as it should be, and a changed list of its classes."""
    names = random.choice((("zero", "one"), ("\u00e9t\u00e9", "n\u00ba 2"), ("0", "1")))
    files = {f"set/{names[int(name[0])]}{name[1:]}": data for name, data in _tree().items()}
    text = random.choice(("\n", "\r\n")).join((*names, "")).encode(random.choice(("utf-8", "utf-8-sig", "latin-1")))
    return {**files, "classes.txt": bytes_changed(text, random) if random.random() < 0.8 else text}


def _read_tree(root: Path) -> None:
    listed = root / "classes.txt"
    _read_set(root / "set", **({"classes": str(listed)} if listed.exists() else {}))


def _packed(files: Files, random: Random) -> bytes:
    """A tar, in one of the usual packings, or a zip."""
    file = io.BytesIO()
    kind = random.randrange(6)
    if kind == 0:
        with zipfile.ZipFile(file, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            for name, data in files.items():
                archive.writestr(zipfile.ZipInfo(name.encode("utf-8", "replace").decode()), data)
        return file.getvalue()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name.removeprefix(LINK).removeprefix(PIPE))
            info.size = len(data)
            if name.startswith(LINK):
                info.type, info.linkname, info.size = tarfile.SYMTYPE, data.decode("utf-8", "surrogateescape"), 0
            elif name.startswith(PIPE):
                info.type = random.choice((tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE))
            tar.addfile(info, io.BytesIO(data))
    plain = file.getvalue()
    if kind == 1:
        import gzip

        return gzip.compress(plain, 1, mtime=0)
    if kind == 2:
        return lzma.compress(plain, preset=0)
    return zstandard.compress(plain) if kind == 3 else plain


def _archive_input(random: Random) -> bytes:
    top = random.choice(("", "set/"))
    files = {f"{top}{name}": data for name, data in _tree().items()}
    if random.random() < 0.5:
        return _packed(tree_changed(files, random), random)
    return bytes_changed(_packed(files, random), random)


# --- tensors ----------------------------------------------------------------------------------------------------------


def _npz_input(random: Random) -> bytes:
    file = io.BytesIO()
    arrays = {"images": _odd_array(_images(), random), "labels": _odd_array(LABELS, random)}
    np.savez(file, **arrays)
    return archive_changed(file.getvalue(), random) if random.random() < 0.8 else file.getvalue()


def _odd_array(values: np.ndarray, random: Random) -> np.ndarray:
    """The array, or now and then another type, order, shape or number in it."""
    kind = random.randrange(16)
    if kind == 0:
        return values.astype(random.choice((">f4", "<f8", "f2", ">i2", "c8", "?", "i1", "u8")))
    if kind == 1:
        return np.asfortranarray(values)
    if kind == 2:
        return values[..., :0] if random.random() < 0.5 else values[:0]
    if kind == 3:
        return values.astype(np.float32) * random.choice((np.nan, np.inf, -1, 1e38))
    if kind == 4:
        return values.reshape(-1) if random.random() < 0.5 else values[None]
    return values


def _safetensors_input(random: Random) -> bytes:
    data = save({"images": _images(), "labels": LABELS})
    if random.random() < 0.3:
        return bytes_changed(data, random)
    length = int.from_bytes(data[:8], "little")
    header = value_changed(json.loads(data[8 : 8 + length]), random)
    if random.random() < 0.3 and isinstance(header, dict) and isinstance(header.get("images"), dict):
        header["images"]["shape"] = [random.choice((*NUMBERS, -1, 3)) for _ in range(random.choice((4, 4, 2, 5)))]
    text = json.dumps(header).encode("utf-8", "replace")
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


@cache
def _torch_files() -> tuple[bytes, ...]:
    images, labels = torch.from_numpy(_images()), torch.from_numpy(LABELS)
    unit = images.float() / 255
    deep: Any = [images, labels]
    for _ in range(50):
        deep = [deep]
    contents: list[Any] = [
        [images, labels], {"data": [[unit, labels], [unit, labels]], "accs": {"a": [np.float64(0.4)]}}, deep,
        {"images": images, "labels": labels}, [images, labels.float()], [unit.to(torch.bfloat16), labels],
        [images.expand(4, 3, SIZE, SIZE), labels], [torch.zeros(1).expand(10**6, 10**4, 1, 1), labels],
        [images.to_sparse(), labels], [torch.empty(4, 3, 8, 8, device="meta"), labels], [images[:0], labels[:0]],
        [torch.quantize_per_tensor(unit, 0.1, 0, torch.quint8), labels], [images, labels.to(torch.uint8)],
        [unit.requires_grad_(), labels], [images.to(torch.complex64), labels], "text", {}, [images],
    ]  # fmt: skip
    files = []
    for content in contents:
        for new in (True, False):
            file = io.BytesIO()
            torch.save(content, file, _use_new_zipfile_serialization=new)
            files.append(file.getvalue())
    return tuple(files)


def _torch_input(random: Random) -> bytes:
    data = random.choice(_torch_files()) if random.random() < 0.5 else _torch_files()[random.choice((0, 0, 1, 2, 3))]
    if random.random() < 0.1:
        return data
    return archive_changed(data, random) if data.startswith(b"PK") else bytes_changed(data, random)


def _read_torch(path: Path) -> None:
    """Every other file with the word that floats need."""
    _read_set(path, undo="unit" if path.stat().st_size % 2 else "")


# --- parquet ----------------------------------------------------------------------------------------------------------


@cache
def _parquet_files() -> tuple[bytes, ...]:
    import pyarrow
    import pyarrow.parquet

    cells = [{"bytes": png(index), "path": "x"} for index in range(len(LABELS))]
    names = ["one" if label else "two" for label in LABELS.tolist()]
    tables = [
        {"image": cells, "label": LABELS.tolist()}, {"image": [png(0)] * 4, "label": names},
        {"image": [None, *cells[1:]], "label": LABELS.tolist()}, {"image": cells, "label": [0.5, None, 1, 2]},
        {"image": [[1, 2]] * 4, "label": LABELS.tolist()}, {"image": cells, "label": [[0], [0], [1], [1]]},
        {"picture": cells, "label": LABELS.tolist()}, {"image": cells, "label": [0, 0, 1, 2**62]},
    ]  # fmt: skip
    files = []
    for table in tables:
        for packing in ("none", "zstd"):
            file = io.BytesIO()
            pyarrow.parquet.write_table(pyarrow.table(table), file, compression=packing)
            files.append(file.getvalue())
    return tuple(files)


def _parquet_input(random: Random) -> bytes:
    data = random.choice(_parquet_files()[:4]) if random.random() < 0.8 else random.choice(_parquet_files())
    if random.random() < 0.1:
        return data
    if random.random() < 0.5:
        return bytes_changed(data, random)
    tail = random.randrange(10, 600)  # the file's metadata, where all sizes stand
    return data[:-tail] + bytes_changed(data[-tail:-8], random, 2) + data[-8:]


# --- stored labels ----------------------------------------------------------------------------------------------------


@cache
def _label_files() -> tuple[bytes, ...]:
    logits = torch.randn(3, CLASSES, dtype=torch.float16, generator=torch.Generator().manual_seed(0))
    files = []
    for content in (
        [torch.rand(3, 4), torch.zeros(3, dtype=torch.bool), None, 0.5, [1, 2], logits], [logits],
        [logits[0]], [torch.rand(3, 2, 5)], [logits * float("inf")], [torch.rand(3, CLASSES + 1)],
        [torch.zeros(1).expand(10**9, CLASSES)], [torch.rand(3, CLASSES).double()],
    ):  # fmt: skip
        file = io.BytesIO()
        torch.save(content, file)
        files.append(file.getvalue())
    return tuple(files)


def _labels_input(random: Random) -> Files:
    files = {f"epoch_0/batch_{index}.tar": _label_files()[0] for index in range(2)}
    name = random.choice(sorted(files))
    data = random.choice(_label_files())
    files[name] = data if random.random() < 0.1 else archive_changed(data, random)
    return tree_changed(files, random) if random.random() < 0.2 else files


READERS: dict[str, Reader] = {
    "set-tree": of_tree(_tree_input, _read_tree),
    "set-class-list": of_tree(_list_input, _read_tree),
    "set-archive": of_file("set.tar", _archive_input, _read_set),
    "set-npz": of_file("set.npz", _npz_input, _read_set),
    "set-safetensors": of_file("set.safetensors", _safetensors_input, _read_set),
    "set-pt": of_file("set.pt", _torch_input, _read_torch),
    "set-parquet": of_file("set.parquet", _parquet_input, _read_set),
    "stored-labels": of_tree(_labels_input, lambda root: _stored_labels.describe(root, CLASSES)),
}
