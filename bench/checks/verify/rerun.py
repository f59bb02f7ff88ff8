"""Trials run again, with everything that they are made from, in a store and a results folder of their own."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from bench import machine
from bench.artifacts.refs import Workspace
from bench.confinement.plugin_limits import Limits
from bench.driver.defaults import default_device
from bench.driver.on_ray.executor import RayExecutor
from bench.driver.outcome import Outcome, ignore
from bench.driver.walk import Run
from bench.places import absolute_path
from bench.plugins.registry import Registry
from bench.records import files
from bench.records.files import Record
from bench.stages.curve import LearningCurve
from bench.trials.trial import Trial


class _Remembering(RayExecutor):
    """An executor that remembers what each student was trained from."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.inputs: dict[Trial, tuple[Any, ...]] = {}

    async def run(self, stage: str, *args: Any, **options: Any) -> Outcome:
        """Run one stage in a worker."""
        if stage == "evaluate":
            self.inputs[args[0]] = args
        return await super().run(stage, *args, **options)


class Reruns(AbstractContextManager["Reruns"]):
    """Runs trials and learning curves of their students, and keeps what it ran.

    Args:
        registry: plugins and protocols that the trials name.
        store: artifacts that are trusted and reused; None: nothing is, a fresh store is made and removed.
        jobs: trials at once; None: one a core.
        arithmetic: of the workers, see bench.machine.
        limits: of the processes of plugins; None: the default ones.
        guarded: a folder in which plugins have nothing to write; None: that of the reruns' own records.
        progress: folder where it stands which stages run (bench.driver.running_stages); None: nowhere.
        on_record: called with every record as its trial ends.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        store: Path | None = None,
        jobs: int | None = None,
        arithmetic: str = machine.NATIVE,
        limits: Limits | None = None,
        guarded: Path | None = None,
        progress: Path | None = None,
        on_record: Callable[[Record], None] = ignore,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="condensebench-verify-")
        root = Path(self._folder.name).resolve()
        self._results, self._on_record = root / "results", on_record
        device = default_device()
        place = absolute_path(store) if store else root / "store"
        self._ws = Workspace(place, registry, device, arithmetic=arithmetic)
        self._executor = _Remembering(
            registry, place, jobs=jobs, device=device, arithmetic=arithmetic, limits=limits,
            results=guarded or self._results, progress=progress,
        )  # fmt: skip
        self._known: dict[Trial, Record] = {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.close()
        self._folder.cleanup()

    def run(self, trials: Iterable[Trial]) -> dict[Trial, Record]:
        """Trial -> what it gives here. A trial runs once, however often it is asked for."""
        wanted = list(dict.fromkeys(trials))
        missing = [trial for trial in wanted if trial not in self._known]
        if missing:
            job = Run(self._ws, self._executor, self._results, (), rerun="all", on_record=self._on_record)
            asyncio.run(job.all(missing))
            by_id = {record.id: record for record in files.load(self._results).records}
            self._known |= {trial: by_id[trial.id] for trial in missing}
        return {trial: self._known[trial] for trial in wanted}

    def curves(self, trial: Trial, lengths: Sequence[int] = (1,)) -> list[LearningCurve | None]:
        """The student of a trial that ran here, tested after every epoch, trained `length` times as long as its
        protocol prescribes; None where a training failed."""
        return asyncio.run(self._curves(self._executor.inputs[trial], lengths))

    async def _curves(self, inputs: tuple[Any, ...], lengths: Sequence[int]) -> list[LearningCurve | None]:
        outcomes = await asyncio.gather(*(self._executor.run("learning_curve", *inputs, length) for length in lengths))
        return [outcome.value if outcome.status == "ok" else None for outcome in outcomes]
