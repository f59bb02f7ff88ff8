"""What running trials on Ray costs, and what a second worker gives.

Whole trials (condense, train, test, record) of the data set `digits` run with one job and with two in turns, on one
Ray.

- overhead: wall time of a run with one job less the seconds that its stages took by their own clocks, per trial, as a
  share of a trial of two seconds. Everything between the stages is in it: Ray, the runner, the record's fsync.
- scaling: wall time of as many trials with one job over that with two; the median over turns.

Other load on the machine takes the second core away; the note says how much there was, and which share of the time both
workers were at work (what Ray itself leaves of a factor of two, whatever else the machine does) and what two bare
processes, without Ray, gain over one in the same turns.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path

import torch

from bench.artifacts.refs import Workspace
from bench.driver.on_ray.executor import RayExecutor
from bench.driver.walk import Run
from bench.plugins.registry import Registry, discover
from bench.records.files import load
from bench.trials.plan import Grid, Plan
from bench.trials.trial import Trial
from protocols.networks.convnet import build
from speed.row import Row

TRIAL_SECONDS = 2.0  # the trial that the bar speaks of
IPC = 10  # 500 steps: a trial of about a second


class _Bench:
    """One results folder; every call runs the next trials, so that none is ever done before."""

    def __init__(self, folder: Path, registry: Registry) -> None:
        self.workspace = Workspace(folder / "store", registry)
        self.results, self.registry, self.used = folder, registry, 0

    def seconds(self, executor: RayExecutor, count: int) -> tuple[float, float]:
        """(wall seconds, sum of the seconds that the stages took) of `count` trials."""
        trials = self._trials(count)
        run = Run(self.workspace, executor, self.results, [])
        began = time.perf_counter()
        asyncio.run(run.all(trials))
        wall = time.perf_counter() - began
        wanted = {trial.id for trial in trials}
        records = [record for record in load(self.results) if record.id in wanted]
        assert [record.status for record in records] == ["ok"] * count
        return wall, sum(sum(record.seconds.values()) for record in records)

    def _trials(self, count: int) -> list[Trial]:
        self.used += count
        grid = Grid(["digits"], ["small-hard-v1"], ["random"], ipcs=[IPC], replicates=self.used)
        return Plan([grid]).trials(self.registry)[-count:]


def _train(rounds: int) -> None:
    """A student's training steps and nothing else, in a process of its own."""
    torch.set_num_threads(1)
    network = build(1, 8, 10)
    optimizer = torch.optim.AdamW(network.parameters())
    images, labels = torch.zeros(20, 1, 8, 8), torch.arange(20) % 10
    for _ in range(rounds):
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()


def _bare_gain(pool: ProcessPoolExecutor, rounds: int = 600) -> float:
    """Throughput of two processes over one."""
    began = time.perf_counter()
    pool.submit(_train, rounds).result()
    alone = time.perf_counter() - began
    wait([pool.submit(_train, rounds) for _ in range(2)])
    return 2 * alone / (time.perf_counter() - began - alone)


def measure(quick: bool = False) -> list[Row]:
    """Two rows: Ray's share of a trial of two seconds, and the throughput of two workers over that of one."""
    count, turns = (4, 1) if quick else (8, 5)
    load_before = os.getloadavg()[0]
    registry = discover()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name, ProcessPoolExecutor(2, mp_context=spawn) as pool:
        wait([pool.submit(_train, 50) for _ in range(4)])  # both processes start
        bench = _Bench(Path(name), registry)
        two = RayExecutor(registry, bench.workspace.store.root, jobs=2)  # owns Ray
        try:
            one = RayExecutor(registry, bench.workspace.store.root, jobs=1)
            for executor in (two, one):
                bench.seconds(executor, 4)  # warms both kinds of worker
            overheads, ratios, inflation, length, at_work, bare = [], [], [], [], [], []
            for _ in range(turns):
                wall, own = bench.seconds(one, count)
                wall_two, own_two = bench.seconds(two, count)
                overheads.append((wall - own) / count)
                ratios.append(wall / wall_two)
                inflation.append(own_two / own)
                length.append(own / count)
                at_work.append(own_two / (2 * wall_two))
                bare.append(_bare_gain(pool))
        finally:
            two.close()
    overhead, slower = statistics.median(overheads), statistics.median(inflation)
    busy = f"load average before: {load_before:.1f}"
    if load_before > 0.5:
        busy += ", so other work takes part of the second core"
    return [
        Row(
            "Ray: overhead of a trial of 2 s",
            100 * overhead / TRIAL_SECONDS,
            "%",
            3.0,
            False,
            f"{1000 * overhead:.0f} ms between the stages of a trial of {statistics.median(length):.1f} s; {busy}",
        ),
        Row(
            "Ray: throughput of 2 workers over 1",
            statistics.median(ratios),
            "x",
            1.7,
            True,
            f"turns: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; both at work "
            f"{100 * statistics.median(at_work):.0f} % of the time; beside another a trial takes {slower:.2f}x as "
            f"long; two bare processes: {statistics.median(bare):.2f}x; {os.cpu_count()} cores, {busy}",
        ),
    ]


if __name__ == "__main__":
    for row in measure():
        print(f"{row.value:7.2f} {row.unit} (bar {row.bar})  {row.what}  [{row.note}]")
