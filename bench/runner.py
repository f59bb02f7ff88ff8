"""Runs the trials of a plan that have no valid record yet, and appends a record the moment each trial ends.

A trial walks through its stages as a coroutine; what several trials share (data set, teacher, condensed set, encoded
labels) is asked for once and awaited by all. Records are written by this process alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench import ENGINE_VERSION, protocol, records, stages, teachers
from bench.augment import AUGMENT_VERSION
from bench.budget import reference_bytes
from bench.labels import shards
from bench.outcome import Outcome, ignore
from bench.records import Failure, Record
from bench.schedule import RayExecutor
from bench.spec import parse
from bench.stages import CondensedRef, DatasetRef, Workspace
from bench.teachers import TeacherRef
from bench.trial import Trial

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


def made_by(ws: Workspace, trial: Trial, dataset: DatasetRef, teacher: TeacherRef) -> dict[str, str | None]:
    """The digests of all that makes a trial's result."""
    compressor = parse(ws.registry, "compressor", trial.compressor).plugin.digest if trial.compressor else None
    return {
        "dataset": dataset.digest,
        "teacher": teacher.digest,
        "protocol": protocol.load(ws.registry, trial.protocol).digest,
        "method": parse(ws.registry, "method", trial.method).plugin.digest,
        "compressor": compressor,
        "network": parse(ws.registry, "network", trial.student).plugin.digest,
        "engine": f"{ENGINE_VERSION}.{AUGMENT_VERSION}",
    }


def known_digests(ws: Workspace, trial: Trial) -> dict[str, str | None] | None:
    """made_by of a trial whose data set and teacher have been opened here before; None where they have not."""
    dataset = stages.find_dataset(ws, trial.dataset)
    if dataset is None:
        return None
    name = protocol.load(ws.registry, trial.protocol).teacher
    recipe = teachers.load_recipe(ws.registry, name, trial.dataset, dataset.classes)
    teacher = teachers.find(ws.store, recipe, trial.dataset, dataset.digest)
    return None if teacher is None else made_by(ws, trial, dataset, teacher)


def states(ws: Workspace, trials: Sequence[Trial], existing: Sequence[Record]) -> dict[Trial, str]:
    """done, missing, stale or failed, for every trial. Where the data set was never opened here, nothing can be said of
    a record's digests; a finished record then counts as done until the run has opened it and knows better."""
    latest = {record.id: record for record in records.latest(existing)}
    digests: dict[tuple, Any] = {}
    found = {}
    for trial in trials:
        key = (trial.dataset, trial.protocol, trial.method, trial.compressor, trial.student)
        if key not in digests:
            digests[key] = known_digests(ws, trial)
        made = digests[key]
        record = latest.get(trial.id)
        if made is None:
            finished = record is not None and record.status != "failed"
            found[trial] = "done" if finished else "failed" if record is not None else "missing"
        else:
            found[trial] = records.status_of(trial.id, made, latest)
    return found


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
        self._latest = {record.id: record for record in records.latest(existing)}
        self._rerun, self._on_record, self._on_skip = RERUN[rerun], on_record, on_skip
        self._shared: dict[tuple, asyncio.Task] = {}
        self._environment = records.environment()

    async def all(self, trials: Sequence[Trial]) -> Report:
        """Run the trials; earlier ones first where they compete for a worker."""
        report = Report()
        await asyncio.gather(*(self._one(trial, index, report) for index, trial in enumerate(trials)))
        return report

    async def _one(self, trial: Trial, priority: int, report: Report) -> None:
        dataset = await self._dataset(trial, priority)
        teacher = await self._teacher(trial, dataset, priority) if dataset.status == "ok" else dataset
        if teacher.status != "ok":
            self._append(trial, teacher, made={}, report=report)
            return
        made = made_by(self._ws, trial, dataset.value, teacher.value)
        if records.status_of(trial.id, made, self._latest) not in self._rerun:
            report.done += 1
            self._on_skip(trial)
            return
        fields: dict[str, Any] = {"num_classes": dataset.value.classes, "seconds": {}}
        outcome = await self._walk(trial, dataset.value, teacher.value, priority, fields)
        self._append(trial, outcome, made=made, report=report, **fields)

    async def _walk(
        self, trial: Trial, dataset: DatasetRef, teacher: TeacherRef, priority: int, fields: dict[str, Any]
    ) -> Outcome:
        """Condense, encode, evaluate; `fields` collects what the record tells of each stage that was reached."""
        needs = () if teacher.shipped else (teacher.address,)
        outcome = await self._condense(trial, dataset, teacher, trial.replicate, priority, needs)
        if outcome.status != "ok":
            return outcome
        condensed: CondensedRef = outcome.value
        fields |= {
            "bytes_images": condensed.bytes_images,
            "num_images": condensed.images,
            "provenance": dict(condensed.provenance),
        }
        fields["seconds"]["condense"] = condensed.seconds
        parts = []
        if trial.compressor is not None:
            _, recipe = stages.cell_recipe(self._ws.registry, trial, dataset.classes)
            fields["num_views"] = recipe.views
            fields["bytes_labels_reference"] = reference_bytes(condensed.images, recipe.views, dataset.classes)
            count = len(list(shards(condensed.images, recipe.views, dataset.classes)))
            key = (trial.protocol, trial.compressor, trial.budget, trial.student, condensed.address)

            def encode(shard: int) -> Coroutine[Any, Any, Outcome]:
                return self._executor.run(
                    "encode_labels", trial, dataset, teacher, condensed, shard,
                    priority=priority, needs=(*needs, condensed.address),
                )  # fmt: skip

            encoded = await asyncio.gather(
                *(self._once(("encode", *key, shard), partial(encode, shard)) for shard in range(count))
            )
            for shard in encoded:
                if shard.status != "ok":
                    return shard
            parts = [shard.value for shard in encoded]
            fields["seconds"]["encode"] = sum(part.seconds for part in parts)
        outcome = await self._executor.run(
            "evaluate", trial, dataset, condensed, parts,
            priority=priority, needs=(condensed.address, *(part.address for part in parts)), gpus=1.0,
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

    async def _teacher(self, trial: Trial, dataset: Outcome, priority: int) -> Outcome:
        name = protocol.load(self._ws.registry, trial.protocol).teacher
        return await self._once(
            ("teacher", name, trial.dataset),
            lambda: self._executor.run("teach", name, dataset.value, priority=priority, gpus=1.0),
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

    async def _once(self, key: tuple, start: Callable[[], Coroutine[Any, Any, Outcome]]) -> Outcome:
        if key not in self._shared:
            self._shared[key] = asyncio.ensure_future(start())
        return await self._shared[key]

    def _append(
        self, trial: Trial, outcome: Outcome, *, made: dict[str, str | None], report: Report, **fields: Any
    ) -> None:
        error = None
        if outcome.status == "failed":
            error = Failure(type=outcome.error_type, message=outcome.message, traceback=outcome.traceback)
        record = Record(
            id=trial.id,
            trial={**trial.as_dict(), "id": trial.id},
            status=outcome.status,
            smallest_bytes=outcome.smallest_bytes,
            made_by=made,
            environment=self._environment,
            error=error,
            **fields,
        )
        records.append(self._path, record)
        report.counts[outcome.status] += 1
        self._on_record(record)
