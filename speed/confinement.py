"""What it costs that every call of a method has a process of its own, in seconds of CPU time.

- a fresh process: CPU time of the harness, the warden and the plugin's process for a method that does nothing, less the
  CPU time of the same call in this process. Median over calls; libraries that a method imports itself are its own.
- the server that processes are forked from: CPU time of forking it, once a worker. It is all that students pay.
- the store's digest: CPU time of checking one artifact of a mebibyte when it is first read.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.artifacts.store import read, write
from bench.confinement import fork_server
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.stages.context import HarnessContext
from bench.stages.lend import Lending
from bench.stages.method_call import build_condensed
from bench.stages.teach import teach
from speed.row import Row


def _cpu(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def measure(quick: bool = False) -> list[Row]:
    """Three rows, in seconds of CPU time."""
    calls = 3 if quick else 15
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        ws = Workspace(Path(name) / "store", discover())
        dataset = describe(ws, "digits")
        teacher = teach(ws, "small-teacher-v1", dataset)
        spec, train = parse(ws.registry, "method", "random"), ws.described(dataset).train
        coordinates = ("condense", "random", "digits", 1, 0)

        def here() -> None:
            with ws.store.scratch() as scratch:
                ctx = HarnessContext(
                    store=ws.store, registry=ws.registry, data=ws.described(dataset), dataset_digest=dataset.digest,
                    teacher=teacher, coordinates=coordinates, scratch=scratch, device="cpu",
                )  # fmt: skip
                build_condensed(spec, train, 1, ctx)

        def apart() -> float:
            lending = Lending(ws, spec, dataset, teacher, None, coordinates)
            with lending.process() as process:
                process.call("bench.stages.lent:condense", 1, True)
            return process.cpu

        here()
        alone = statistics.median(_cpu(here) for _ in range(calls))
        apart()  # starts the server
        costs = []
        for _ in range(calls):
            began = time.process_time()
            elsewhere = apart()
            costs.append(elsewhere + time.process_time() - began)
        path = Path(name) / "artifact.safetensors"
        digests = []
        for _ in range(calls):
            write(path, {"x": np.ones(2**17)}, {})
            digests.append(_cpu(lambda: read(path)))
    forks = [_cpu(_fork_a_server) for _ in range(calls)]
    note = f"a call in this process takes {1000 * alone:.1f} ms; --stage-timeout and the other limits are on"
    return [
        Row("a fresh process for a call of a method, CPU", statistics.median(costs) - alone, "s", 1.0, False, note),
        Row("what students pay: forking the server, CPU", statistics.median(forks), "s", 0.1, False, "once a worker"),
        Row(
            "checking 1 MiB of the store, CPU", statistics.median(digests), "s", 0.02, False, "once a process and file"
        ),
    ]


def _fork_a_server() -> None:
    """As a worker does at its first task."""
    before = fork_server._server, fork_server._server_owner
    fork_server._server = None
    fork_server.start()
    server, (fork_server._server, fork_server._server_owner) = fork_server._server, before
    assert server is not None
    server.close()  # it ends
