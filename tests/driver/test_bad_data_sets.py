"""Data sets of plugins that misbehave: they end neither the command nor a run, and change no record of another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.artifacts.refs import Workspace
from bench.cli import cli
from bench.confinement.plugin_limits import Limits, PluginFailure
from bench.driver.on_ray.executor import RayExecutor
from bench.errors import PluginError
from bench.plugins.registry import discover
from tests.worlds import ROOT
from tests.worlds.in_process import serve_in_process
from tests.worlds.run import DATASET, World, make_world

DOES = {
    "exits": "raise SystemExit(0)",
    "ends": "os._exit(0)",
    "raises": "raise BaseException('red')",
    "waits": "import time; time.sleep(60)",
    "forks": "import time; [os.fork() or time.sleep(60) for _ in range(12)]",
}


def bad(line: str) -> str:
    return DATASET.replace("def load(root):\n", f"def load(root):\n    {line}\n").replace(
        "import hashlib", "import hashlib\nimport os"
    )


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = make_world(tmp_path)
    for name, line in DOES.items():
        world.add(f"{name}.py", bad(line))
    world.add("late.py", DATASET.replace('lambda: Source("train", 48)', "lambda: __import__('os')._exit(3)"))
    return world


def workspace(world: World, **limits: float) -> Workspace:
    chosen = Limits(**{"seconds": 30.0, "processes": 6, **limits})
    return Workspace(world.root / "store", discover(world.plugins), limits=chosen)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("exits", PluginError, r"dataset 'exits': its code would end the program \(SystemExit: 0\)"),
        ("raises", PluginError, r"dataset 'raises': its code would end the program \(BaseException: red\)"),
        ("ends", PluginFailure, "dataset 'ends' ended its process with exit code 0"),
        ("waits", PluginFailure, "dataset 'waits' had not ended after 1 s"),
        ("forks", PluginFailure, "dataset 'forks' took more than 6 processes at once"),
    ],
)
def test_a_data_set_that_would_end_the_program_is_refused_by_name(world, name, error, message):
    ws = workspace(world, seconds=1.0 if name == "waits" else 30.0)
    for _ in range(2):  # the second time at once
        with pytest.raises(error, match=message):
            _ = ws.data(name).dataset


@pytest.mark.trains
def test_a_run_goes_on_past_data_sets_that_would_end_it(world, monkeypatch):
    serve_in_process(monkeypatch)
    datasets = ("exits", "ends", "late", "tiny")
    flags = [flag for flag in world.flags("--replicates=1", methods=("first",)) if flag != "--dataset=tiny"]

    outcome = CliRunner().invoke(cli, [*flags, *(f"--dataset={name}" for name in datasets)])

    lines = {line["trial"]["dataset"]: line for line in world.lines()}
    assert outcome.exit_code == 1, outcome.output
    assert {name: line["status"] for name, line in lines.items()} == {
        **dict.fromkeys(("exits", "ends", "late"), "failed"), "tiny": "ok",
    }  # fmt: skip
    errors = {name: (line["error"]["type"], line["error"]["message"]) for name, line in lines.items() if line["error"]}
    assert errors["exits"][0] == "PluginError"
    assert errors["ends"][0] == errors["late"][0] == "died"
    assert "exit code 3" in errors["late"][1]


def test_a_verb_says_in_one_sentence_that_a_data_set_ended_its_process(world):
    call = "import sys; from bench.__main__ import main; sys.argv[0] = 'condensebench'; main()"
    plugins = [f"--plugin={path}" for path in world.plugins]
    done = subprocess.run(
        [sys.executable, "-c", call, "data", "decode", "ends", "--store", str(world.root / "store"), *plugins],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, cwd=world.root,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "Error: dataset 'ends' ended its process with exit code 0.", done.stderr


def test_workers_that_open_a_plugins_data_set_open_no_other(world, monkeypatch):
    serve_in_process(monkeypatch)
    executor = RayExecutor(discover(world.plugins), world.root / "store")
    options = {name: executor.task_options("describe", name)["runtime_env"]["env_vars"] for name in ("tiny", "digits")}
    assert options["tiny"]["CONDENSEBENCH_DATASET"] == "tiny"
    assert "CONDENSEBENCH_DATASET" not in options["digits"]
    assert options["tiny"]["CONDENSEBENCH_ROLE"] == options["digits"]["CONDENSEBENCH_ROLE"]
