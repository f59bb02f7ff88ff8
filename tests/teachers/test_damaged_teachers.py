"""A teacher whose file is not what was written is never used under the digest of the true one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.artifacts.store import DamagedArtifact, write
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.stages.teach import teach
from bench.teachers import loaded, teacher_files
from bench.teachers.teacher_files import TeacherRef, read_recipe
from bench.teachers.weights import make

pytestmark = pytest.mark.trains
RECIPE = 'network = "convnet:width=4"\n[recipe]\nepochs = 1\nbatch = 256\n'


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "store", discover())


def made(ws: Workspace, tmp_path: Path) -> TeacherRef:
    path = tmp_path / "quick-v1.toml"
    path.write_text(RECIPE)
    dataset = describe(ws, "digits")
    recipe = read_recipe(path, ws.registry, "digits", 10)
    return make(ws.store, ws.described(dataset), recipe, dataset.digest)


def test_a_teacher_in_the_store_that_was_zeroed_or_cut_is_made_again(ws, tmp_path, caplog):
    ref = made(ws, tmp_path)
    path = ref.path(ws.store)
    whole, arrays = path.read_bytes(), load_file(path)
    with safe_open(path, "np") as file:
        text = file.metadata()["json"]
    save_file({name: np.zeros_like(array) for name, array in arrays.items()}, path, metadata={"json": text})
    assert made(ws, tmp_path) == ref
    path.write_bytes(whole[: len(whole) // 2])
    assert made(ws, tmp_path) == ref
    assert load_file(path).keys() == arrays.keys()
    assert all((load_file(path)[name] == array).all() for name, array in arrays.items())
    assert len(caplog.records) == 2


def test_weights_under_anothers_digest_are_not_loaded_though_their_file_is_whole(ws, tmp_path):
    ref = made(ws, tmp_path)
    path = ref.path(ws.store)
    with safe_open(path, "np") as file:
        meta = json.loads(file.metadata()["json"])
    del meta["content"]
    write(path, {name: np.zeros_like(array) for name, array in load_file(path).items()}, meta)
    with pytest.raises(DamagedArtifact, match="its weights are not those of teacher"):
        loaded.load(ref, ws.store, ws.registry, ws.data("digits"))
    assert made(ws, tmp_path) == ref
    assert loaded.load(ref, ws.store, ws.registry, ws.data("digits")) is not None


def test_a_shipped_teacher_that_is_cut_short_is_told_in_a_sentence(ws, tmp_path, monkeypatch):
    folder = tmp_path / "teachers"
    (folder / "small-teacher-v1").mkdir(parents=True)
    for name in ("small-teacher-v1.toml", "small-teacher-v1/digits.safetensors"):
        (folder / name).write_bytes((teacher_files.FOLDER / name).read_bytes()[: 500 if name.endswith("ors") else None])
    monkeypatch.setattr(teacher_files, "FOLDER", folder)
    with pytest.raises(UserError, match="the teacher that this project ships is damaged"):
        teach(ws, "small-teacher-v1", describe(ws, "digits"))
