"""Ray on this machine: which of its processes start, and what its workers begin with."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import ray
from ray._private.runtime_env.context import RuntimeEnvContext

from bench.driver.on_ray import setup_worker
from bench.driver.on_ray.executor import RayExecutor
from bench.driver.on_ray.lean_node import LeanNode, lean_nodes
from bench.plugins.registry import discover
from speed.start import program
from tests.worlds import ROOT

PRINTS = """
import json, os, sys
print(json.dumps([os.environ.get("ROLE"), sys.argv[1:]]))
"""


@pytest.mark.usefixtures("ray_for_all")
def test_nothing_of_ray_starts_that_no_run_uses(tmp_path: Path) -> None:
    """No dashboard, no autoscaler, nobody who copies what workers print, no worker that no stage can be given."""
    executor = RayExecutor(discover([]), tmp_path / "store")
    try:
        outcome = asyncio.run(executor.run("describe", "digits"))
    finally:
        executor.close()
    assert outcome.status == "ok", outcome.message

    servers = ray._private.worker._global_node.all_processes
    assert servers.keys() - {"reaper"} == {"gcs_server", "raylet"}
    raylet = psutil.Process(servers["raylet"][0].process.pid)
    assert f" {setup_worker.__file__} " in " ".join(raylet.cmdline())
    children = {child.pid: program(child) for child in raylet.children()}
    agents = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}
    assert agents <= {*children.values()}
    workers = [pid for pid, name in children.items() if name not in agents]
    assert workers
    for pid in workers:
        assert "CONDENSEBENCH_ROLE" in psutil.Process(pid).environ(), children[pid]


def test_another_release_of_ray_starts_as_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    with lean_nodes():
        assert ray._private.node.Node is LeanNode
    monkeypatch.setattr(ray, "__version__", "2.40.0")
    with lean_nodes():
        assert ray._private.node.Node is not LeanNode


WATCHED = """
import subprocess, sys, time
from types import SimpleNamespace
from bench.driver.on_ray import start_watch

start_watch.PATIENCE = 0.1
servers = [SimpleNamespace(process=subprocess.Popen(["sleep", "60"])) for _ in range(2)]
node = SimpleNamespace(
    all_processes={"gcs_server": servers[:1], "raylet": servers[1:]},
    kill_all_processes=lambda **_: [each.process.kill() for each in servers],
)
with start_watch.servers_watched(lambda: print("cleaned up", flush=True)):
    start_watch.LeanNode.latest = node
    time.sleep(1)
    print("all live", flush=True)
    servers[int(sys.argv[1])].process.kill()
    time.sleep(60)
"""


@pytest.mark.parametrize(("server", "name"), [(0, "gcs_server"), (1, "raylet")])
def test_a_server_that_dies_while_ray_starts_ends_the_process_in_one_sentence(server: int, name: str) -> None:
    """Where the main thread waits in code that no exception reaches."""
    ended = subprocess.run([sys.executable, "-c", WATCHED, str(server)], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 2
    assert ended.stdout.split("\n") == ["all live", "cleaned up", ""]
    assert ended.stderr == (
        f"Error: Ray's server '{name}' ended while Ray was started. The run has ended. What had ended is recorded; the "
        "same command continues.\n"
    )


def begun(tmp_path: Path, *arguments: str, context: RuntimeEnvContext) -> list:
    """What the worker's program says that it began with, started as the raylet starts it."""
    worker = tmp_path / "worker.py"
    worker.write_text(PRINTS)
    line = [sys.executable, setup_worker.__file__, str(worker), *arguments]
    line += ["--language=PYTHON", f"--serialized-runtime-env-context={context.serialize()}"]
    return json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)


def test_a_worker_begins_with_its_variables_and_its_arguments(tmp_path: Path) -> None:
    context = RuntimeEnvContext(env_vars={"ROLE": "a student's; one"})
    assert begun(tmp_path, "--node=1", "a b", context=context) == ["a student's; one", ["--node=1", "a b"]]


def test_a_variable_that_names_another_is_left_to_rays_own_program(tmp_path: Path) -> None:
    context = RuntimeEnvContext(env_vars={"ROLE": "${HOME}/x"})
    assert begun(tmp_path, context=context) == [f"{os.environ['HOME']}/x", []]


@pytest.mark.parametrize(
    "context",
    [RuntimeEnvContext(command_prefix=["source x &&"]), RuntimeEnvContext(override_worker_entrypoint="/other.py")],
    ids=["a shell's command before", "another program"],
)
def test_what_is_more_than_variables_is_left_to_rays_own_program(context: RuntimeEnvContext) -> None:
    arguments = ["worker.py", "--language=PYTHON", f"--serialized-runtime-env-context={context.serialize()}"]
    line, variables = setup_worker.line_and_variables(arguments)
    rays = Path(ray.__file__).parent / "_private" / "workers" / "setup_worker.py"
    assert rays.is_file()
    assert (line, variables) == ([sys.executable, str(rays), *arguments], {})


@pytest.mark.parametrize("arguments", [["--language=JAVA", "{}"], ["worker.py"]], ids=["Java", "no environment"])
def test_what_is_not_understood_is_left_to_rays_own_program(arguments: list[str]) -> None:
    assert setup_worker.line_and_variables(arguments)[0][2:] == arguments
