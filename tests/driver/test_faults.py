"""What a machine is to blame for never becomes a record; what a method did does."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray.exceptions
from click.testing import CliRunner, Result
from safetensors.numpy import save_file

from bench.artifacts.store import Store
from bench.cli import cli
from bench.driver import leftovers, pulse
from bench.driver.faults import RayLost, machine_fault, memory_fault
from bench.driver.on_ray import executor, serving
from bench.driver.on_ray.stage_table import STAGES, Stage
from bench.driver.outcome import attempt
from bench.driver.pulse import Pulse
from bench.errors import MachineError, UserError
from bench.places import NotHere
from bench.records import files
from tests.worlds.in_process import serve_in_process
from tests.worlds.run import FIRST, World, make_world, raising


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    serve_in_process(monkeypatch)
    return make_world(tmp_path)


def run(world: World, *more: str, **options) -> Result:
    return CliRunner().invoke(cli, world.flags("--replicates=2", *more, **options))


def fault(result: Result) -> str:
    """What the program prints before it ends with code 2."""
    assert isinstance(result.exception, MachineError)
    assert result.exception.exit_code == 2
    return str(result.exception)


# Which exceptions are a machine's


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "", "/store/a"), "No space left on device: /store/a"),
        (OSError(errno.EDQUOT, ""), "quota"),
        (OSError(errno.EROFS, ""), "Read-only"),
        (OSError(errno.EMFILE, ""), "Too many open files"),
        (MachineError("the store went away"), "the store went away"),
        (NotHere("its files are in none of the folders\nand so on"), "its files are in none of the folders"),
        (ray.exceptions.LocalRayletDiedError(), "LocalRayletDiedError"),
        (ray.exceptions.OutOfMemoryError("killed"), "OutOfMemoryError"),
        (ray.exceptions.NodeDiedError("its node died"), "NodeDiedError"),
        (ray.exceptions.RayTaskError("f", "", OSError(errno.ENOSPC, "")), "No space left"),
    ],
)
def test_it_is_the_machines(error: Exception, words: str) -> None:
    fault = machine_fault(error)
    assert fault is not None
    assert words in fault
    assert "\n" not in fault


@pytest.mark.parametrize(
    "error",
    [
        ValueError("No space left on device"),
        FileNotFoundError(errno.ENOENT, "", "weights.pt"),
        PermissionError(errno.EACCES, "", "weights.pt"),
        UserError("no such method"),
        ray.exceptions.WorkerCrashedError(),
        ray.exceptions.RayTaskError("f", "", ValueError("x")),
    ],
)
def test_it_is_the_methods(error: Exception) -> None:
    assert machine_fault(error) is None


def test_a_disk_that_fills_up_while_an_artifact_is_written_is_the_machines(tmp_path: Path) -> None:
    """safetensors has an exception of its own, with the number in its text. Here a file may not grow: the same path."""
    script = (
        "import resource, sys, numpy as np\n"
        "from pathlib import Path\n"
        "from bench.artifacts.store import write\n"
        "from bench.driver.outcome import attempt\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "outcome = attempt(write, Path(sys.argv[1]), {'x': np.zeros(4096)}, {})\n"
        "print(outcome.status, outcome.message)\n"
    )
    place = tmp_path / "teacher" / "a.safetensors"
    done = subprocess.run([sys.executable, "-c", script, str(place)], capture_output=True, text=True)
    assert done.stdout.startswith(f"lost File too large: {place}"), done.stderr
    assert list(place.parent.iterdir()) == []


@pytest.mark.parametrize("kind", ["MemoryError", "_ArrayMemoryError", "OutOfMemoryError"])
def test_memory_that_lacks_is_known_by_the_exceptions_name(kind: str) -> None:
    assert "out of memory" in (memory_fault(kind, "") or "")
    assert memory_fault("ValueError", "out of memory") is None


# Trials


@pytest.mark.trains
def test_a_trial_that_a_full_disk_cost_has_no_record_and_the_same_command_continues(world, monkeypatch):
    world.add("unlucky.py", raising('raise OSError(28, "No space left on device", str(ctx.scratch))'))

    first = run(world, methods=("first", "unlucky"))

    assert "left out: tiny ipc=2 unlucky" in first.output
    assert "2 of 4 trials have no record, through no fault of theirs: No space left on device" in fault(first)
    assert [line["trial"]["method"] for line in world.lines()] == ["first", "first"]

    world.add("unlucky.py", FIRST)
    serve_in_process(monkeypatch)
    again = run(world, methods=("first", "unlucky"))
    assert again.exit_code == 0, again.output
    assert "4 trials: 2 done, 2 missing, 0 failed" in again.output


def test_a_student_that_the_machine_has_no_memory_for_has_no_record(world, monkeypatch):
    def greedy(*_: object) -> None:
        raise MemoryError

    monkeypatch.setitem(STAGES, "evaluate", Stage(greedy, "student", gpus=1.0))
    result = run(world, methods=("first",))
    assert "the machine ran out of memory while it ran 'evaluate'" in fault(result)
    assert world.lines() == []


def test_a_method_that_asks_for_too_much_memory_fails(world):
    world.add("greedy.py", raising("raise MemoryError"))
    assert run(world, methods=("greedy",)).exit_code == 1
    assert [line["status"] for line in world.lines()] == ["failed", "failed"]


@pytest.mark.trains
def test_results_that_are_deleted_while_a_run_writes_to_them_end_it(world, monkeypatch):
    ended = STAGES["evaluate"].function

    def then_deleted(*args: object) -> object:
        value = ended(*args)
        if world.lines():
            shutil.rmtree(world.results)
        return value

    monkeypatch.setitem(STAGES, "evaluate", Stage(then_deleted, "student", gpus=1.0))
    result = run(world, methods=("first",))
    assert f"{world.results} was deleted or replaced while the run was writing to it" in fault(result)
    assert not world.results.exists()  # nothing was made anew without a word


def test_records_that_are_gone_at_the_end_are_missed(world, monkeypatch):
    def deleted(prepared, **_: object) -> None:
        prepared.chosen  # noqa: B018
        (world.results / "other.jsonl").touch()

    monkeypatch.setattr("bench.driver.run.run_prepared", deleted)
    result = run(world, methods=("first",))
    assert "2 of 2 trials that ran have no record" in fault(result)


def test_a_record_file_that_is_cut_or_replaced_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    whereabouts = files.Whereabouts(path)
    whereabouts.check()
    path.write_text("12345\n")
    whereabouts.note()
    whereabouts.check()
    path.write_text("1234\n")
    with pytest.raises(MachineError, match="was deleted, replaced or cut"):
        whereabouts.check()
    path.unlink()
    with pytest.raises(MachineError, match="was deleted, replaced or cut"):
        whereabouts.check()


def test_results_without_locks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", without)
    refused = r"cannot be locked \(Function not implemented\).*--results OTHER_DIR"
    with pytest.raises(UserError, match=refused), files.locked(tmp_path):
        pytest.fail("it is not locked")
    artifact = Store(tmp_path / "store").get("kind", {"a": 1}, lambda: ({"x": np.zeros(3)}, {}))
    assert artifact.arrays["x"].shape == (3,)  # a store does without


class Dying:
    """Tasks whose worker dies as often as Ray tries."""

    def options(self, **_: object) -> Dying:
        return self

    def remote(self, *_: object) -> list[asyncio.Future]:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(ray.exceptions.WorkerCrashedError())
        return [future, future]


# The watch over Ray


def test_a_server_that_dies_ends_the_run_with_one_sentence() -> None:
    async def story() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.write(b"\0"), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        watch = Pulse({"raylet": ("127.0.0.1", port)})
        end = asyncio.ensure_future(watch.end())
        await asyncio.sleep(0.1)
        assert not end.done()
        assert await watch.dead() is None
        server.close()
        sentence = f"Ray's server 'raylet' at 127.0.0.1:{port} is gone."
        assert await asyncio.wait_for(end, 10) == await watch.dead() == sentence

    asyncio.run(story())


def test_a_run_that_ends_just_as_a_server_answers_ends(monkeypatch) -> None:
    """A cancellation that was lost there left the run waiting for ever for its own watch."""

    async def story() -> None:
        answered = asyncio.get_running_loop().create_future()

        async def open_connection(*_: object) -> tuple[SimpleNamespace, SimpleNamespace]:
            await answered
            reader = SimpleNamespace(read=lambda _: asyncio.sleep(0, b"1"))
            return reader, SimpleNamespace(write=lambda _: None, close=lambda: None)

        monkeypatch.setattr(asyncio, "open_connection", open_connection)
        knocking = asyncio.ensure_future(Pulse({"raylet": ("127.0.0.1", 1)}).dead())
        await asyncio.sleep(0.01)
        answered.set_result(None)
        knocking.cancel()
        await asyncio.wait({knocking}, timeout=10)
        assert knocking.cancelled()

    asyncio.run(story())


def test_a_server_that_was_stopped_is_given_up(monkeypatch) -> None:
    """The system accepts connections for a process that is stopped; nobody answers them."""
    monkeypatch.setattr(pulse, "ANSWER_WITHIN", 0.05)
    monkeypatch.setattr(pulse, "EVERY", 0.01)

    async def story(port: int) -> str:
        return await asyncio.wait_for(Pulse({"gcs_server": ("127.0.0.1", port)}).end(), 10)

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        sentence = asyncio.run(story(silent.getsockname()[1]))
    assert sentence.startswith("Ray's server 'gcs_server'")
    assert "has not answered for" in sentence


def test_a_cluster_may_start_its_server_again(monkeypatch) -> None:
    monkeypatch.setattr(pulse, "EVERY", 0.01)

    async def story() -> None:
        with socket.socket() as taken:  # bound, and nobody listens
            taken.bind(("127.0.0.1", 0))
            place = taken.getsockname()
            end = asyncio.ensure_future(Pulse({"gcs_server": place}, patience=60.0).end())
            await asyncio.sleep(0.2)
            assert not end.done()
            end.cancel()

    asyncio.run(story())


def test_a_run_ends_where_ray_does_and_nothing_is_recorded_as_failed(world, monkeypatch):
    """The exception that a task in flight has, and the watch that then finds the raylet gone."""

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(executor, "servers", lambda _: {"raylet": taken.getsockname()})
        monkeypatch.setattr(serving, "task", Dying())
        result = run(world, methods=("first",))
    assert "The run has ended. What had ended is recorded; the same command continues." in fault(result)
    assert isinstance(result.exception, RayLost)
    assert world.lines() == []


def test_a_worker_that_the_machine_ended_for_want_of_memory_is_no_failure(world, monkeypatch):
    monkeypatch.setattr(serving, "task", Dying())
    kills = iter(range(100))
    monkeypatch.setattr(executor, "oom_kills", lambda: next(kills))
    assert "the machine ran out of memory" in fault(run(world, methods=("first",)))
    assert world.lines() == []
    monkeypatch.setattr(executor, "oom_kills", lambda: 0)
    assert run(world, methods=("first",)).exit_code == 1
    assert {line["error"]["type"] for line in world.lines()} == {"WorkerCrashedError"}


# Leftovers


@pytest.mark.trains
def test_what_a_killed_run_left_is_removed_and_told(world, monkeypatch, tmp_path):
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setattr(leftovers, "sessions", lambda: temporary)
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from bench.artifacts.store import Store\n"
        "from bench.driver import leftovers\n"
        "leftovers.sessions = lambda: Path(sys.argv[1])\n"
        "def killed():\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "store = Store(sys.argv[2])\n"
        "with leftovers.session_folder() as folder, store.scratch() as scratch:\n"
        "    (folder / 'session').mkdir()\n"
        "    (scratch / 'half').touch()\n"
        "    (store.root / 'teacher').mkdir()\n"
        "    (store.root / 'teacher' / '.making-x').touch()\n"
        "    store.get('teacher', {}, killed)\n"
    )
    store = world.root / "store"
    done = subprocess.run([sys.executable, "-c", script, str(temporary), str(store)])
    assert done.returncode == -signal.SIGKILL
    assert len(list(temporary.iterdir())) == 2

    result = run(world, methods=("first",))

    assert result.exit_code == 0, result.output
    assert (
        f"Removed what a killed run had left: 1 folder of Ray in {temporary}, 1 unfinished artifact, 1 scratch folder, "
        f"1 lock file in {store}."
    ) in result.output.replace("\n", " ")
    assert list(temporary.iterdir()) == []
    assert not list(store.rglob(".making-*"))
    assert not list((store / "scratch").iterdir())
    assert not list((store / "locks").iterdir())
    assert "Removed" not in run(world, methods=("chance",)).output


def test_a_folder_that_a_process_of_ray_made_again_is_removed_once_the_process_has_ended(tmp_path, monkeypatch):
    """A worker that was just starting when its run ended makes Ray's folders anew, after the run removed them."""
    monkeypatch.setattr(leftovers, "sessions", lambda: tmp_path)
    store = Store(tmp_path / "store")
    folder = tmp_path / f"{leftovers.PREFIX}again"
    (folder / "session_latest" / "logs").mkdir(parents=True)
    script = "import sys; print('up', flush=True); sys.stdin.read()"
    late = subprocess.Popen(
        [sys.executable, "-c", script, f"--temp-dir={folder}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert late.stdout is not None
    late.stdout.readline()
    assert leftovers.sweep(store) == ""
    assert folder.is_dir()
    late.communicate()
    assert leftovers.sweep(store) == f"Removed what a killed run had left: 1 folder of Ray in {tmp_path}."
    assert not folder.exists()


def test_a_lock_that_another_run_took_away_is_made_anew(tmp_path, monkeypatch):
    """Between its making and its locking it looks like one that was left."""
    monkeypatch.setattr(leftovers, "sessions", lambda: tmp_path)
    lock, taken = leftovers.fcntl.flock, []

    def flock(handle, operation: int) -> None:
        if not taken:
            taken.append(next(tmp_path.glob(f"{leftovers.PREFIX}*")))
            taken[0].unlink()
        lock(handle, operation)

    monkeypatch.setattr(leftovers.fcntl, "flock", flock)
    with leftovers.session_folder() as folder:
        assert taken
        assert folder.with_name(f"{folder.name}{leftovers.LOCK}").is_file()
        assert leftovers.sweep(Store(tmp_path / "store")) == ""
        assert folder.is_dir()
    assert not folder.exists()


def test_what_a_living_process_uses_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(leftovers, "sessions", lambda: tmp_path)
    store = Store(tmp_path / "store")
    script = (
        "import sys\n"
        "from bench.artifacts.store import Store\n"
        "with Store(sys.argv[1]).scratch():\n"
        "    print('here', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(store.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    other.stdout.readline()
    with leftovers.session_folder() as folder:
        assert leftovers.sweep(store) == ""
        assert folder.is_dir()
    assert not folder.exists()
    assert len(list((store.root / "scratch").iterdir())) == 1
    other.communicate()


def test_a_long_temporary_folder_is_not_where_rays_sockets_lie(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("long" * 10)))
    assert leftovers.sessions() == Path("/tmp")


def test_attempt_tells_a_fault_from_a_failure() -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert (attempt(full).status, attempt(full).message) == ("lost", "No space left on device")
    assert attempt(lambda: save_file({}, "/proc/no/such")).status == "failed"
