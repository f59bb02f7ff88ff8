"""Raw labels are made once: whatever reads them later asks no teacher, and no set exceeds the limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.artifacts.size_limits import KEEP_LABELS, STORE_LIMIT
from bench.artifacts.store import Store
from bench.driver import walk
from bench.driver.coming_labels import labels_to_keep
from bench.labels import kept_labels, label_file
from bench.labels.kept_labels import RAW, kept_set, marks, reserved
from bench.plugins.registry import discover
from bench.stages import isolation, label
from bench.stages.condense import condense
from bench.stages.encode import encode_labels
from bench.stages.teach import teach
from bench.trials.trial import Trial
from tests.worlds import ROOT

COMPRESSORS = ("none", "svd", "rpca", "quant", "pq")
SHARDS = [7, 7, 6]


class Desk:
    """Twenty digits in three shards, and a count of how often a shard's views were asked of the teacher."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(isolation, "_method_code_ran", False)  # put back afterwards: other tests open test splits
        self.ws = Workspace(folder / "store", discover())
        self.dataset = describe(self.ws, "digits")
        self.teacher = teach(self.ws, "small-teacher-v1", self.dataset)
        self.condensed = condense(self.ws, "random", self.dataset, self.teacher, 2, 0)
        self.asked: Counter[int] = Counter()
        original = label.teacher_logits

        def counted(ensemble: Any, images: Any, views: Any, indices: np.ndarray, *rest: Any) -> torch.Tensor:
            self.asked[int(indices[0])] += 1
            return original(ensemble, images, views, indices, *rest)

        monkeypatch.setattr(label, "teacher_logits", counted)
        monkeypatch.setattr(label_file, "shard_sizes", lambda *_: SHARDS)

    def encode(self, compressor: str, budget: str | None = "3x") -> list[bytes]:
        trial = Trial("digits", "small-soft-v1", "random", 2, compressor, budget, "convnet", 0)
        given = self.dataset, [self.teacher], self.condensed
        first = encode_labels(self.ws, trial, *given, [0])
        refs = first + encode_labels(self.ws, trial, *given, [1, 2], first[0] if compressor == "pq" else None)
        return [(self.ws.store.root / ref.address).read_bytes() for ref in refs]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def test_five_compressors_read_what_the_teacher_said_once(desk: Desk) -> None:
    for compressor in COMPRESSORS:
        desk.encode(compressor, None if compressor == "none" else "3x")
    assert desk.asked == {0: 1, 7: 1, 14: 1}
    assert len(list((desk.ws.store.root / RAW).glob("*.safetensors"))) == 3
    ((mark, kept),) = marks(desk.ws.store.root / RAW)
    assert kept.size == 20 * 100 * 10 * 2
    assert {path.name for path in mark.parent.glob("*.safetensors")} == set(kept.shards)
    assert kept.name.startswith("digits, 20 images x 100 views")


def test_labels_beyond_the_limit_are_the_same_and_are_made_again(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [content_of(part) for part in desk.encode("svd")]
    desk.asked.clear()
    monkeypatch.setenv(KEEP_LABELS.variable, "39kB")  # the set takes 40
    other = Workspace(tmp_path / "other", desk.ws.registry)
    desk.ws = other
    desk.condensed = condense(other, "random", desk.dataset, desk.teacher, 2, 0)
    assert [content_of(part) for part in desk.encode("svd")] == kept
    desk.encode("svd", "5x")
    assert desk.asked == {0: 2, 7: 2, 14: 2}
    assert not (other.store.root / RAW).exists()


def content_of(file: bytes) -> bytes:
    """The arrays of an artifact, without its metadata, which tell the time that it took."""
    return file[8 + int.from_bytes(file[:8], "little") :]


def test_the_teachers_are_loaded_once_for_many_shards_and_not_at_all_for_those_that_are_there(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Any] = []
    member = label.loaded.member
    monkeypatch.setattr(label.loaded, "member", lambda *args, **more: loaded.append(args) or member(*args, **more))
    trial = Trial("digits", "small-soft-v1", "random", 2, "svd", "3x", "convnet", 0)
    refs = encode_labels(desk.ws, trial, desk.dataset, [desk.teacher], desk.condensed, [0, 1, 2])
    assert (len(loaded), len(refs)) == (1, 3)
    assert encode_labels(desk.ws, trial, desk.dataset, [desk.teacher], desk.condensed, [2, 0]) == [refs[2], refs[0]]
    assert len(loaded) == 1


@pytest.mark.parametrize(
    ("shards", "tasks", "sizes"),
    [(1, 4, [1]), (3, 4, [1, 1, 1]), (9, 4, [3, 3, 3]), (10, 4, [3, 3, 3, 1]), (451, 4, [16] * 28 + [3]), (0, 4, [])],
)
def test_shards_are_shared_out_among_tasks(shards: int, tasks: int, sizes: list[int]) -> None:
    groups = walk._groups(range(shards), tasks)
    assert [len(group) for group in groups] == sizes
    assert [shard for group in groups for shard in group] == list(range(shards))


# --- the limit -------------------------------------------------------------------------------------------------------


def reserve(store: Store, name: str, size: int) -> bool:
    return kept_set(store, name, {"set": name}, [{"set": name, "shard": 0}], size)


def test_sets_share_a_limit_and_one_that_has_begun_keeps_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    monkeypatch.setenv(KEEP_LABELS.variable, "100B")
    assert reserve(store, "a", 60)
    assert not reserve(store, "b", 60)
    assert reserve(store, "c", 40)
    assert reserve(store, "a", 60)
    monkeypatch.setenv(KEEP_LABELS.variable, "0")
    assert reserve(store, "a", 60)
    assert not reserve(store, "d", 1)
    assert sorted(reserved(tmp_path / RAW).values()) == [40, 60]
    (tmp_path / RAW / "old.safetensors").write_bytes(bytes(7))  # of a version that had no marks
    (tmp_path / RAW / f"torn{kept_labels.MARK}").write_text('{"name"')
    assert sum(reserved(tmp_path / RAW).values()) == 107


def test_a_set_for_which_the_disk_or_the_store_has_no_room_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_labels, "free_bytes", lambda _: 10**9)
    assert not reserve(Store(tmp_path), "large", 9 * 10**8)
    assert reserve(Store(tmp_path), "fits", 7 * 10**8)
    monkeypatch.setenv(STORE_LIMIT.variable, "1MB")
    assert not reserve(Store(tmp_path), "beyond", 2 * 10**6)


def test_what_will_be_kept_is_told_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = Workspace(tmp_path, discover())
    monkeypatch.setattr(kept_labels, "SMALL", 0)
    monkeypatch.setattr("bench.driver.coming_labels.SMALL", 0)

    def line(*replicates: int, **more: Any) -> str:
        trials = [
            Trial("digits", "small-soft-v1", "random", more.get("ipc", 2), "svd", budget, "convnet", replicate)
            for replicate in replicates
            for budget in ("2x", "3x")
        ]
        (only,) = labels_to_keep(ws, trials)
        return only

    assert "digits, small-soft-v1, ipc 2: the raw labels take 40.0 kB; they are made once and kept in" in line(0)
    assert "(limit 40.0 GB, see --keep-labels)." in line(0)
    monkeypatch.setenv(KEEP_LABELS.variable, "100kB")
    assert "of a condensed set take 40.0 kB, up to 3 sets;" in line(0, 1, 2)
    assert "sets beyond the limit are labelled again" in line(0, 1, 2)
    told = line(0, ipc=10)
    assert "take 200.0 kB, more than may be kept (100.0 kB): every compressor and budget asks the teacher again" in told
    assert "--keep-labels 1GB keeps them" in told
    hard = Trial("digits", "small-hard-v1", "random", 2, None, None, "convnet", 0)
    unknown = Trial("nothing", "small-soft-v1", "random", 2, "svd", "2x", "convnet", 0)
    assert labels_to_keep(ws, [hard, unknown]) == []


# --- memory ----------------------------------------------------------------------------------------------------------

SCRIPT = """
import json, resource, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
import torch
from bench.artifacts.refs import LabelsRef, Workspace
from bench.artifacts.store import write
from bench.labels import reader as readers
from bench.plugins.registry import discover
from bench.protocol.recipe import Augment
from bench.stages.train import _reader
from bench.views.parameters import Views
from methods._codec.container import pack

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20 * 1024

readers.HELD = 4 * 2**20
ws, trial = Workspace(sys.argv[1], discover()), SimpleNamespace(compressor="none")

def read(shards):
    n, k, c = 64, 64, 256  # 2 MiB a shard
    views = np.frombuffer(Views(Augment(), n * shards, 8, mirror=False, batch=8, seed=1, count=k).to_bytes(), np.uint8)
    refs = []
    for shard in range(shards):
        blob = pack("none", (n, k, c), {"X": np.full(n * k * c, shard, np.float16)})
        arrays = {"views": views, "shared": np.zeros(0, np.uint8), "blob": np.frombuffer(blob, np.uint8)}
        write(ws.store.root / f"{shards}-{shard}.safetensors", arrays, {})
        refs.append(LabelsRef(f"{shards}-{shard}.safetensors", 0.0))
    with _reader(ws, trial, None, SimpleNamespace(images=n * shards), refs) as (reader, _):
        rows = reader.rows([3])
        assert rows[:, 0, 0].tolist() == [float(i // n) for i in range(n * shards)]
        assert reader.sizes()["total"] > 2**21 * shards

read(2)
before = peak()
read(int(sys.argv[2]))
print(json.dumps(peak() - before))
"""


@pytest.mark.parametrize("shards", [12, 48])
def test_a_student_reads_labels_from_their_files_in_the_memory_of_a_view(shards: int, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(shards)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    view = shards * 64 * 256 * 4 / 2**20  # MiB of float32
    assert json.loads(done.stdout) < 12 + 3 * view  # the blobs take 24 and 96 MiB
