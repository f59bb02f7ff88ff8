"""Artifacts: found where their inputs say, made once, whole or not there at all."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from bench.artifacts import artifact_file
from bench.artifacts.size_limits import KEEP_LABELS, STORE_LIMIT
from bench.artifacts.store import Artifact, Blocks, DamagedArtifact, Store, arrays_digest, read, write
from bench.errors import MachineError, UserError
from tests.worlds import ROOT

INPUTS = {"engine": 1, "dataset": "abc", "method": "score:alpha=2.0", "shard": 0, "views": None}


def numbers(store: Store, inputs: dict[str, Any] = INPUTS) -> Artifact:
    return store.get("numbers", inputs, lambda: ({"x": np.arange(6, dtype=np.int64).reshape(2, 3)}, {"seconds": 0.5}))


def test_made_now_and_read_back_later(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.find("numbers", INPUTS) is None
    made = numbers(store)
    found = store.find("numbers", dict(reversed(INPUTS.items())))
    assert found is not None
    assert found.path == made.path
    np.testing.assert_array_equal(found.arrays["x"], [[0, 1, 2], [3, 4, 5]])
    assert found.meta["seconds"] == 0.5
    assert found.meta["inputs"] == INPUTS  # an artifact tells what it was made from
    assert store.get("numbers", INPUTS, lambda: pytest.fail("made again")).path == made.path
    assert store.relative(made) == f"numbers/{made.path.name}"


def test_arrays_are_mapped_and_cannot_be_written(tmp_path: Path) -> None:
    array = numbers(Store(tmp_path)).arrays["x"]
    assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 9


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"])
def test_types_and_shapes_come_back(tmp_path: Path, dtype: str) -> None:
    arrays = {
        "matrix": np.arange(12).astype(dtype).reshape(3, 4).T, "empty": np.zeros((0, 3), dtype),
        "scalar": np.array(1, dtype), "row": np.arange(5).astype(dtype)[::2],
    }  # fmt: skip
    write(tmp_path / "a.safetensors", arrays, {"text": "ä", "list": [1, {"x": None}]})
    back = read(tmp_path / "a.safetensors")
    assert back.meta == {"text": "ä", "list": [1, {"x": None}]}
    for name, array in arrays.items():
        assert back.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(back.arrays[name], array)


def test_an_artifact_may_hold_no_arrays(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", {}, {"n": 1})
    assert read(tmp_path / "a.safetensors").meta == {"n": 1}


def test_the_address_depends_on_every_input_and_on_nothing_else(tmp_path: Path) -> None:
    store = Store(tmp_path)
    home = store.path("numbers", INPUTS)
    changed = [{**INPUTS, key: "other"} for key in INPUTS]
    fewer = [{k: v for k, v in INPUTS.items() if k != key} for key in INPUTS]
    more = [{**INPUTS, "new": None}]
    addresses = {home, *(store.path("numbers", inputs) for inputs in [*changed, *fewer, *more])}
    assert len(addresses) == 1 + len(changed) + len(fewer) + len(more)
    assert store.path("numbers", {**INPUTS, "engine": 1.0}) == home
    assert store.path("other", INPUTS).name == home.name
    assert store.path("other", INPUTS) != home


def test_a_make_that_raises_leaves_nothing_and_may_be_tried_again(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fail() -> Any:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.get("numbers", INPUTS, fail)
    with pytest.raises(TypeError):  # found while the file is made
        store.get("numbers", INPUTS, lambda: ({"x": np.zeros(3)}, {"bad": object()}))
    with pytest.raises(Exception, match=r"."):
        store.get("numbers", INPUTS, lambda: ({"x": np.array([object()])}, {}))
    assert list(tmp_path.rglob("*.safetensors")) == list(tmp_path.rglob(".making-*")) == []
    assert numbers(store).arrays["x"].shape == (2, 3)


@pytest.mark.parametrize("kept", [0, 5, 8, 60, -1])
def test_a_file_cut_short_is_named(tmp_path: Path, kept: int) -> None:
    path = numbers(Store(tmp_path)).path
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=rf"{path.name} is no readable artifact .*Delete the file"):
        read(path)


@pytest.mark.parametrize("kept", [0, 5, 60, -1])
def test_a_file_cut_short_is_made_again_with_a_line_in_the_log(tmp_path: Path, kept: int, caplog: Any) -> None:
    path = numbers(Store(tmp_path)).path
    whole = path.read_bytes()
    path.write_bytes(whole[:kept])
    assert numbers(Store(tmp_path)).arrays["x"].sum() == 15
    assert path.read_bytes() == whole
    assert next(record.getMessage() for record in caplog.records).endswith("It is made again.")


def test_a_file_that_was_edited_is_made_again(tmp_path: Path, caplog: Any) -> None:
    path = numbers(Store(tmp_path)).path
    whole = path.read_bytes()
    for edited in (whole[:-1] + b"\x09", whole.replace(b'seconds\\": 0.5', b'seconds\\": 0.1')):
        assert edited != whole
        path.write_bytes(edited)
        with pytest.raises(DamagedArtifact, match="its content is not what was written"):
            read(path)
        assert numbers(Store(tmp_path)).arrays["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert path.read_bytes() == whole
    assert len(caplog.records) == 2


def test_what_an_earlier_version_wrote_without_a_digest_is_made_again_but_for_weights_that_have_theirs(
    tmp_path: Path,
) -> None:
    store, arrays = Store(tmp_path), {"x": np.arange(6, dtype=np.int64).reshape(2, 3)}
    made = []
    for kind, meta in (("numbers", {}), ("teacher", {"digest": arrays_digest(arrays)}), ("teacher", {"digest": "0"})):
        path = store.path(kind, INPUTS)
        path.parent.mkdir(exist_ok=True)
        save_file(arrays, path, metadata={"json": json.dumps(meta)})
        store.get(kind, INPUTS, lambda kind=kind: (made.append(kind) or arrays, {}))
        path.unlink()
    assert made == ["numbers", "teacher"]


def test_the_content_of_a_file_is_looked_at_once_in_a_process(tmp_path: Path, monkeypatch: Any) -> None:
    store, looked = Store(tmp_path), []
    path = numbers(store).path
    content = artifact_file._content
    monkeypatch.setattr(artifact_file, "_content", lambda *args: looked.append(args) or content(*args))
    for _ in range(3):
        numbers(store)
    assert looked == []
    os.utime(path, (1, 1))
    for _ in range(3):
        numbers(store)
    assert len(looked) == 1


@pytest.mark.parametrize(
    "content",
    [b"\xff" * 100, b"hello, world, this is no artifact", b"\x02\0\0\0\0\0\0\0[]", b'\x08\0\0\0\0\0\0\0{"x": 1}'],
)
def test_garbage_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="no readable artifact"):
        read(path)


def test_an_artifact_of_another_machine_is_put_where_it_belongs(tmp_path: Path) -> None:
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    made = numbers(there)
    here.adopt(there.relative(made), made.path.read_bytes())
    here.adopt(there.relative(made), b"ignored: it is there already")
    assert here.get("numbers", INPUTS, lambda: pytest.fail("made again")).meta == made.meta


def test_scratch_is_empty_and_goes_away(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.scratch() as one, store.scratch() as two:
        assert one != two
        (one / "file").write_text("x")
        assert list(two.iterdir()) == []
    assert not one.exists()
    assert not two.exists()


# --- several processes -----------------------------------------------------------------------------------------------


def make_slowly(root: Path, log: Path) -> None:
    def make() -> tuple[dict, dict]:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.2)
        return {"x": np.ones(1000)}, {}

    assert Store(root).get("slow", INPUTS, make).arrays["x"].sum() == 1000


def test_four_processes_that_need_the_same_artifact_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=make_slowly, args=(tmp_path, tmp_path / "log")) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len((tmp_path / "log").read_text().split()) == 1


def die_while_writing(root: Path) -> None:
    def half(path: Path, arrays: Any, meta: Any) -> None:
        path.write_bytes(b"half of it")
        os.kill(os.getpid(), signal.SIGKILL)

    artifact_file._save = half  # type: ignore[assignment]
    numbers(Store(root))


def test_a_process_killed_while_it_writes_leaves_no_artifact_and_no_lock(tmp_path: Path) -> None:
    worker = multiprocessing.get_context("fork").Process(target=die_while_writing, args=(tmp_path,))
    worker.start()
    worker.join(30)
    assert worker.exitcode == -signal.SIGKILL
    store = Store(tmp_path)
    assert store.find("numbers", INPUTS) is None
    assert numbers(store).arrays["x"].shape == (2, 3)


# --- arrays that never stand in memory, and limits of size -----------------------------------------------------------


def counted(rows: int, width: int, log: list[int] | None = None) -> Blocks:
    """int64 [rows, width], in blocks of 3 rows."""
    whole = np.arange(rows * width).reshape(rows, width)

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, rows, 3):
            if log is not None:
                log.append(start)
            yield whole[start : start + 3]

    return Blocks((rows, width), np.dtype(np.int64), blocks())


def test_an_array_is_written_block_by_block_and_metadata_are_read_at_the_end(tmp_path: Path) -> None:
    store, meta, log = Store(tmp_path), dict[str, Any](), list[int]()

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        def noting() -> Iterator[np.ndarray]:
            yield from counted(7, 5, log).blocks
            meta["blocks"] = len(log)

        flags = np.array([True, False, True])
        return {"x": Blocks((7, 5), np.dtype(np.int64), noting()), "flags": flags, "none": np.zeros((0, 2))}, meta

    made = store.get("numbers", INPUTS, make)
    assert made.arrays["x"].tolist() == np.arange(35).reshape(7, 5).tolist()
    assert made.arrays["flags"].tolist() == [True, False, True]
    assert log == [0, 3, 6]
    with safe_open(made.path, "np") as file:  # as others read the format
        assert np.array_equal(file.get_tensor("x"), made.arrays["x"])
    edited = made.path.read_bytes()
    made.path.write_bytes(edited[:-9] + b"\x01" + edited[-8:])
    with pytest.raises(DamagedArtifact):
        read(made.path)


@pytest.mark.parametrize(
    ("blocks", "why"),
    [
        ([np.zeros((2, 3))], r"hold 6 values, or more, where \(4, 3\)"),
        ([np.zeros((2, 3)), np.zeros((3, 3))], "hold 15 values"),
        ([np.zeros((4, 3), np.float32)], "a block is float32, the array float64"),
    ],
)
def test_blocks_that_are_not_the_array_leave_nothing(tmp_path: Path, blocks: list[np.ndarray], why: str) -> None:
    array = Blocks((4, 3), np.dtype(np.float64), blocks)
    with pytest.raises(ValueError, match=why):
        Store(tmp_path).get("numbers", INPUTS, lambda: ({"x": array}, {}))
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.parent.name == "numbers"]


@pytest.mark.parametrize("megabytes", [24, 96])
def test_writing_and_checking_an_artifact_takes_the_memory_of_a_block(tmp_path: Path, megabytes: int) -> None:
    script = """
import resource, sys
import numpy as np
from pathlib import Path
from bench.artifacts.store import Blocks, read, write

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def array(rows):
    return Blocks((rows, 2**20), np.dtype(np.uint8), (np.full((1, 2**20), row, np.uint8) for row in range(rows)))

path = Path(sys.argv[1])
write(path / "warm.safetensors", {"x": array(20)}, {})
read(path / "warm.safetensors")
before = peak()
write(path / "a.safetensors", {"x": array(int(sys.argv[2]))}, {})
assert read(path / "a.safetensors").arrays["x"][:, 0].tolist() == [n % 256 for n in range(int(sys.argv[2]))]
print(peak() - before)
"""
    command = [sys.executable, "-c", script, str(tmp_path), str(megabytes)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 20  # MiB: a piece that is hashed, whatever the size


def test_a_store_that_is_full_refuses_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, drawn = Store(tmp_path), list[int]()
    monkeypatch.setenv(STORE_LIMIT.variable, "10kB")
    numbers(store)
    with pytest.raises(MachineError, match=r"(?s)of kind big takes 40.0 kB, beside .* the limit is 10.0 kB.*prune"):
        store.get("big", INPUTS, lambda: ({"x": counted(1000, 5, drawn)}, {}))
    assert drawn == []
    monkeypatch.delenv(STORE_LIMIT.variable)
    assert store.get("big", INPUTS, lambda: ({"x": counted(1000, 5)}, {})).arrays["x"].shape == (1000, 5)


def test_an_artifact_that_would_fill_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(3 * 10**8))
    array = Blocks((3, 10**8), np.dtype(np.uint8), ())
    with pytest.raises(MachineError, match=r"takes 300.0 MB, and the disk of .* has 300.0 MB left"):
        Store(tmp_path / "new").get("big", INPUTS, lambda: ({"x": array}, {}))
    numbers(Store(tmp_path / "new"))  # small things may still be written


@pytest.mark.parametrize("text", ["much", "10 elephants", "-1"])
def test_a_limit_that_is_no_size_is_refused_by_its_name(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (KEEP_LABELS, STORE_LIMIT):
        with pytest.raises(UserError, match=f"{limit.option}={text} is no size"):
            limit.place(text)
        monkeypatch.setenv(limit.variable, text)
        with pytest.raises(UserError, match=f"{limit.variable}={text} is no size"):
            limit.bytes()
