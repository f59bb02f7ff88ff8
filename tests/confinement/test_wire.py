"""Values of a plugin's process come back as they were; what is no value is refused, and never run."""

from __future__ import annotations

import json
import os
import pickle
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.confinement import wire

VALUES = [
    None, True, 3, 2.5, "text", b"", b"bytes", [1, (2, "x")], {"a": {"b": [None]}}, np.arange(6).reshape(2, 3),
    np.zeros((0, 3), np.float16), torch.ones(2, 2, dtype=torch.float16), np.float32(0.5),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back(tmp_path: Path, value) -> None:
    tree = json.loads(json.dumps(wire.plain(value, tmp_path / "1")))
    back = wire.rebuilt(tree, tmp_path / "1")
    if isinstance(value, np.ndarray | torch.Tensor):
        assert type(back) is torch.Tensor or isinstance(back, np.ndarray)
        assert back.dtype == value.dtype
        assert back.shape == value.shape
        assert bool((back == value).all())
    else:
        assert back == value
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_value_is_refused_where_it_is_made(tmp_path: Path) -> None:
    for value in (object(), {1: 2}, {1, 2}, lambda: 0):
        with pytest.raises(TypeError):
            wire.plain(value, tmp_path / "1")


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("bomb",)


@pytest.mark.parametrize(
    "tree", [[1], {"array": 0}, {"array": 7}, {"array": "x"}, {"dict": 3}, {"list": 1, "dict": {}}, {"other": 1}, {}]
)
def test_a_tree_that_is_none_is_refused(tmp_path: Path, tree) -> None:
    with pytest.raises(wire.Closed, match="what came back is no value"):
        wire.rebuilt(tree, tmp_path / "1")


def test_files_that_are_no_arrays_are_refused_and_nothing_runs(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    part = tmp_path / "1.0.npy"
    np.save(part, np.array([Bomb()]), allow_pickle=True)
    makers = [lambda: None, lambda: part.write_bytes(pickle.dumps(Bomb())), lambda: part.write_bytes(b"")]
    for make in [*makers, lambda: part.symlink_to("/dev/zero"), lambda: os.mkfifo(part)]:
        make()
        with pytest.raises(wire.Closed, match="what came back is no value"):
            wire.rebuilt({"array": 0}, tmp_path / "1")
        part.unlink()
    assert list(tmp_path.iterdir()) == []


def test_a_message_has_a_size_and_an_end() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(wire.HEAD.pack(10**15))
        with pytest.raises(wire.Closed, match="at most 1000 are read"):
            wire.receive(here, largest=1000)
        there.sendall(wire.HEAD.pack(100) + b"half")
        with pytest.raises(TimeoutError):
            wire.receive(here, deadline=time.monotonic() + 0.05)
        there.close()
        with pytest.raises(wire.Ended):
            wire.receive(here)


@pytest.mark.parametrize("content", [b"", b"[1]", b"nonsense", b"\xff", b"[" * 100_000, b"1" * 10_000])
def test_what_is_no_message_is_refused(content: bytes) -> None:
    with pytest.raises(wire.Closed, match="no message"):
        wire.from_plugin(content)


def test_an_array_that_is_mapped_travels_as_the_name_of_its_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(10**6))
    mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
    sent = wire.to_plugin(mapped)
    assert len(sent) < 1000
    assert (pickle.loads(sent) == mapped).all()
    part = wire.to_plugin(mapped[5:10])
    assert (pickle.loads(part) == mapped[5:10]).all()
