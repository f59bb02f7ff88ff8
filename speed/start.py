"""What a run takes before its first stage begins: CPU time, by its parts, of every process that the run waits for.

A plan of three trials, whose canaries have passed here and whose data set was described here before, as they were for
every run but the first. Its parts:

- driver: the process that the user starts, until it hands out the first stage, Ray's own start left out.
- worker: the process in which the first stage runs, from there until the stage begins, Ray's own share left out.
- Ray: its servers and agents, and what its modules take in driver and worker. Nothing of it is this project's, but
  which of its processes start.

CPU time, not time on the clock: on several cores much of it passes at once.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from speed.row import Row

ROOT = Path(__file__).parents[1]
PLAN = """
[[grid]]
datasets = ["digits"]
protocols = ["small-hard-v1"]
methods = ["random"]
ipcs = [1]
replicates = 3
"""
MOST = 3.0  # seconds


OF_RAY = "ray start"  # the step of the driver that is Ray's
# The modules of Ray, where those of this project are loaded that are loaded before.
RAY_MODULES = """
import os, bench.cli.progress, bench.driver.prepared
before = sum(os.times()[:2])
import ray
print(sum(os.times()[:2]) - before)
"""


def measure(quick: bool = False) -> list[Row]:
    """The sum with its bar, and its parts: this project's and Ray's; the best of three starts."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "plan.toml").write_text(PLAN, encoding="utf-8")
        _start(folder, "first")  # the canaries pass, and the data set is described
        starts = [_start(folder, "again") for _ in range(1 if quick else 3)]
        modules = min(float(_output(["-c", RAY_MODULES])) for _ in starts)
    best = min(starts, key=_total)
    steps, rays, total = best["steps"], best["ray"], _total(best)
    rays = {"modules in the driver": modules, "start in the driver": steps.pop(OF_RAY), **rays}
    steps["modules of the run"] -= modules
    driver = sum(steps.values())
    what = "a plan of 3 trials, CPU time before the first stage"
    return [
        Row(what, total, "s", MOST, False, "this project and Ray"),
        Row(f"{what}: this project's driver", driver, "s", None, False, _listed(steps)),
        Row(f"{what}: its worker", best["worker"], "s", None, False, f"loads {best['heavy'] or 'no torch'}"),
        Row(f"{what}: Ray", sum(rays.values()), "s", None, False, _listed(rays)),
    ]


def _total(parts: dict[str, Any]) -> float:
    return float(sum(parts["steps"].values()) + parts["worker"] + sum(parts["ray"].values()))


def _listed(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {seconds:.2f}" for name, seconds in shares.items())


def _start(folder: str, which: str) -> dict[str, Any]:
    """The parts of one start, by a driver of its own."""
    call = "import sys; from speed.start import drive; drive(*sys.argv[1:])"
    parts: dict[str, Any] = json.loads(_output(["-c", call, folder, which]).splitlines()[-1])
    return parts


def _output(arguments: list[str]) -> str:
    command = [sys.executable, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout


def drive(folder: str, which: str) -> None:
    """Do what `condensebench run` does up to the first stage, step by step, and print what each step took."""
    steps, last = {"python": spent()}, spent()

    def step(name: str) -> None:
        nonlocal last
        steps[name], last = spent() - last, spent()

    from bench.cli.progress import RunProgress
    from bench.cli.run import command  # noqa: F401 (what `condensebench run` loads to read its options)
    from bench.driver.prepared import RunOptions, prepare

    step("modules")
    place = Path(folder)
    prepared = prepare(RunOptions(place / "results", place / "store", jobs=1), plan=place / "plan.toml")
    step("plan and lock")
    RunProgress(prepared).overview()
    prepared.find_data()
    step("states of trials")
    from bench.driver.on_ray import serving, starting
    from bench.driver.on_ray.executor import RayExecutor
    from bench.driver.walk import Run

    step("modules of the run")
    starting.start(1, None)
    step("ray start")
    ws = prepared.workspace
    executor = RayExecutor(ws.registry, ws.store.root, jobs=1, arithmetic=ws.store.arithmetic)
    Run(ws, executor, prepared.options.results, prepared.existing)
    if which == "again":
        serving.task = serving.as_task(begin)
    answer = asyncio.run(executor.run("describe", "digits")).get()
    step("session and stage")
    if which == "again":
        others = [each for each in psutil.Process().children(recursive=True) if each.pid != answer["worker"]]
        rays = {"worker": answer["before"]}
        for each in others:
            rays[program(each)] = rays.get(program(each), 0.0) + _cpu(each)
        worker = answer["began"] - answer["before"]
        print(json.dumps({"steps": steps, "worker": worker, "ray": rays, "heavy": answer["heavy"]}))
    else:
        print(json.dumps({}))
    starting.shut_down(lost=False)


def spent() -> float:
    """Seconds of CPU time of this process and of the children that it has waited for."""
    return sum(os.times()[:4])


def program(process: psutil.Process) -> str:
    """What a process of Ray is, in a word: the name that Ray gives it, or that of its program."""
    try:
        line = process.cmdline()
    except psutil.Error:
        return "ended"
    scripts = [Path(word).name for word in line[1:] if word.endswith(".py")]
    first = Path(line[0]).name if line else "ended"
    return scripts[0] if first.startswith("python") and scripts else first


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:  # it has ended
        return 0.0
    return float(times.user + times.system)


def begin(*call: Any) -> tuple[Any, None]:
    """Stands for `bench.driver.on_ray.serving.serve`, with its arguments: what comes before the stage, measured."""
    before = spent()
    from bench.driver.on_ray import serving
    from bench.driver.on_ray.stage_table import STAGES
    from bench.driver.outcome import Outcome

    session_id, session, files, stage, _, share = call
    serving.workspace_with(session_id, session[0], files, share)
    _ = STAGES[stage].function
    heavy = " ".join(sorted({"torch", "timm", "torchvision"} & sys.modules.keys()))
    return Outcome("ok", {"worker": os.getpid(), "before": before, "began": spent(), "heavy": heavy}), None
