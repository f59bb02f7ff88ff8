"""Readers of what the harness itself wrote: artifacts, teachers, record folders, manifests, kept pixels; and of the
weights and recipes of a user's own teachers."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
from safetensors.torch import save

from bench.artifacts import store
from bench.artifacts.describe import released_dataset_digest
from bench.checks.records.check_records import check_records
from bench.errors import UserError
from bench.finding import as_text
from bench.photographs.decoding import Policy
from bench.photographs.listing import list_files
from bench.photographs.manifest import SUFFIX, content_digests, known_digests
from bench.photographs.pixel_cache import PixelCache
from bench.records.files import latest, scan
from bench.reports.leaderboard.page import render
from bench.reports.leaderboard.rows import leaderboard
from bench.teachers.loaded import _weights
from bench.teachers.state_files import fitted, read_state, usual
from bench.teachers.teacher_files import TeacherRef, _shipped_facts, read_recipe
from protocols.networks import build
from tests.fuzz.blobs import archive_changed
from tests.fuzz.changes import Files, bytes_changed, toml_changed, tree_changed, value_changed
from tests.fuzz.reader import Reader, folder, of_file, of_tree
from tests.fuzz.texts import committed, record_with_values, registry

LOOK = SimpleNamespace(channels=1, size=8, num_classes=3)


@cache
def _artifact() -> bytes:
    path = folder() / "a.safetensors"
    store.write(path, {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros((0, 4), np.uint8)}, {"inputs": {"x": 1}})
    return path.read_bytes()


def header_changed(data: bytes, random: Random) -> bytes:
    """A safetensors file with its bytes changed, or what its header says."""
    if random.random() < 0.5:
        return bytes_changed(data, random)
    length = int.from_bytes(data[:8], "little")
    text = json.dumps(value_changed(json.loads(data[8 : 8 + length]), random)).encode("utf-8", "replace")
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _read_artifact(path: Path) -> None:
    for array in store.read(path).arrays.values():
        array.sum()


# --- teachers ---------------------------------------------------------------------------------------------------------


@cache
def _network() -> torch.nn.Module:
    return build("convnet", channels=1, size=8, num_classes=3, seed=0, width=2, depth=1)


@cache
def _state_files() -> tuple[bytes, ...]:
    state = {name: tensor.clone() for name, tensor in _network().state_dict().items()}
    wrapped = {"model": {f"module.{name}": each for name, each in state.items()}}
    contents = (state, {"state_dict": state, "epoch": 3}, wrapped, {"net": {}}, [state], {"state_dict": {"a": 1}})
    files = []
    for each in contents:
        for new in (True, False):
            file = io.BytesIO()
            torch.save(each, file, _use_new_zipfile_serialization=new)
            files.append(file.getvalue())
    return tuple(files)


def _state_input(random: Random) -> Files:
    usual(LOOK.channels, LOOK.size, LOOK.num_classes)  # what a misfit is compared with: seconds that no input takes
    if random.random() < 0.4:
        tensors = {name: tensor.clone() for name, tensor in _network().state_dict().items()}
        return {"weights.safetensors": header_changed(save(tensors), random)}
    data = random.choice(_state_files())
    return {"weights.pt": archive_changed(data, random) if data.startswith(b"PK") else bytes_changed(data, random)}


def _read_state(root: Path) -> None:
    """The weights of a user's teacher, fitted to the network that the recipe names."""
    (path,) = root.iterdir()
    state = fitted(read_state(path), _network(), LOOK, "teacher 'mine'")  # type: ignore[arg-type]
    _network().load_state_dict(state)


def _teacher_input(random: Random) -> bytes:
    tensors = {name: tensor.clone() for name, tensor in _network().state_dict().items()}
    facts = json.dumps({"made_from": "0" * 64, "digest": "1" * 64, "accuracy": 0.5})
    return header_changed(save(tensors, {"json": facts}), random)


def _read_teacher(path: Path) -> None:
    """A teacher that ships with the project, or lies in the store: what it tells of itself, and its weights."""
    _shipped_facts(path)
    _weights(TeacherRef("a", True, "convnet", "1" * 64, 0.5), path)


def _recipe_input(random: Random) -> bytes:
    names = ("cifar-convnet-v1", "imagenet-resnet18-v1", "small-teacher-v1")
    return toml_changed(random.choice([f"protocols/teachers/{name}.toml" for name in names]), random)


def _read_recipe(path: Path) -> None:
    read_recipe(path, registry(), "digits", 10)


# --- folders of records -----------------------------------------------------------------------------------------------


def _folder_input(random: Random) -> Files:
    lines = random.sample(committed(), random.choice((1, 2, 4)))
    for _ in range(random.choice((1, 1, 3))):
        changed = record_with_values(random) if random.random() < 0.7 else bytes_changed(random.choice(lines), random)
        lines.append(changed)
    random.shuffle(lines)
    files = {"records.jsonl": b"\n".join(lines) + random.choice((b"", b"\n", b"\r\n"))}
    return tree_changed(files, random) if random.random() < 0.1 else files


def _read_folder(root: Path) -> None:
    """As `leaderboard` and `check records` do, but for what reads no record: the canaries, and the released data sets,
    which are looked up once."""
    loaded = scan(root)
    tables = leaderboard(latest(loaded.records))
    render(tables, ("text", "md", "csv", "latex", "json")[len(loaded.records) % 5])
    with (
        mock.patch("bench.checks.records.check_records.guard"),
        mock.patch("bench.checks.records.prescribed.released_dataset_digest", _released),
    ):
        checked = check_records(root, registry=registry(), store=folder() / "store")
    as_text(checked.findings, checked.summary)
    if loaded.problems:
        raise UserError(f"left out: {loaded.problems[0]}")


_released = cache(released_dataset_digest)


# --- caches of photographs --------------------------------------------------------------------------------------------


def _manifest_input(random: Random) -> bytes:
    from bench.photographs.manifest import ROW

    file = io.BytesIO()
    np.save(file, np.zeros(1, ROW))
    return bytes_changed(file.getvalue(), random)


def _read_manifest(path: Path) -> None:
    """The digests of files, where the manifest of just these, or of others, is damaged."""
    picture = path.with_name("picture.png")
    if not picture.exists():
        picture.write_bytes(b"a picture")
    files = list_files([picture])
    own = path.with_name(f"{files.digest[:32]}{SUFFIX}")
    own.write_bytes(path.read_bytes())
    damaged = known_digests(files, path.parent) is None
    assert content_digests(files, path.parent).shape == (1, 32)
    own.unlink()
    content_digests(files, path.parent)
    own.unlink()
    if damaged:
        raise UserError("it is made again")


def _pixels_input(random: Random) -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((2, 3, 4, 4), np.uint8))
    return bytes_changed(file.getvalue(), random)


def _read_pixels(path: Path) -> None:
    """As the first reader of a split does: what is damaged is removed, and then made anew."""
    picture = path.with_name("picture.png")
    picture.write_bytes(b"a picture")
    cache = PixelCache(path.parent, list_files([picture] * 2), Policy(4), np.zeros((2, 32), np.uint8))
    path.replace(cache.path)
    pixels = cache.find()
    if pixels is None:
        raise UserError("it is made again")
    assert pixels[np.array([0])].shape == (1, 3, 4, 4)


READERS: dict[str, Reader] = {
    "artifact": of_file("a.safetensors", lambda random: header_changed(_artifact(), random), _read_artifact),
    "teacher": of_file("teacher.safetensors", _teacher_input, _read_teacher),
    "teacher-weights": of_tree(_state_input, _read_state),
    "teacher-recipe": of_file("mine.toml", _recipe_input, _read_recipe),
    "record-folder": replace(of_tree(_folder_input, _read_folder), share=0.05),
    "manifest": replace(of_file(f"other{SUFFIX}", _manifest_input, _read_manifest), share=0.3),
    "kept-pixels": of_file("a.pixels.npy", _pixels_input, _read_pixels),
}
