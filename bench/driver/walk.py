"""Runs the trials of a plan that have no valid record yet, and appends a record the moment each trial ends.

A trial walks through its stages as a coroutine; what several trials share (data set, teacher, condensed set, encoded
labels) is asked for once and awaited by all. Records are written by this process alone.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from bench.driver.on_ray import RayExecutor
from bench.driver.outcome import Outcome, failure, ignore
from bench.engine import ENGINE_VERSION
from bench.errors import UserError
from bench.labels.labels import shards
from bench.plugins.spec import parse
from bench.protocol import definition
from bench.protocol.recipe import Recipe
from bench.records import files
from bench.records.files import Failure, Record, State
from bench.stages import stages
from bench.stages.stages import CondensedRef, DatasetRef, LabelsRef, Workspace
from bench.teachers import further, teacher_files
from bench.teachers.teacher_files import TeacherRef, teachers_digest
from bench.trials.budget import reference_bytes
from bench.trials.trial import Trial
from bench.views.parameters import AUGMENT_VERSION

RECORDS = "records.jsonl"
RERUN = {
    "missing": {"missing", "stale"},
    "failed": {"missing", "stale", "failed"},
    "stale": {"stale"},
    "all": {"missing", "stale", "failed", "done"},
}


@dataclass
class Report:
    """What a run came to."""

    done: int = 0
    counts: Counter = field(default_factory=Counter)  # status -> trials run now


class Makers:
    """What makes a trial's result, as digests; each is taken once, however many trials share it."""

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws
        self._plugin = lru_cache(maxsize=None)(lambda kind, spec: parse(ws.registry, kind, spec).plugin.digest)
        self._networks = lru_cache(maxsize=None)(lambda spec: further.declared(parse(ws.registry, "method", spec)))
        self._opened = lru_cache(maxsize=None)(self._opened_before)
        self._protocol = lru_cache(maxsize=None)(lambda name: definition.load(ws.registry, name))

    def made_by(
        self, trial: Trial, dataset: DatasetRef | None = None, labellers: Sequence[TeacherRef] = ()
    ) -> dict[str, str | None]:
        """Digests by name; None for a data set or teachers that are not given, and where there is no compressor."""
        return {
            "dataset": dataset.digest if dataset else None,
            "teacher": teachers_digest(labellers) if labellers else None,
            "protocol": self._protocol(trial.protocol).digest,
            "method": self._plugin("method", trial.method),
            "compressor": self._plugin("compressor", trial.compressor) if trial.compressor else None,
            "network": self._plugin("network", trial.student),
            "engine": f"{ENGINE_VERSION}.{AUGMENT_VERSION}",
            **self._further(trial, dataset, labellers),
        }

    def _further(
        self, trial: Trial, dataset: DatasetRef | None, labellers: Sequence[TeacherRef]
    ) -> dict[str, str | None]:
        """The digest of a method's further networks, as far as they are known here; nothing for a method with none."""
        count = self._networks(trial.method) - 1
        if not count:
            return {}
        found = None
        if dataset and labellers:
            found = further.made_before(self._ws.store, self._ws.registry, dataset, labellers[0], count)
        return {"backbones": further.digest_of(found or ())}

    def known(self, trial: Trial) -> dict[str, str | None]:
        """made_by as far as it can be told before anything runs: by data sets and teachers opened here before."""
        return self.made_by(trial, *self._opened(trial.dataset, self.teachers(trial)))

    def teachers(self, trial: Trial) -> tuple[str, ...]:
        """The names of the teachers' recipes; methods see the first."""
        return self._protocol(trial.protocol).teachers(trial.dataset)

    def regime(self, trial: Trial) -> str:
        """hard, stored or online."""
        return self._protocol(trial.protocol).labels(trial.dataset)

    def _opened_before(self, spec: str, recipes: tuple[str, ...]) -> tuple[DatasetRef | None, tuple[TeacherRef, ...]]:
        """The data set and all its teachers; no teachers where one of them was never made here."""
        dataset = stages.find_dataset(self._ws, spec)
        if dataset is None:
            return None, ()
        found = []
        for recipe in recipes:
            resolved = teacher_files.load_recipe(self._ws.registry, recipe, spec, dataset.classes)
            found.append(teacher_files.find(self._ws.store, resolved, spec, dataset.digest))
        known = tuple(ref for ref in found if ref is not None)
        return dataset, known if len(known) == len(found) else ()


def states(ws: Workspace, trials: Sequence[Trial], existing: Sequence[Record]) -> dict[Trial, State]:
    """done, missing, stale or failed, for every trial.

    Where a data set was never opened here, its digest and its teacher's are taken to be those of the record until the
    run has opened it and knows better; all other digests are compared now.
    """
    latest = {record.id: record for record in files.latest(existing)}
    makers = Makers(ws)
    return {trial: _state(trial, makers.known(trial), latest) for trial in trials}


def _state(trial: Trial, made: dict[str, str | None], latest: Mapping[str, Record]) -> State:
    """The state by the digests that are known (not None)."""
    identity = trial.id
    record = latest.get(identity)
    if record is None:
        return "missing"
    expected = {**record.made_by, **{name: value for name, value in made.items() if value is not None}}
    return files.status_of(identity, expected, latest)


class Run:
    """One run of a plan: the trials asked for, less those that are done."""

    def __init__(
        self,
        ws: Workspace,
        executor: RayExecutor,
        results: Path,
        existing: Sequence[Record],
        *,
        rerun: str = "missing",
        on_record: Callable[[Record], None] = ignore,
        on_skip: Callable[[Trial], None] = ignore,
    ) -> None:
        self._ws, self._executor, self._path = ws, executor, results / RECORDS
        self._latest = {record.id: record for record in files.latest(existing)}
        self._rerun, self._on_record, self._on_skip = RERUN[rerun], on_record, on_skip
        self._shared: dict[tuple, asyncio.Task] = {}
        self._environment = files.environment()
        self._makers = Makers(ws)

    async def all(self, trials: Sequence[Trial]) -> Report:
        """Run the trials; earlier ones first where they compete for a worker."""
        report = Report()
        await asyncio.gather(*(self._one(trial, index, report) for index, trial in enumerate(trials)))
        return report

    async def _one(self, trial: Trial, priority: int, report: Report) -> None:
        made: dict[str, str | None] = {}
        fields: dict[str, Any] = {"environment": self._environment, "seconds": {}}
        try:
            made = self._makers.made_by(trial)
            fields["labels"] = self._makers.regime(trial)
            outcome = await self._trial(trial, priority, made, fields)
            record = None if outcome is None else _record(trial, outcome, made, fields)
        except Exception as error:  # of this trial: it must cost neither the others nor its own record
            outcome = failure(error, traceback.format_exc())
            record = _record(trial, outcome, made, {"environment": self._environment})
        if record is None:
            report.done += 1
            self._on_skip(trial)
            return
        try:
            files.append(self._path, record)
        except OSError as error:
            raise UserError(f"{self._path} cannot be written: {error.strerror or error}") from None
        report.counts[record.status] += 1
        self._on_record(record)

    async def _trial(
        self, trial: Trial, priority: int, made: dict[str, str | None], fields: dict[str, Any]
    ) -> Outcome | None:
        """How a trial comes out, or None where it turns out to be done; fills `made` and `fields` on the way."""
        dataset = await self._dataset(trial, priority)
        if dataset.status != "ok":
            return dataset
        made |= self._makers.made_by(trial, dataset.value)
        fields["num_classes"] = dataset.value.classes
        taught = await self._teachers(trial, dataset.value, priority)
        for teacher in taught:
            if teacher.status != "ok":
                return teacher
        labellers = tuple(teacher.value for teacher in taught)
        made |= self._makers.made_by(trial, dataset.value, labellers)
        if _state(trial, made, self._latest) not in self._rerun:
            return None
        return await self._walk(trial, dataset.value, labellers, priority, made, fields)

    async def _walk(
        self,
        trial: Trial,
        dataset: DatasetRef,
        labellers: tuple[TeacherRef, ...],
        priority: int,
        made: dict[str, str | None],
        fields: dict[str, Any],
    ) -> Outcome:
        """Condense, encode, evaluate; `made` and `fields` collect what the record tells of the stages reached."""
        _, recipe = stages.cell_recipe(self._ws.registry, trial, dataset.classes)
        fields["recipe"] = recipe.digest
        teacher = labellers[0]
        needs = () if teacher.shipped else (teacher.address,)
        all_needs = tuple(each.address for each in labellers if not each.shipped)
        outcome = await self._condense(trial, dataset, teacher, trial.replicate, priority, needs)
        if outcome.status != "ok":
            return outcome
        condensed: CondensedRef = outcome.value
        if condensed.backbones:
            made["backbones"] = condensed.backbones
        fields |= {
            "bytes_images": condensed.bytes_images,
            "num_images": condensed.images,
            "provenance": dict(condensed.provenance),
        }
        fields["seconds"]["condense"] = condensed.seconds
        parts = []
        if trial.compressor is not None:
            fields["num_views"] = recipe.views
            fields["bytes_labels_reference"] = reference_bytes(condensed.images, recipe.views, dataset.classes)
            encoded = await self._encode(trial, recipe, dataset, labellers, condensed, priority, all_needs)
            for outcome in encoded:
                if outcome.status != "ok":
                    return outcome
            parts = [outcome.value for outcome in encoded]
            fields["seconds"]["encode"] = sum(part.seconds for part in parts)
        online = recipe.labels == "online"
        reads = (condensed.address, *(part.address for part in parts), *(all_needs if online else ()))
        outcome = await self._executor.run(
            "evaluate", trial, dataset, condensed, parts, labellers if online else (),
            priority=priority, needs=reads, gpus=1.0,
        )  # fmt: skip
        if outcome.status == "ok":
            measured = dict(outcome.value)
            fields["seconds"] |= measured.pop("seconds")
            fields |= measured
        return outcome

    async def _dataset(self, trial: Trial, priority: int) -> Outcome:
        return await self._once(
            ("dataset", trial.dataset), lambda: self._executor.run("describe", trial.dataset, priority=priority)
        )

    async def _teachers(self, trial: Trial, dataset: DatasetRef, priority: int) -> list[Outcome]:
        def teach(name: str) -> Coroutine[Any, Any, Outcome]:
            return self._executor.run("teach", name, dataset, priority=priority, gpus=1.0)

        return await asyncio.gather(
            *(
                self._once(("teacher", name, trial.dataset), partial(teach, name))
                for name in self._makers.teachers(trial)
            )
        )

    async def _condense(
        self,
        trial: Trial,
        dataset: DatasetRef,
        teacher: TeacherRef,
        replicate: int,
        priority: int,
        needs: tuple[str, ...],
    ) -> Outcome:
        """The condensed set of a replicate: replicate 0's where the method asked for no randomness."""
        if replicate > 0:
            first = await self._condense(trial, dataset, teacher, 0, priority, needs)
            if first.status != "ok" or not first.value.random:
                return first
        gpus = float(parse(self._ws.registry, "method", trial.method).plugin.constants.get("NUM_GPUS", 0.0))
        return await self._once(
            ("condense", trial.dataset, teacher.digest, trial.method, trial.ipc, replicate),
            lambda: self._executor.run(
                "condense", trial.method, dataset, teacher, trial.ipc, replicate,
                priority=priority, needs=needs, gpus=gpus,
            ),
        )  # fmt: skip

    async def _encode(
        self,
        trial: Trial,
        recipe: Recipe,
        dataset: DatasetRef,
        labellers: Sequence[TeacherRef],
        condensed: CondensedRef,
        priority: int,
        needs: tuple[str, ...],
    ) -> list[Outcome]:
        """Labels of every shard, or of the first alone where they came to nothing."""
        count = len(list(shards(condensed.images, recipe.views, dataset.classes)))
        # Students share the labels wherever the protocol fixes the same values for them.
        key = (trial.protocol, recipe.model_dump_json(), trial.compressor, trial.budget, condensed.address)

        def start(shard: int, first: LabelsRef | None) -> Coroutine[Any, Any, Outcome]:
            return self._executor.run(
                "encode_labels", trial, dataset, labellers, condensed, shard, first,
                priority=priority, needs=(*needs, condensed.address, *([first.address] if first else [])), gpus=1.0,
            )  # fmt: skip

        def encode(shard: int, first: LabelsRef | None = None) -> Coroutine[Any, Any, Outcome]:
            return self._once(("encode", *key, shard), partial(start, shard, first))

        assert trial.compressor is not None
        if count == 1 or "fit" not in parse(self._ws.registry, "compressor", trial.compressor).plugin.functions:
            return await asyncio.gather(*(encode(shard) for shard in range(count)))
        # What all shards share is fitted with the first: the others get it from there, wherever they run.
        first = await encode(0)
        if first.status != "ok":
            return [first]
        return [first, *await asyncio.gather(*(encode(shard, first.value) for shard in range(1, count)))]

    async def _once(self, key: tuple, start: Callable[[], Coroutine[Any, Any, Outcome]]) -> Outcome:
        if key not in self._shared:
            self._shared[key] = asyncio.ensure_future(start())
        return await self._shared[key]


def _record(trial: Trial, outcome: Outcome, made: dict[str, str | None], fields: dict[str, Any]) -> Record:
    error = None
    if outcome.status == "failed":
        error = Failure(type=outcome.error_type, message=outcome.message, traceback=outcome.traceback)
    return Record(
        id=trial.id,
        trial={**trial.as_dict(), "id": trial.id},
        status=outcome.status,
        smallest_bytes=outcome.smallest_bytes,
        made_by=made,
        error=error,
        **fields,
    )
