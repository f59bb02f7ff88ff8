"""Readers of stored labels: the blobs of every compressor, label files, parameters of views, labels made elsewhere.

Blobs are changed with their structure known: whole sections by name, then bytes, and nearly always the checksums made
right afterwards, as somebody would who means harm.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import numpy as np
import torch

from bench.api import SoftLabels
from bench.artifacts.store import Store
from bench.errors import UserError
from bench.labels import adapter
from bench.labels.label_file import LabelFile
from bench.labels.reader import EncodedLabels, stored_views
from bench.protocol.recipe import Augment
from bench.seeds import numpy_generator
from bench.studies.label_sets.label_sources import BareContext, FileLabels
from bench.trials.budget import reference_bytes
from bench.views.parameters import Views
from methods._codec.container import DTYPES, Container, pack, unpack
from tests.fuzz.changes import NUMBERS, Files, bytes_changed, spliced, value_changed
from tests.fuzz.reader import Reader, folder, of_bytes, of_file
from tests.fuzz.texts import registry

SHAPES = ((5, 4, 7), (3, 6, 12))  # images, views, classes
FLOATS = (np.nan, np.inf, -np.inf, 0.0, 1e38, -1e38, 1e-45)
_HEAD = 7  # bytes of a blob before what its checksum is of
_RIGHT = 0.95  # of the blobs have a right checksum
PARAMETERS: dict[str, tuple[dict[str, Any], ...]] = {
    "cur": ({}, {"centre": False}),
    "lpld": ({}, {"unit": "batch"}),
    "lpqld": ({"pool": 0.5}, {"pool": 0.5, "rest": "minimum"}),
    "marginal_renorm": ({}, {"k": 2}),
    "quant": ({}, {"coder": "zstd"}, {"bits": 2}),
    "rpca": ({}, {"entries": "pursuit"}),
    "svd": ({}, {"factor": "int8"}, {"layout": "set"}),
    "topk": ({}, {"rest": "minimum"}),
    "vq": ({"steps": 5},),
}  # what is not said is left at its default
PROBABILITIES = {"domain": "probabilities", "temperature": 4.0}


@dataclass(frozen=True)
class Stored:
    """A good set of encoded labels."""

    images: int
    views: bytes
    shared: bytes
    blob: bytes


def views_of(n: int, k: int) -> Views:
    """Views in batches, as a protocol with CutMix draws them."""
    augment = Augment(crop_scale=(0.5, 1), mix="cutmix", mix_unit="batch")
    return Views(augment, n, 8, mirror=False, batch=2, seed=1, count=k)


@cache
def stored(name: str) -> tuple[Stored, ...]:
    """Good blobs of a compressor: of two sets, and in each of its ways."""
    plugin = registry().get("compressor", name)
    ways = list(PARAMETERS.get(name, ({},)))
    if "domain" in plugin.parameters:
        ways.append({**ways[0], **PROBABILITIES})
    return tuple(_encoded(plugin.module, name, shape, way) for shape in SHAPES for way in ways)


def _encoded(module: ModuleType, name: str, shape: tuple[int, int, int], way: dict[str, Any]) -> Stored:
    n, k, c = shape
    rng = numpy_generator("fuzz", name, n)
    logits = (rng.standard_normal((n, 1, c)) * 3 + rng.standard_normal(shape)).astype(np.float16)
    views = views_of(n, k)
    labels = SoftLabels(torch.from_numpy(logits), torch.arange(n) % c, views)
    ctx = BareContext(folder(), "fuzz", name)
    budget = 4 * reference_bytes(*shape)
    shared = adapter.fit(module, labels, budget, ctx, **way) if adapter.takes_shared(module) else b""
    return Stored(n, views.to_bytes(), shared, adapter.encode(module, labels, budget, ctx, shared, **way))


# --- changed blobs ----------------------------------------------------------------------------------------------------


def _changed(name: str, random: Random) -> Files:
    one = random.choice(stored(name))
    blob, shared, views = one.blob, one.shared, one.views
    kind = random.randrange(10)
    if kind < 4:
        blob = section_changed(blob, random)
    elif kind < 7:
        blob = blob[:_HEAD] + bytes_changed(blob[_HEAD:], random)
    elif kind < 8:
        other = random.choice(stored(name))
        blob = blob[:_HEAD] + spliced(blob[_HEAD:], other.blob[_HEAD:], random)
        shared = random.choice((shared, other.shared))
    elif kind < 9 and shared:
        shared = _shared_changed(shared, random)
        blob = _of_shared(blob, shared)
    else:
        views = _views_changed(views, random) if random.random() < 0.3 else views
        blob = blob[:_HEAD] + bytes_changed(blob[_HEAD:], random)[: random.randrange(len(blob))]
    if random.random() < _RIGHT:
        blob = right(blob)
    rows = json.dumps([random.randrange(4), random.choice((0, 1, 2))])
    return {"blob": blob, "shared": shared, "views": views, "images": str(one.images).encode(), "rows": rows.encode()}


def right(blob: bytes) -> bytes:
    """The blob with the checksum of what it holds now."""
    return blob[:3] + struct.pack("<I", zlib.crc32(blob[_HEAD:])) + blob[_HEAD:]


def section_changed(blob: bytes, random: Random) -> bytes:
    """A blob of the project's container with a section, its type or its size, or the shape, changed."""
    container = _parsed(blob)
    sections, shape = dict(container.sections), list(container.shape)
    for _ in range(random.choice((1, 1, 2))):
        if random.random() < 0.15 or not sections:
            at = random.randrange(3)
            shape[at] = random.choice((shape[at] + 1, shape[at] - 1, 0, *NUMBERS)) % 2**63
            continue
        key = random.choice(sorted(sections))
        values = np.array(sections[key])
        kind = random.randrange(8)
        if kind == 0:
            del sections[key]
        elif kind == 1:
            sections[random.choice(("x", "e", "s", "T", "Z", "b", key * 2))[:200]] = values
        elif kind == 2:
            raw = values.tobytes()
            dtype = np.dtype(random.choice(DTYPES))
            sections[key] = np.frombuffer(raw[: len(raw) // dtype.itemsize * dtype.itemsize], dtype)
        elif kind == 3:
            sections[key] = values[: random.randrange(len(values) + 1)]
        elif kind == 4:
            sections[key] = np.concatenate([values, values])[: len(values) + random.choice((1, 2, len(values)))]
        elif len(values):
            sections[key] = _values_changed(values, random)
    return pack(container.codec, (shape[0], shape[1], shape[2]), sections)


def _values_changed(values: np.ndarray, random: Random) -> np.ndarray:
    out = values.copy()
    places = [random.randrange(len(out)) for _ in range(random.choice((1, 1, 3, len(out))))]
    for at in places:
        if out.dtype.kind == "f":
            with np.errstate(over="ignore"):
                out[at] = random.choice((*FLOATS, float(out[at]) * 1e4, -float(out[at])))
        else:
            bits = 8 * out.dtype.itemsize
            number = random.choice((*NUMBERS, random.getrandbits(bits))) % 2**bits
            out[at] = np.array(number, f"<u{out.dtype.itemsize}").view(out.dtype)
    return out


def _shared_changed(shared: bytes, random: Random) -> bytes:
    if random.random() < 0.5:
        try:
            return section_changed(shared, random)
        except ValueError:
            pass  # it is no container
    return right(shared[:_HEAD] + bytes_changed(shared[_HEAD:], random))


def _of_shared(blob: bytes, shared: bytes) -> bytes:
    """The blob, made to belong to another shared part: it holds a checksum of its own one."""
    container = _parsed(blob)
    checksum = np.array([zlib.crc32(shared)], np.uint32)
    sections = {key: checksum if key in ("c", "s") else values for key, values in container.sections.items()}
    return pack(container.codec, container.shape, sections)


def _parsed(blob: bytes) -> Container:
    return unpack(blob, blob[_HEAD + 1 : _HEAD + 1 + blob[_HEAD]].decode())


def _views_changed(views: bytes, random: Random) -> bytes:
    if random.random() < 0.5:
        return bytes_changed(views, random)
    return json.dumps(value_changed(json.loads(views), random)).encode()


def _read_blob(name: str, files: Files) -> None:
    """As training does it: rows of a label file of one shard."""
    module = registry().get("compressor", name).module
    file = LabelFile(files["views"], files["shared"], (files["blob"],))
    reader = EncodedLabels(file, module, int(files["images"] or b"0"), name)
    first, count = json.loads(files["rows"] or b"[0, 1]")
    reader.rows(reader.available[first : first + count].tolist())


def _reader_of(name: str) -> Reader:
    return Reader(lambda random: _changed(name, random), lambda files: _read_blob(name, files))


# --- what lies around blobs -------------------------------------------------------------------------------------------


def _label_file(random: Random) -> bytes:
    data = LabelFile(random.randbytes(9), random.randbytes(300), (random.randbytes(20), b"")).to_bytes()
    return bytes_changed(data, random)


def _views(random: Random) -> bytes:
    return _views_changed(views_of(300, 1000).to_bytes(), random)


def _read_views(data: bytes) -> None:
    """Parameters of views of 300 images, and the first view that they draw."""
    assert stored_views(data, 300)[0].size


@cache
def _npz(packed: bool) -> bytes:
    file = io.BytesIO()
    rng = numpy_generator("fuzz", "npz")
    save = np.savez_compressed if packed else np.savez
    save(file, logits=rng.standard_normal((5, 4, 7)).astype(np.float16), hard=np.arange(5))
    return file.getvalue()


def _npz_changed(random: Random) -> bytes:
    return archive_changed(_npz(random.random() < 0.5), random)


def archive_changed(data: bytes, random: Random) -> bytes:
    """A zip with its bytes changed, or the content of a member, with everything around that made right."""
    if random.random() < 0.4:
        return bytes_changed(data, random)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        listed = old.infolist()
        chosen = random.choice(listed)
        for info in listed:
            content = old.read(info)
            if info is chosen:
                kind = random.randrange(8)
                if kind == 0:
                    continue
                content = bytes_changed(content, random) if kind < 7 else content
                if kind == 1:
                    info.filename = bytes_changed(info.filename.encode(), random)[:200].decode("latin-1") or "x"
                info.compress_type = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, info.compress_type))
            new.writestr(info, content)
    return out.getvalue()


def _read_npz(path: Path) -> None:
    """Labels made elsewhere (`labels --npz`), all their parts."""
    labels = FileLabels(path, Store(folder()))
    if labels.shape[0] * labels.shape[1] * labels.shape[2] > 10**6:
        raise UserError("larger than any input can be")
    for _ in labels.parts():
        pass


READERS: dict[str, Reader] = {
    **{f"blob-{name}": _reader_of(name) for name in registry().names("compressor")},
    "label-file": of_bytes(_label_file, LabelFile.from_bytes),
    "views": of_bytes(_views, _read_views),
    "label-npz": of_file("labels.npz", _npz_changed, _read_npz),
}
