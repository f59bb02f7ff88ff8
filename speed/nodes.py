"""What a trial costs the driver, and whether that grows with trials or machines.

Machines are simulated on this one (`ray start` on loopback). Their stages sleep instead of working, so that the driver
is all that computes: it hands out stages, collects outcomes, and writes records. CPU time of its process, Ray's threads
in it included, is what counts; other work on the machine takes none of it.

- cost: CPU time of the driver a trial, over 10,000 trials on one machine.
- trials: the cost of 10,000 over that of 1,000 (1: it grows linearly).
- machines: the cost on 2, 4 and 8 machines over that on one.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.artifacts.refs import CondensedRef, DatasetRef, Workspace
from bench.driver.on_ray import serving
from bench.driver.on_ray.executor import RayExecutor
from bench.driver.outcome import Outcome
from bench.driver.walk import Run
from bench.plugins.registry import Registry, discover
from bench.records.files import load
from bench.teachers.teacher_files import TeacherRef
from bench.trials.plan import Grid, Plan
from speed._nodes import Nodes
from speed.row import Row

SLEEP = 0.005  # seconds of a stage
CORES = 4  # of a machine; who sleeps needs none
MOST_MS = 10.0  # milliseconds of the driver a trial
ROOT = Path(__file__).parents[1]


def sleep_instead(*call: Any) -> tuple[Outcome, dict[str, bytes] | None]:
    """Stands for `bench.driver.on_ray.serving.serve`, with its arguments: what a stage gives, after a moment."""
    stage, args, _ = call[-3:]
    time.sleep(SLEEP)
    values: dict[str, Any] = {
        "describe": lambda: DatasetRef("digits", "0" * 64, 10, 1, 8, False, 1437, "1" * 64, "2" * 64, 0),
        "teach": lambda: TeacherRef("teacher", True, "convnet:width=16", "3" * 64, 0.9),
        "condense": lambda: CondensedRef(f"condensed/{args[-1]}.safetensors", 10, 1000, SLEEP, True, {}),
        "evaluate": lambda: {"accuracy": 0.5, "seconds": {"train": SLEEP}, "conduct": None},
    }
    return Outcome("ok", value=values[stage]()), None


class _Bench:
    """One cluster; every call runs trials of its own."""

    def __init__(self, folder: Path, registry: Registry, executor: RayExecutor) -> None:
        self._folder, self._registry, self._executor, self._count = folder, registry, executor, 0

    def cost(self, trials: int) -> float:
        """Milliseconds of CPU time of this process a trial."""
        self._count += 1
        results = self._folder / str(self._count)
        plan = Plan([Grid(["digits"], ["small-hard-v1"], ["random"], ipcs=[1], replicates=trials)])
        run = Run(Workspace(self._folder / "store", self._registry), self._executor, results, [])
        chosen = plan.trials(self._registry)
        began = time.process_time()
        asyncio.run(run.all(chosen))
        spent = time.process_time() - began
        assert len(load(results).records) == trials
        return 1000 * spent / trials


def _on(machines: list[int], sizes: list[int], folder: Path) -> dict[tuple[int, int], float]:
    """(machines, trials) -> cost. Machines are added, never taken away."""
    (folder / "home").mkdir()
    nodes, costs = Nodes(folder / "home", PYTHONPATH=str(ROOT)), dict[tuple[int, int], float]()
    try:
        for count in range(1, machines[-1] + 1):
            nodes.add(str(count), f"--num-cpus={CORES}")
            if count in machines:
                trials = sizes if count == 1 else sizes[:1]
                # A driver of its own: Ray reads the token when it is imported.
                command = [sys.executable, "-m", "speed.nodes", nodes.address, str(folder / f"on-{count}")]
                done = subprocess.run(
                    [*command, *map(str, trials)], env=nodes.environment, stdout=subprocess.PIPE, text=True, check=True
                )
                costs |= {(count, size): cost for size, cost in zip(trials, json.loads(done.stdout), strict=True)}
    finally:
        nodes.close()
    return costs


def _drive(address: str, folder: Path, sizes: list[int]) -> list[float]:
    """The cost of each number of trials, on the cluster at `address`."""
    registry = discover()
    serving.task = serving.as_task(sleep_instead)
    executor = RayExecutor(registry, folder / "store", address=address)
    try:
        bench = _Bench(folder, registry, executor)
        bench.cost(20 * executor.jobs)  # starts the workers
        return [bench.cost(size) for size in sizes]
    finally:
        executor.close()


def measure(quick: bool = False) -> list[Row]:
    """Three rows: the cost of a trial, and how it grows with trials and with machines."""
    machines, sizes = ([1, 2], [100, 200]) if quick else ([1, 2, 4, 8], [1_000, 10_000])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        costs = _on(machines, sizes, Path(name))
    few, many = (costs[1, size] for size in sizes)
    wide = {count: costs[count, sizes[0]] / few for count in machines[1:]}
    shown = ", ".join(f"{count}: {costs[count, sizes[0]]:.1f} ms" for count in machines)
    return [
        Row(
            f"driver: CPU time a trial, {sizes[1]:,} trials that sleep", many, "ms", MOST_MS, False,
            f"one simulated machine of {CORES} cores",
        ),
        Row(
            f"driver: cost a trial, {sizes[1]:,} trials over {sizes[0]:,}",
            many / few, "x", 1.3, False, f"{many:.1f} and {few:.1f} ms",
        ),
        Row(
            f"driver: cost a trial on {machines[-1]} machines over one",
            max(wide.values()), "x", 1.5, False, f"the largest ratio; machines: {shown}",
        ),
    ]  # fmt: skip


if __name__ == "__main__":
    # Under its own name: workers find `sleep_instead` there.
    from speed import nodes

    print(json.dumps(nodes._drive(sys.argv[1], Path(sys.argv[2]), [int(size) for size in sys.argv[3:]])))
