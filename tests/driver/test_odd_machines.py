"""Runs on machines that lack something: they give the records of any other machine, or end with one sentence and can be
continued elsewhere. Each starts a Ray, so that all are slow."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from speed._nodes import Nodes
from tests.driver.test_cluster import outcome
from tests.worlds import ROOT
from tests.worlds.run import World, make_world

pytestmark = pytest.mark.slow

LIMIT = 600.0  # seconds, beside any other work
NOBODY = "http://127.0.0.1:9"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "grpc_proxy")
# What a shell does before the run -> the machine. {folder} is an empty one.
LACKING = {
    "no home": "unset HOME;",
    "a home that is not there": "export HOME=/nowhere;",
    "256 open files": "ulimit -n 256;",
    "one core": "taskset -cp 0 $$ >&2;",
    "RAY_ADDRESS of nobody": "export RAY_ADDRESS=127.0.0.1:9;",
    "proxies that do not answer": "".join(f"export {name}={NOBODY};" for name in PROXIES),
    "no standard input": "exec <&-;",
    "ASCII alone": "export LC_ALL=C LANG=C PYTHONUTF8=0 PYTHONIOENCODING=ascii;",
    "a strict umask": "umask 077;",
    "a temporary folder with a long name": "export TMPDIR={folder}/" + "t" * 120 + "; mkdir $TMPDIR;",
    "a time zone a day ahead": "export TZ=Pacific/Kiritimati;",
}
# The same, where the shell has mounts of its own.
MOUNTED = {
    "a small /dev/shm": "mount -t tmpfs -o size=1m none /dev/shm;",
    "a /dev/shm that may not be written": "mount -t tmpfs -o size=1m,ro none /dev/shm;",
    "a temporary folder that is full": (
        "mount -t tmpfs -o size=16k none {folder}; cat /dev/zero > {folder}/x 2>/dev/null; export TMPDIR={folder};"
    ),
    "a temporary folder that may not be written": "mount -t tmpfs -o ro none {folder}; export TMPDIR={folder};",
}
# What ends a run -> words of the sentence.
ENDING = {
    "results that may not be written": (
        "mkdir -p {root}/results; mount -t tmpfs -o ro none {root}/results;",
        "results",
    ),
    "a store that is full": (
        "mkdir -p {root}/store; mount -t tmpfs -o size=48k none {root}/store;",
        "space",
    ),
}
mounts = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True)
needs_mounts = pytest.mark.skipif(mounts.returncode != 0, reason="only root may mount: unshare -m mount")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "world")


def run_after(before: str, world: World, tmp_path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """The run of a shell that has done something before."""
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    command = shlex.join([sys.executable, "-m", "bench", *world.flags("--replicates=2", "--jobs=1", *more)])
    script = before.replace("{folder}", str(folder)).replace("{root}", str(world.root)) + f"exec {command}"
    mounting = ["unshare", "-m"] if "mount " in before else []
    return subprocess.run(
        [*mounting, "bash", "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=LIMIT, start_new_session=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """The records of a machine that lacks nothing."""
    folder = tmp_path_factory.mktemp("usual")
    world = make_world(folder / "world")
    done = run_after("", world, folder)
    assert done.returncode == 0, done.stderr
    return results(world)


def results(world: World) -> list[dict]:
    """What the records say of results, by trial. Of the machine they tell other things, and the plugins of every world
    name its log file, so that the digests of their code differ."""
    others = {"environment", "made_by"}
    records = [{key: value for key, value in outcome(line).items() if key not in others} for line in world.lines()]
    return sorted(records, key=lambda record: record["id"])


@pytest.mark.parametrize("machine", LACKING)
def test_a_machine_that_lacks_something_gives_the_same_records(machine, world, usual, tmp_path) -> None:
    done = run_after(LACKING[machine], world, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert results(world) == usual


@needs_mounts
@pytest.mark.parametrize("machine", MOUNTED)
def test_a_folder_of_the_machine_that_is_small_or_closed_is_done_without(machine, world, usual, tmp_path) -> None:
    done = run_after(MOUNTED[machine], world, tmp_path)
    assert done.returncode == 0, done.stderr
    assert results(world) == usual


def test_nothing_that_reads_the_output_is_nothing_to_complain_of(world, usual, tmp_path) -> None:
    done = run_after("exec >&-;", world, tmp_path)
    assert "Traceback" not in done.stderr
    assert results(world) == usual


def test_odd_paths_are_paths(usual, tmp_path) -> None:
    odd = make_world(tmp_path / """it's "odd" ünï #1 %20 $HOME; -x""" / "world")
    done = run_after("", odd, tmp_path)
    assert done.returncode == 0, done.stderr
    assert results(odd) == usual


def test_a_ray_of_somebody_else_is_left_alone(world, usual, tmp_path) -> None:
    (tmp_path / "home").mkdir()
    nodes = Nodes(tmp_path / "home")
    try:
        nodes.add("head", "--num-cpus=1")
        done = run_after("", world, tmp_path)
    finally:
        nodes.close()
    assert done.returncode == 0, done.stderr
    assert results(world) == usual


@needs_mounts
@pytest.mark.parametrize("machine", ENDING)
def test_a_machine_that_ends_a_run_costs_nothing(machine, world, usual, tmp_path) -> None:
    before, words = ENDING[machine]
    done = run_after(before, world, tmp_path)
    assert "Traceback" not in done.stderr
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("Error: ") == 1
    assert words in done.stderr
    assert {line["status"] for line in world.lines()} <= {"ok"}
    again = run_after("", world, tmp_path)
    assert again.returncode == 0, again.stderr
    assert results(world) == usual
