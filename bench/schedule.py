"""Runs stages on Ray: tasks of one thread in reused worker processes. The only file that imports ray.

Two kinds of worker never share a process: those that run methods and encoders, and those that train and test students.
Ray keeps worker processes apart by their runtime environment, which carries the role.

On one machine every task sees the same store and only addresses travel. With `ship=True` (other machines, no shared
folder) a task returns the file that it made, Ray's object store carries it, and the task that needs it puts it in
place.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
from asyncio import Future, get_running_loop
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Ray starts workers at niceness 15; beside any other load an `import torch` then takes most of a minute.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray

from bench import stages
from bench.errors import UserError
from bench.outcome import Outcome, attempt, failure
from bench.registry import Registry

ROLES = {
    "describe": "student",
    "teach": "student",
    "evaluate": "student",
    "condense": "method",
    "encode_labels": "method",
}
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
RETRIES = 2  # for a worker that dies: killed, out of memory, its machine gone

# One a process: Ray gives every driver worker processes of its own.
_workspace: stages.Workspace | None = None


@dataclass(frozen=True)
class Session:
    """What all tasks of one driver share."""

    registry: Registry
    store: str
    device: str
    ship: bool


class RayExecutor:
    """Runs stages; at most two tasks a core wait at Ray, the rest wait here in the order of their priority."""

    def __init__(
        self,
        registry: Registry,
        store: Path,
        *,
        jobs: int | None = None,
        address: str | None = None,
        device: str = "cpu",
    ) -> None:
        self._owns = not ray.is_initialized()
        if self._owns:
            _start(jobs, address)
        self.ship = address is not None
        self._device = device
        self._session = ray.put(Session(registry, str(store), device, self.ship))
        self.jobs = max(1, int(jobs or ray.cluster_resources().get("CPU", 1)))
        self._free = 2 * self.jobs
        self._waiting: list[tuple[int, int, Future]] = []
        self._count = itertools.count()
        self._files: dict[str, Any] = {}  # address in the store -> reference to the file's bytes, when shipping

    async def run(
        self, stage: str, *args: Any, priority: int = 0, needs: tuple[str, ...] = (), gpus: float = 0.0
    ) -> Outcome:
        """Run one stage in a worker. `needs` are the addresses of the artifacts that it reads."""
        await self._slot(priority)
        try:
            files = {address: self._files[address] for address in needs if address in self._files}
            options: dict[str, Any] = {"runtime_env": {"env_vars": {**ONE_THREAD, "CONDENSEBENCH_ROLE": ROLES[stage]}}}
            if gpus and self._device != "cpu":
                options["num_gpus"] = gpus
            # ray types a task with two returns as one reference
            outcome_ref, file_ref = _task.options(**options).remote(self._session, files, stage, args)  # type: ignore[misc]
            try:
                outcome: Outcome = await outcome_ref
            except ray.exceptions.RayError as error:
                return failure(error)
            if self.ship and (made := made_file(outcome)) is not None:
                self._files[made] = file_ref
            return outcome
        finally:
            self._release()

    async def _slot(self, priority: int) -> None:
        if self._free > 0:
            self._free -= 1
            return
        turn = get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._count), turn))
        await turn

    def _release(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def close(self) -> None:
        """Stop what this executor started."""
        if self._owns:
            ray.shutdown()


def _start(jobs: int | None, address: str | None) -> None:
    try:
        if address is not None:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(
                num_cpus=jobs,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"Ray could not be reached at '{address}': {error}") from None


@ray.remote(num_cpus=1, max_retries=RETRIES, num_returns=2)
def _task(session: Session, files: dict[str, Any], stage: str, args: tuple) -> tuple[Outcome, bytes | None]:
    """One stage in a worker process. Its workspace (plugins, opened data sets) is kept for the next task."""
    global _workspace
    if _workspace is None:
        import torch

        torch.set_num_threads(1)
        # Without a shared folder every machine keeps a store of its own.
        own = Path(session.store) / ray.get_runtime_context().get_node_id() if session.ship else Path(session.store)
        _workspace = stages.Workspace(own, session.registry, session.device)
    store = _workspace.store
    for address, reference in files.items():
        store.adopt(address, ray.get(reference))
    outcome = attempt(getattr(stages, stage), _workspace, *args)
    content = None
    if session.ship and (address := made_file(outcome)) is not None:
        content = (store.root / address).read_bytes()
    return outcome, content


def made_file(outcome: Outcome) -> str | None:
    """The address of the artifact that a stage made, if it made one that other stages read from the store."""
    if outcome.status != "ok" or getattr(outcome.value, "shipped", False):
        return None
    return getattr(outcome.value, "address", None)
