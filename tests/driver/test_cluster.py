"""Clusters: machines without a shared folder that come and go, their token, and what docs/cluster.md shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from bench.cli import cli
from speed._nodes import Nodes
from tests.driver.test_on_ray import SLOW_METHOD
from tests.worlds import ROOT
from tests.worlds.run import VARY, World, make_world

PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
SETTINGS = ("--compressor=svd", "--budget=20kB", "--replicates=16")


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = make_world(tmp_path)
    world.add("slow.py", f"{SLOW_METHOD}\nNUM_GPUS = 0.5\n")
    (tmp_path / "home").mkdir()
    return world


def flags(world: World, *more: str) -> list[str]:
    return world.flags(*SETTINGS, *more, methods=("slow", "first"), protocol="quick-soft")


def outcome(line: dict) -> dict:
    """What a record says of its result."""
    return {name: value for name, value in line.items() if name not in VARY}


@pytest.mark.slow
def test_a_cluster_loses_a_machine_and_gains_one_and_the_records_are_the_same(world: World, tmp_path: Path) -> None:
    """Plugins, methods with GPUs, labels; one core and one pretended GPU a machine; each has a store of its own."""
    nodes = Nodes(tmp_path / "home", CONDENSEBENCH_STORE=str(tmp_path / "driver"), PYTHONPATH=str(ROOT))
    command = [sys.executable, "-m", "bench"]
    try:
        for name in ("head", "one"):
            nodes.add(name, "--num-cpus=1", "--num-gpus=1", CONDENSEBENCH_STORE=str(tmp_path / name))

        stranger = {name: value for name, value in nodes.environment.items() if not name.startswith("RAY_AUTH")}
        refused = subprocess.run(
            [*command, *flags(world, f"--ray-address={nodes.address}")], env=stranger, capture_output=True, text=True
        )
        assert refused.returncode == 2
        assert "it asks for a token, and this machine has none or another one" in refused.stderr
        assert "copy ~/.ray/auth_token" in refused.stderr
        assert "gcs_client.cc" not in refused.stderr

        driver = subprocess.Popen(
            [*command, *flags(world, f"--ray-address={nodes.address}")],
            env=nodes.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        while len(world.lines()) < 3:
            assert driver.poll() is None, driver.communicate()
            time.sleep(0.1)
        nodes.add("two", "--num-cpus=1", "--num-gpus=1", CONDENSEBENCH_STORE=str(tmp_path / "two"))
        nodes.kill("one")
        _, error = driver.communicate()
    finally:
        nodes.close()
    assert driver.returncode == 0, error
    lines = world.lines()
    assert Counter(line["status"] for line in lines) == {"ok": 32}
    assert len({line["id"] for line in lines}) == 32
    for name in ("head", "one", "two"):  # also the one that came late worked
        assert list((tmp_path / name).rglob("*.safetensors")), name
    assert not (tmp_path / "driver").exists()

    world.results.rename(tmp_path / "of the cluster")
    assert subprocess.run([*command, *flags(world)], env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 0
    by_id = {line["id"]: outcome(line) for line in world.lines()}
    assert by_id.keys() == {line["id"] for line in lines}
    for line in lines:
        reference = by_id[line["id"]]
        assert {name for name, value in outcome(line).items() if value != reference[name]} <= {"environment"}


def scripts(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_script_for_slurm_is_one_that_a_shell_reads() -> None:
    (script,) = scripts("bash")
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert script.startswith("#!/bin/bash\n#SBATCH ")


@pytest.mark.trains
def test_the_commands_in_the_scripts_are_understood(tmp_path: Path) -> None:
    (script,), (job,) = scripts("bash"), map(yaml.safe_load, scripts("yaml"))
    lines = [line for line in script.splitlines() if line.startswith("condensebench ")]
    for line in [*lines, job["spec"]["entrypoint"]]:
        words = line.replace('"', "").split()[1:]
        plan = words.index("--plan") + 1
        words[plan], words[words.index("--results") + 1] = str(ROOT / "results/default-plan.toml"), str(tmp_path)
        result = CliRunner().invoke(cli, [*words, f"--store={tmp_path}", "--dry-run"])
        assert result.exit_code == 0, result.output


def test_the_job_for_kubernetes_names_its_volumes() -> None:
    (job,) = map(yaml.safe_load, scripts("yaml"))
    assert job["kind"] == "RayJob"
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
