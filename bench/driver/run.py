"""The harness from Python: `bench.run(...)` and `bench.load(...)` do what the command line does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

from bench.driver.outcome import ignore
from bench.errors import UserError
from bench.plugins.registry import Registry, discover, unknown
from bench.records import files
from bench.records.files import Record, State
from bench.trials.plan import Grid, Plan, read_plan
from bench.trials.trial import Trial

DEFAULT_PROTOCOLS = ("small-soft-v1",)


def default_store() -> Path:
    """Where artifacts are kept: $CONDENSEBENCH_STORE, else .condensebench in the current folder."""
    return Path(os.environ.get("CONDENSEBENCH_STORE", ".condensebench"))


def default_device() -> str:
    """`cuda` where there is a CUDA device, else `cpu`."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def make_plan(*, plan: str | Path | None = None, **grid: Any) -> Plan:
    """A plan file, or one grid from keyword arguments (see bench.trials.plan.Grid). Raises UserError."""
    given = {key: value for key, value in grid.items() if value not in (None, (), [])}
    if plan is not None:
        if set(given) - {"replicates"}:
            raise UserError(
                f"A plan file says what to run; leave out {', '.join(sorted(set(given) - {'replicates'}))}."
            )
        loaded = read_plan(plan)
        return Plan([Grid(**{**g.__dict__, **given}) for g in loaded.grids])
    allowed = [f.name for f in dataclass_fields(Grid)]
    for key in given:
        if key not in allowed:
            raise UserError(unknown("argument", key, allowed))
    return Plan([Grid(**{"protocols": DEFAULT_PROTOCOLS, **given})])


def planned_trials(registry: Registry, store: Path, *, plan: str | Path | None = None, **grid: Any) -> list[Trial]:
    """The trials of a plan whose released protocols are as they were released.

    Raises:
        LockError: a protocol that the plan names, or the engine, differs from what protocols/lock.json holds.
        UserError: see `make_plan`; or a protocol was withdrawn.
    """
    from bench.lock.before_run import guard

    made = make_plan(plan=plan, **grid)
    guard(registry, (protocol for grid_ in made.grids for protocol in grid_.protocols), store)
    return made.trials(registry)


def run(
    *,
    results: str | Path = "results/local",
    plan: str | Path | None = None,
    plugins: Iterable[str | Path] = (),
    jobs: int | None = None,
    ray_address: str | None = None,
    rerun: str = "missing",
    limit: int | None = None,
    store: str | Path | None = None,
    **grid: Any,
) -> list[Record]:
    """Run what is missing and return the records of all trials asked for.

        bench.run(datasets=["digits"], protocols=["small-hard-v1"], methods=["random", "herding"], ipcs=[1, 10])

    Args:
        results: folder of the records; continued if it exists.
        plan: a plan file, instead of `grid`.
        plugins: files with methods, compressors or data sets of your own.
        jobs: trials at once; None: one a core.
        ray_address: an existing Ray cluster, `auto` for the one running here.
        rerun: missing | failed | stale | all.
        limit: at most so many of the trials that have to run.
        store: folder of the artifacts; None: $CONDENSEBENCH_STORE, else .condensebench.
        grid: datasets, protocols, methods, compressors, budgets, students, ipcs, replicates (see
            bench.trials.plan.Grid).

    Raises:
        UserError: an unknown name or a bad value; the message says what is allowed.
        LockError: a released protocol or the engine is not what it was when the protocol was released.
    """
    registry = discover(plugins)
    place = Path(store) if store is not None else default_store()
    trials = planned_trials(registry, place, plan=plan, **grid)
    results = Path(results)
    with files.locked(results):
        run_trials(
            registry,
            trials,
            results,
            jobs=jobs,
            ray_address=ray_address,
            rerun=rerun,
            limit=limit,
            store=place,
        )
    wanted = {trial.id for trial in trials}
    return [record for record in load(results) if record.id in wanted]


def run_trials(
    registry: Registry,
    trials: Sequence[Trial],
    results: Path,
    *,
    jobs: int | None,
    ray_address: str | None,
    rerun: str,
    limit: int | None,
    store: Path,
    on_start: Callable[[dict[Trial, State], list[Trial]], None] = ignore,
    on_record: Callable[[Record], None] = ignore,
    on_skip: Callable[[Trial], None] = ignore,
) -> Any:
    """Run the chosen trials; returns the Report, or None where there was nothing to run. Needs the results' lock."""
    from bench.driver.walk import RERUN, Run, states
    from bench.stages.stages import Workspace

    if rerun not in RERUN:
        raise UserError(unknown("--rerun", rerun, RERUN))
    existing = files.load(results).records if any(results.glob("*.jsonl")) else []
    ws = Workspace(store.resolve(), registry, default_device())
    found = states(ws, trials, existing)
    chosen = [trial for trial in trials if found[trial] in RERUN[rerun]]
    if limit is not None:
        chosen = chosen[:limit]
    on_start(found, chosen)
    if not chosen:
        return None
    from bench.driver.on_ray import RayExecutor

    executor = RayExecutor(registry, ws.store.root, jobs=jobs, address=ray_address, device=ws.device)
    try:
        job = Run(ws, executor, results, existing, rerun=rerun, on_record=on_record, on_skip=on_skip)
        return _to_the_end(job.all(chosen))
    finally:
        executor.close()


def _to_the_end(work: Coroutine[Any, Any, Any]) -> Any:
    """asyncio.run, also where an event loop runs already in this thread, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task]] = []

    async def cancellable() -> Any:
        task = asyncio.ensure_future(work)
        running.append((asyncio.get_running_loop(), task))
        return await task

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(asyncio.run, cancellable())
        try:
            return future.result()
        except KeyboardInterrupt:
            for loop, task in running:
                loop.call_soon_threadsafe(task.cancel)
            raise


def load(results: str | Path) -> list[Record]:
    """The latest record of every trial in a results folder. Raises UserError if there is none to read."""
    return files.latest(files.load(results).records)
