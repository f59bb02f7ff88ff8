"""Whole processes: a run that is interrupted or killed, what it leaves behind, and machines without a shared folder."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from bench.driver import leftovers
from bench.driver.on_ray import starting
from bench.errors import UserError
from bench.records import files
from tests.worlds.run import World, make_world

COMMAND = (sys.executable, "-m", "bench")
LIMIT = 180.0  # seconds for what takes a few, on a busy machine
SESSION = re.compile(rf"/[^ =]*/{leftovers.PREFIX}\w+")  # Ray's folder of a run
SLOW_METHOD = """
import time

import numpy as np


def select(train, ipc, ctx):
    ctx.numpy("choice")
    time.sleep(0.4)
    return np.concatenate([train.class_indices(c)[:ipc] for c in range(train.num_classes)])
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = make_world(tmp_path)
    world.add("slow.py", SLOW_METHOD)
    return world


def start(world: World, *more: str, **options) -> subprocess.Popen:
    """A driver in a process group of its own, as a terminal starts it, with a home folder of its own."""
    home = world.root / "home"
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "HOME": str(home)}
    return subprocess.Popen(
        [*COMMAND, *world.flags(*more, **options)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test runner that was started in the background of a script ignores Ctrl-C, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def wait_for_records(world: World, count: int, driver: subprocess.Popen) -> None:
    deadline = time.monotonic() + LIMIT
    while len(world.lines()) < count:
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline, "no record came"
        time.sleep(0.02)


def ray_processes(world: World) -> list[str]:
    """Command lines of the living processes that a driver of this world started: they inherit its home folder."""
    marker = f"HOME={world.root / 'home'}".encode()
    alive = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker in (folder / "environ").read_bytes().split(b"\0"):
                alive.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it ended meanwhile, or belongs to somebody else
    return alive


def wait_until_gone(world: World) -> None:
    deadline = time.monotonic() + LIMIT
    while (alive := ray_processes(world)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive == []


def test_a_run_that_is_interrupted_and_then_killed_goes_on_where_it_was(world):
    flags, options = ("--replicates=8", "--jobs=2"), {"methods": ("slow",)}

    driver = start(world, *flags, **options)
    wait_for_records(world, 1, driver)
    os.killpg(driver.pid, signal.SIGINT)  # Ctrl-C reaches the whole group
    while ray_processes(world) and driver.poll() is None:  # and whoever has no patience presses it again
        time.sleep(0.3)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGINT)
    _, error = driver.communicate(timeout=LIMIT)
    assert driver.returncode == 130
    assert "Interrupted. What had ended is recorded; the same command continues." in error
    assert "Traceback" not in error
    recorded = len(world.lines())
    assert 1 <= recorded < 8
    wait_until_gone(world)

    driver = start(world, *flags, **options)
    wait_for_records(world, recorded + 1, driver)
    session = Path(next(match[0] for line in ray_processes(world) if (match := SESSION.search(line))))
    assert session.is_dir()
    driver.kill()
    driver.communicate()
    recorded = len(world.lines())
    assert recorded < 8
    wait_until_gone(world)  # Ray's processes see that their driver is gone

    driver = start(world, *flags, **options)
    output, error = driver.communicate(timeout=LIMIT)
    assert driver.returncode == 0, error
    assert f"8 trials: {recorded} done, {8 - recorded} missing" in error
    lines = Counter(line["id"] for line in world.lines())
    assert len(lines) == 8
    assert set(lines.values()) == {1}
    assert "slow" in output
    # Nothing but the program's own words, processes and files.
    own = (
        "8 trials: ", "estimated time: ", "Removed what a killed run had left: ",
        *(f"{ended}/{8 - recorded} trials after" for ended in range(9)),
    )  # fmt: skip
    slow = re.compile(r"(data set|teacher|method|student) .*: for \d+ s")  # what takes long is told, on a busy machine
    assert [line for line in error.splitlines() if not line.startswith(own) and not slow.fullmatch(line)] == []
    wait_until_gone(world)
    assert list((world.root / "home").iterdir()) == []
    assert not session.exists()  # whichever run came first removed it


def test_a_run_that_a_batch_system_terminates_ends_as_by_ctrl_c(world):
    driver = start(world, "--replicates=8", "--jobs=2", methods=("slow",))
    wait_for_records(world, 1, driver)
    driver.terminate()
    _, error = driver.communicate(timeout=LIMIT)
    assert driver.returncode == 130
    assert "Interrupted. What had ended is recorded; the same command continues." in error
    assert "SIGTERM" not in error  # which is how Ray's report of the stack begins
    assert "Traceback" not in error
    wait_until_gone(world)


def test_an_address_where_no_ray_answers_is_refused_at_once():
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=f"Ray could not be reached at '{address}'"):
            starting.start(None, address)


def test_a_ray_that_does_not_answer_in_time_is_told_as_such(monkeypatch):
    """On a busy machine; Ray raises a bare exception."""

    def late(**_: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(starting.ray, "init", late)
    with pytest.raises(UserError, match=r"Ray could not be started: The current node timed out during startup\."):
        starting.start(1, None)


CLUSTER = """
import os, sys
os.environ["RAY_worker_niceness"] = "0"
from click.testing import CliRunner
from ray.cluster_utils import Cluster

from bench.cli import cli

cluster = Cluster()
for store in {stores!r}:
    cluster.add_node(num_cpus=1, include_dashboard=False, env_vars={{"CONDENSEBENCH_STORE": store}})
cluster.wait_for_nodes()
result = CliRunner().invoke(cli, [*{flags!r}, "--ray-address", cluster.address])
print(result.output, result.exception)
sys.exit(result.exit_code)
"""


@pytest.mark.slow
def test_machines_without_a_shared_folder_pass_their_artifacts_on(world):
    """Two nodes with stores of their own; what one of them made is read on the other."""
    stores = [world.root / "a", world.root / "b"]
    flags = world.flags("--replicates=4", "--compressor=svd", "--budget=20kB", protocol="quick-soft")
    script = CLUSTER.format(stores=[str(store) for store in stores], flags=flags)
    home = world.root / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=3 * LIMIT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert Counter(record.status for record in files.load(world.results)) == {"ok": 8}
    assert not list((world.root / "store").rglob("*.safetensors"))  # the driver keeps none
    for kind in ("teacher", "condensed", "labels"):
        one, other = ({path.name for path in store.glob(f"{kind}/*.safetensors")} for store in stores)
        assert one & other, f"no {kind} artifact came from one machine to the other"
    wait_until_gone(world)
