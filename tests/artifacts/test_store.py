"""Artifacts: found where their inputs say, made once, whole or not there at all."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from bench.artifacts import store as store_module
from bench.artifacts.store import Artifact, DamagedArtifact, Store, arrays_digest, read, write
from bench.errors import UserError

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
    content = store_module._content
    monkeypatch.setattr(store_module, "_content", lambda *args: looked.append(args) or content(*args))
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
    import bench.artifacts.store

    def half(arrays: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half of it")
        os.kill(os.getpid(), signal.SIGKILL)

    bench.artifacts.store.save_file = half  # type: ignore[assignment]
    numbers(Store(root))


def test_a_process_killed_while_it_writes_leaves_no_artifact_and_no_lock(tmp_path: Path) -> None:
    worker = multiprocessing.get_context("fork").Process(target=die_while_writing, args=(tmp_path,))
    worker.start()
    worker.join(30)
    assert worker.exitcode == -signal.SIGKILL
    store = Store(tmp_path)
    assert store.find("numbers", INPUTS) is None
    assert numbers(store).arrays["x"].shape == (2, 3)
