"""The driver's side: stages are handed to workers of Ray, each with its share of the machine, and awaited."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import time
import uuid
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from bench import machine
from bench.artifacts.refs import DatasetRef
from bench.artifacts.size_limits import given
from bench.artifacts.store import LOG
from bench.confinement.plugin_limits import KILLED, Limits
from bench.driver.faults import GPU_FULL, RayLost, oom_kills
from bench.driver.on_ray import serving
from bench.driver.on_ray.progress_mirror import THROUGH_RAY, ProgressMirror
from bench.driver.on_ray.ray_nodes import nodes, servers, smallest_gpu
from bench.driver.on_ray.stage_table import STAGES
from bench.driver.on_ray.starting import end_start_watch, shut_down, start
from bench.driver.outcome import Outcome, fault_or_failure
from bench.driver.pulse import Pulse
from bench.driver.running_stages import ENDING
from bench.driver.session import Session, made_files, project_digest
from bench.driver.shares import Share, Shares, gpu_full, plugins_that_wish, unmet
from bench.errors import UserError
from bench.foreign.named_files import known_sets
from bench.places import known as data_places
from bench.plugins.registry import Registry
from bench.training.speed_ups import speed_ups
from bench.trials.trial import Trial

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
PATIENCE = 20.0  # seconds for which a cluster's server may be gone; Ray's client ends this process after 60
NODES_WITHIN = 60.0  # seconds for machines of a cluster to join, where those that are there cannot do what is wished


class RayExecutor:
    """Runs stages; at most two tasks a core wait at Ray, the rest wait here in the order of their priority.

    Args:
        registry: plugins that the stages may name.
        store: folder of the artifacts.
        jobs: tasks at once; None: one a core.
        address: of an existing cluster; None: Ray is started on this machine.
        device: where networks run, on this machine.
        arithmetic: of the worker processes, see bench.machine.
        limits: of the processes of plugins; None: the default ones.
        results: folder of the records, in which plugins have nothing to write.
        progress: folder where it stands which stages run, and how far long trainings are; None: nowhere.
        gpu_share: of a GPU that every stage which uses one gets at least; None: by the memory that it needs.
        teacher_gpus: that train a teacher together.
    """

    def __init__(
        self,
        registry: Registry,
        store: Path,
        *,
        jobs: int | None = None,
        address: str | None = None,
        device: str = "cpu",
        arithmetic: str = machine.NATIVE,
        limits: Limits | None = None,
        results: Path | None = None,
        progress: Path | None = None,
        gpu_share: float | None = None,
        teacher_gpus: int = 1,
    ) -> None:
        self._registry, self._switches = registry, machine.switches(arithmetic)
        self._owns = not ray.is_initialized()
        if self._owns:
            start(jobs, address)
        self.ship = address is not None
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
        if self.ship:  # this machine need not be like those that compute
            device = "cuda" if resources.get("GPU", 0) else "cpu"
        self._device = device
        # A process that has used one GPU cannot change to another: where a machine has several, no task with a GPU is
        # given the process of another task, which Ray would do.
        self._fresh = max((node.get("GPU", 0.0) for node in nodes()), default=0.0) > 1
        self._gpu_memory = 0 if device == "cpu" else smallest_gpu(self.ship)
        self._shares = Shares(registry, self._gpu_memory, gpu_share, teacher_gpus)
        self._too_small: set[tuple[str, float]] = set()  # (stage, share of a GPU) that did not do
        code = project_digest() if self.ship else ""
        folders = () if results is None else (results.resolve(),)
        facts = self.ship, code, data_places(), known_sets(), given()
        self._session_id, self._progress = uuid.uuid4().hex, progress
        told_in = "" if progress is None else f"{THROUGH_RAY}{self._session_id}" if self.ship else str(progress)
        faster = ",".join(speed_ups())
        session = Session(registry, str(store), device, *facts, limits or Limits(), folders, faster, told_in)
        self._session = ray.put(session)
        self._mirror = None if progress is None or not self.ship else ProgressMirror(self._session_id, progress)
        cores = max(1, int(resources.get("CPU", 1)))
        self.jobs = min(jobs or cores, cores)
        # A cluster has more cores than the jobs asked for; then no more than `jobs` may be at Ray at once.
        self._free = 2 * cores if self.jobs == cores else self.jobs
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = itertools.count()
        # When shipping: address in the store -> reference to the bytes of files by address, this one's among them.
        self._files: dict[str, Any] = {}
        self._pulse = Pulse(servers(address), patience=PATIENCE if self.ship else 0.0)
        self._oom_kills = oom_kills()
        self._lost = False

    async def during(self, work: Awaitable[Any]) -> None:
        """Await some work, for as long as Ray lives. Raises RayLost where it does not."""
        task, end = asyncio.ensure_future(work), asyncio.ensure_future(self._pulse.end())
        end_start_watch()
        try:
            await asyncio.wait((task, end), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self._lost = True
                raise RayLost(end.result())
            await task
        finally:
            end.cancel()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def run(self, stage: str, *args: Any, priority: int = 0, needs: tuple[str, ...] = ()) -> Outcome:
        """Run one of STAGES in a worker. `needs` are the addresses of the artifacts that it reads.

        Where somebody else killed a plugin's process, it runs again, as often as where a worker dies.
        """
        await self._slot(priority)
        ticket = uuid.uuid4().hex
        try:
            files = {address: self._files[address] for address in needs if address in self._files}
            share = self._share(stage, *args)
            for left in reversed(range(1 + serving.RETRIES)):
                # The session is wrapped, so that a worker unpacks it once and not for every task.
                task = serving.fresh_task if share.gpus and self._fresh else serving.task
                outcome_ref, file_ref = task.options(**self.task_options(stage, *args, share=share)).remote(
                    self._session_id, [self._session, ticket], files, stage, args, share.gpus
                )
                try:
                    outcome: Outcome = await outcome_ref
                except ray.exceptions.RayError as error:
                    return await self._fault(stage, error)
                except asyncio.CancelledError:
                    if not self._lost:
                        with contextlib.suppress(Exception):  # Ray may be gone already
                            ray.cancel(outcome_ref)
                    raise
                for note in outcome.notes:
                    LOG.warning("%s", note)
                if outcome.error_type == GPU_FULL and share.gpus < 1 and left:
                    self._too_small.add((stage, share.gpus))
                    share = replace(share, gpus=1.0)
                elif outcome.error_type != KILLED or not left:
                    break
            if outcome.error_type == GPU_FULL:
                return replace(outcome, message=gpu_full(stage, share, self._gpu_memory, outcome.message))
            if outcome.error_type == KILLED and oom_kills() > self._oom_kills:
                return self._out_of_memory(stage)
            if self.ship:
                self._files |= dict.fromkeys(made_files(outcome), file_ref)
            return outcome
        finally:
            self._over(ticket)
            self._release()

    def _over(self, ticket: str) -> None:
        """Take back what a worker said of a stage, where it was killed before it did so itself."""
        if self._mirror is not None:
            self._mirror.over.add(f"{ticket}{ENDING}")
        if self._progress is not None:
            (self._progress / f"{ticket}{ENDING}").unlink(missing_ok=True)

    async def _fault(self, stage: str, error: ray.exceptions.RayError) -> Outcome:
        """The outcome of a stage that Ray could not end. Raises RayLost where Ray itself is gone."""
        if (gone := await self._pulse.dead()) is not None:
            self._lost = True
            raise RayLost(gone)
        # A worker that died as often as it was tried died by what it did, unless the machine ran short of memory.
        if isinstance(error, ray.exceptions.WorkerCrashedError) and oom_kills() > self._oom_kills:
            return self._out_of_memory(stage)
        return fault_or_failure(error, str(error))

    @staticmethod
    def _out_of_memory(stage: str) -> Outcome:
        message = f"the machine ran out of memory while it ran '{stage}'; fewer --jobs need less"
        return Outcome("lost", message=message)

    def task_options(self, stage: str, *args: Any, share: Share | None = None) -> dict[str, Any]:
        """The role of the worker and the share of the machine that a stage gets, as Ray reads them."""
        if share is None:
            gpus = STAGES[stage].gpus
            share = self._of_this_machine(self._shares.of_method(args[0]) if gpus is None else Share(gpus))
        kind = {"CONDENSEBENCH_ROLE": STAGES[stage].role, **self._own_workers(args)}
        environment = {"env_vars": {**ONE_THREAD, **self._switches, **kind}}
        options: dict[str, Any] = {"runtime_env": environment, "num_cpus": share.cpus}
        if share.gpus:
            options["num_gpus"] = share.gpus
        if share.memory:
            options["memory"] = share.memory
        return options

    def _share(self, stage: str, *args: Any) -> Share:
        """What a stage gets: a GPU of its own where so little did not do before."""
        share = self._of_this_machine(self._shares.of(stage, *args))
        return replace(share, gpus=1.0) if (stage, share.gpus) in self._too_small else share

    def _of_this_machine(self, share: Share) -> Share:
        return replace(share, gpus=0.0) if self._device == "cpu" else share

    def expect(self, trials: Sequence[Trial]) -> None:
        """Raise UserError where what a plugin of these trials wishes for is on no machine: Ray would wait for ever.
        Machines of a cluster may come late: they are waited for, for NODES_WITHIN."""
        if self._device == "cpu" and self._shares.teacher_gpus > 1:
            raise UserError(f"--teacher-gpus {self._shares.teacher_gpus}: no GPU is here. Leave the option out.")
        deadline = time.monotonic() + (NODES_WITHIN if self.ship else 0.0)
        for who, share in plugins_that_wish(self._shares, trials):
            while (reason := unmet(self._of_this_machine(share), nodes())) is not None:
                if time.monotonic() >= deadline:
                    raise UserError(f"{who} cannot run here: {reason}.")
                time.sleep(1.0)

    def _own_workers(self, args: tuple[Any, ...]) -> dict[str, str]:
        """What keeps the workers that open a plugin's data set apart: its code runs in them, and whatever that changes
        of torch, say, stays changed. Nothing for the data sets of this project."""
        specs = [each.spec for each in args if isinstance(each, DatasetRef)] or [str(args[0])]
        name = specs[0].partition(":")[0]
        if name not in self._registry.names("dataset") or not self._registry.get("dataset", name).foreign:
            return {}
        return {"CONDENSEBENCH_DATASET": name}

    async def _slot(self, priority: int) -> None:
        if self._free > 0:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
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
        if self._mirror is not None:
            self._mirror.end(self._lost)
        if self._owns:
            shut_down(self._lost)
