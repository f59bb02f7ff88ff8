"""The harness from Python: `bench.run(...)` and `bench.load(...)` do what the command line does."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.artifacts.size_limits import KEEP_LABELS, STORE_LIMIT
from bench.confinement.plugin_limits import Limits
from bench.driver.defaults import default_store
from bench.driver.leftovers import sweep
from bench.driver.outcome import ignore
from bench.driver.prepared import Prepared, RunOptions, prepare
from bench.driver.session import use_cluster_token
from bench.photographs.cache_limits import place_limit
from bench.places import place_data
from bench.records import files
from bench.records.files import Record
from bench.trials.trial import Trial


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
    arithmetic: str | None = None,
    data: str | Path | None = None,
    limits: Limits | None = None,
    cache_limit: str | None = None,
    keep_labels: str | None = None,
    store_limit: str | None = None,
    gpu_share: float | None = None,
    teacher_gpus: int = 1,
    speed_ups: Iterable[str] = (),
    **grid: Any,
) -> list[Record]:
    """Run what is missing and return the records of all trials of the plan.

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
        arithmetic: portable (the same bits on every x86-64 machine with AVX2) or native (the machine's fastest); None:
            portable where all data sets have it as their default, as the embedded ones do.
        data: folder of the data sets; None: $CONDENSEBENCH_DATA, else data.
        limits: of the processes of plugins (bench.confinement.plugin_limits.Limits); None: the default ones.
        cache_limit: of decoded photographs in the store, such as 200GB; None: $CONDENSEBENCH_CACHE_LIMIT, else 32GB.
        keep_labels: of raw labels in the store, which compressors share; None: $CONDENSEBENCH_KEEP_LABELS, else 40GB.
        store_limit: of all that lies in the store; None: $CONDENSEBENCH_STORE_LIMIT, else none.
        gpu_share: of a GPU that every stage which uses one gets at least, in (0, 1]; None: by the memory that it needs.
        teacher_gpus: that train a teacher together.
        speed_ups: of trainings (bench.training.speed_ups): compile, graphs, prefetch.
        grid: datasets, protocols, methods, compressors, budgets, students, ipcs, replicates (see
            bench.trials.plan.Grid).

    Raises:
        UserError: an unknown name or a bad value; the message says what is allowed.
        MachineError: a machine came to its end; what had ended is recorded.
        LockError: a released protocol or the engine is not what it was when the protocol was released.
    """
    if data is not None:
        place_data(str(data))
    if cache_limit is not None:
        place_limit(cache_limit)
    if speed_ups:
        from bench.training.speed_ups import place_speed_ups

        place_speed_ups(speed_ups)
    for setting, size in ((KEEP_LABELS, keep_labels), (STORE_LIMIT, store_limit)):
        if size is not None:
            setting.place(size)
    place = Path(store) if store is not None else default_store()
    options = RunOptions(
        Path(results), place, jobs, ray_address, rerun, limit, arithmetic, limits or Limits(), gpu_share, teacher_gpus
    )
    prepared = prepare(options, plugins, plan=plan, **grid)
    for note in prepared.notes:
        print(note, file=sys.stderr)
    with files.locked(options.results):
        for note in (*prepared.pixels_to_keep, *prepared.labels_to_keep):
            print(note, file=sys.stderr)
        run_prepared(prepared)
    wanted = {trial.id for trial in prepared.trials}
    return [record for record in load(results) if record.id in wanted]


def run_prepared(
    prepared: Prepared,
    *,
    on_record: Callable[[Record], None] = ignore,
    on_skip: Callable[[Trial], None] = ignore,
    on_lost: Callable[[Trial, str], None] = ignore,
    on_note: Callable[[str], None] = ignore,
) -> None:
    """Run the chosen trials. Needs the lock of the results folder. Raises NotHere where the files of a data set are
    missing, before anything is trained, and MachineError where a machine was to blame that trials have no record.

    Args:
        prepared: what `prepare` made of a plan.
        on_record: called with every record as its trial ends.
        on_skip: called with every trial that turns out to be done.
        on_lost: called with every trial that gets no record, and why.
        on_note: called with what the user should know: which files of a killed run were removed.
    """
    if not prepared.chosen:
        return
    prepared.find_data()
    if prepared.options.ray_address is not None:
        use_cluster_token()
    from bench.driver.on_ray.executor import RayExecutor  # starts slowly; a run with nothing to do leaves it out
    from bench.driver.walk import Run

    options, ws = prepared.options, prepared.workspace
    if swept := sweep(ws.store):
        on_note(swept)
    executor = RayExecutor(
        ws.registry, ws.store.root, jobs=options.jobs, address=options.ray_address, device=ws.device,
        arithmetic=ws.store.arithmetic, limits=options.limits, results=options.results, progress=prepared.progress,
        gpu_share=options.gpu_share, teacher_gpus=options.teacher_gpus,
    )  # fmt: skip
    try:
        executor.expect(prepared.chosen)
        job = Run(
            ws, executor, options.results, prepared.existing,
            rerun=options.rerun, limits=options.limits, on_record=on_record, on_skip=on_skip, on_lost=on_lost,
        )  # fmt: skip
        if _event_loop_runs():
            _run_in_a_thread(job.all(prepared.chosen))
        else:
            asyncio.run(job.all(prepared.chosen))
    finally:
        executor.close()
        shutil.rmtree(prepared.progress, ignore_errors=True)


def _event_loop_runs() -> bool:
    """Whether an event loop runs already in this thread, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _run_in_a_thread(work: Coroutine[Any, Any, Any]) -> None:
    """asyncio.run in a thread of its own; Ctrl-C cancels the work."""
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def cancellable() -> Any:
        task = asyncio.ensure_future(work)
        running.append((asyncio.get_running_loop(), task))
        return await task

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(asyncio.run, cancellable())
        try:
            future.result()
        except KeyboardInterrupt:
            for loop, task in running:
                loop.call_soon_threadsafe(task.cancel)
            raise


def load(results: str | Path) -> list[Record]:
    """The latest record of every trial in a results folder. Raises UserError if there is none to read."""
    return files.latest(files.load(results).records)
