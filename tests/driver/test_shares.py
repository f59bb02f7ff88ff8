"""What a stage gets of a machine, and in which kind of worker it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.driver.on_ray.executor import RayExecutor
from bench.driver.on_ray.stage_table import STAGES
from bench.plugins.registry import discover
from tests.worlds.in_process import serve_in_process
from tests.worlds.plugins import write

METHOD = '"""A method that shares a GPU."""\n\n{constant}\n\ndef select(train, ipc, ctx):\n    return []\n'


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of a machine with this device."""
    serve_in_process(monkeypatch, GPU=1.0)
    plugins = [
        write(tmp_path / "half.py", METHOD.format(constant="NUM_GPUS = 0.5")),
        write(tmp_path / "plain.py", METHOD.format(constant="")),
    ]
    return lambda device: RayExecutor(discover(plugins), tmp_path / "store", device=device)


def test_every_stage_names_its_kind_of_worker_and_its_share_of_a_gpu(executor):
    ray_options = {stage: executor("cuda").task_options(stage, "plain") for stage in STAGES}
    shown = {
        stage: (options["runtime_env"]["env_vars"]["CONDENSEBENCH_ROLE"], options.get("num_gpus"))
        for stage, options in ray_options.items()
    }
    assert shown == {
        "describe": ("student", None),
        "teach": ("student", 1.0),
        "condense": ("method", None),
        "encode_labels": ("method", 1.0),
        "evaluate": ("student", 1.0),
        "learning_curve": ("student", 1.0),
    }
    assert {options["num_cpus"] for options in ray_options.values()} == {1.0}


def test_a_method_gets_the_share_that_it_declares(executor):
    assert executor("cuda").task_options("condense", "half")["num_gpus"] == 0.5


def test_without_a_gpu_no_stage_asks_for_one(executor):
    for stage in STAGES:
        assert "num_gpus" not in executor("cpu").task_options(stage, "half")
