"""Takes trials through their stages, and appends a record the moment each trial ends.

A trial walks through its stages as a coroutine; what several trials share (data set, teacher, condensed set, encoded
labels) is made once and awaited by all. Records are written by this process alone.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import machine
from bench.artifacts.refs import CondensedRef, DatasetRef, LabelsRef, Workspace
from bench.driver.outcome import NoValue, Outcome, failure, ignore
from bench.driver.prepared import RERUN, state_of
from bench.errors import UserError
from bench.labels.making import shards
from bench.plugins.spec import parse
from bench.protocol.recipe import Recipe
from bench.records import files
from bench.records.files import Failure, ReadRecord, Record
from bench.stages.origins import OriginDigests
from bench.teachers.teacher_files import TeacherRef
from bench.trials.budget import reference_bytes
from bench.trials.cell import cell_recipe
from bench.trials.trial import Trial

if TYPE_CHECKING:
    from bench.driver.on_ray import RayExecutor

RECORDS = "records.jsonl"


class Run:
    """One run of a plan: the chosen trials, less those that turn out to be done."""

    def __init__(
        self,
        ws: Workspace,
        executor: RayExecutor,
        results: Path,
        existing: Sequence[ReadRecord],
        *,
        rerun: str = "missing",
        on_record: Callable[[Record], None] = ignore,
        on_skip: Callable[[Trial], None] = ignore,
    ) -> None:
        self._ws, self._executor, self._path = ws, executor, results / RECORDS
        self._latest = {record.id: record for record in files.latest(existing)}
        self._rerun, self._on_record, self._on_skip = RERUN[rerun], on_record, on_skip
        self._shared: dict[tuple[Any, ...], asyncio.Task[Outcome]] = {}
        self._environment = {**machine.environment(), "arithmetic": ws.store.arithmetic}
        self._origins = OriginDigests(ws)

    async def all(self, trials: Sequence[Trial]) -> None:
        """Run the trials; earlier ones first where they compete for a worker."""
        await asyncio.gather(*(self._trial(trial, index) for index, trial in enumerate(trials)))

    async def _trial(self, trial: Trial, priority: int) -> None:
        """Run one trial and write its record."""
        made_by: dict[str, str | None] = {}
        fields: dict[str, Any] = {"environment": self._environment, "seconds": {}}
        try:
            made_by = self._origins.made_by(trial)
            protocol = self._origins.protocol(trial.protocol)
            fields["labels"] = protocol.labels(trial.dataset)
            fields["default_recipe"] = not protocol.has_entry(trial.dataset)
            try:
                outcome = await self._stages(trial, priority, made_by, fields)
            except NoValue as end:
                outcome = end.outcome
            record = None if outcome is None else _record(trial, outcome, made_by, fields)
        except Exception as error:  # of this trial: it must cost neither the others nor its own record
            outcome = failure(error, traceback.format_exc())
            record = _record(trial, outcome, made_by, {"environment": self._environment})
        if record is None:
            self._on_skip(trial)
            return
        try:
            files.append(self._path, record)
        except OSError as error:
            raise UserError(f"{self._path} cannot be written: {error.strerror or error}") from None
        self._on_record(record)

    async def _stages(
        self, trial: Trial, priority: int, made_by: dict[str, str | None], fields: dict[str, Any]
    ) -> Outcome | None:
        """Describe, teach, condense, encode, evaluate; `made_by` and `fields` collect what the record holds.

        Returns the outcome of the last stage, or None where the trial turns out to be done. Raises NoValue where an
        earlier stage has no value.
        """
        once = partial(self._once, priority=priority)
        dataset: DatasetRef = (await once(("dataset", trial.dataset), "describe", trial.dataset)).get()
        made_by |= self._origins.made_by(trial, dataset)
        fields["num_classes"] = dataset.classes

        recipes = self._origins.protocol(trial.protocol).teachers(trial.dataset)
        taught = [once(("teacher", name, trial.dataset), "teach", name, dataset) for name in recipes]
        labellers: tuple[TeacherRef, ...] = tuple(outcome.get() for outcome in await asyncio.gather(*taught))
        made_by |= self._origins.made_by(trial, dataset, labellers)
        if state_of(trial, made_by, self._latest) not in self._rerun:
            return None

        _, recipe = cell_recipe(self._ws.registry, trial, dataset.classes)
        fields["recipe"] = recipe.digest
        teacher = labellers[0]  # the one that methods see
        condensed_key = ("condense", trial.dataset, teacher.digest, trial.method, trial.ipc)
        for replicate in dict.fromkeys((0, trial.replicate)):
            condensed: CondensedRef = (
                await once(
                    (*condensed_key, replicate), "condense", trial.method, dataset, teacher, trial.ipc, replicate,
                    needs=_addresses(labellers[:1]),
                )
            ).get()  # fmt: skip
            if not condensed.random:  # the set of replicate 0 serves all
                break
        if condensed.backbones:
            made_by["backbones"] = condensed.backbones
        fields |= {
            "bytes_images": condensed.bytes_images,
            "num_images": condensed.images,
            "provenance": dict(condensed.provenance),
        }
        fields["seconds"]["condense"] = condensed.seconds

        labels: list[LabelsRef] = []
        if trial.compressor is not None:
            fields["num_views"] = recipe.views
            fields["bytes_labels_reference"] = reference_bytes(condensed.images, recipe.views, dataset.classes)
            labels = await self._encode(trial, recipe, dataset, labellers, condensed, priority)
            fields["seconds"]["encode"] = sum(part.seconds for part in labels)

        online = labellers if recipe.labels == "online" else ()
        outcome = await self._executor.run(
            "evaluate", trial, dataset, condensed, labels, online,
            priority=priority, needs=(condensed.address, *(part.address for part in labels), *_addresses(online)),
        )  # fmt: skip
        measured = dict(outcome.get())
        fields["seconds"] |= measured.pop("seconds")
        fields |= measured
        return outcome

    async def _encode(
        self,
        trial: Trial,
        recipe: Recipe,
        dataset: DatasetRef,
        labellers: Sequence[TeacherRef],
        condensed: CondensedRef,
        priority: int,
    ) -> list[LabelsRef]:
        """Labels of every shard. Raises NoValue with the outcome of the first shard that has none."""
        # Students share the labels wherever the protocol fixes the same values for them.
        key = ("encode", trial.protocol, recipe.model_dump_json(), trial.compressor, trial.budget, condensed.address)
        needs = (*_addresses(labellers), condensed.address)
        first: LabelsRef | None = None
        rest = range(len(list(shards(condensed.images, recipe.views, dataset.classes))))
        assert trial.compressor is not None
        if len(rest) > 1 and "fit" in parse(self._ws.registry, "compressor", trial.compressor).plugin.functions:
            # What all shards share is fitted with the first: the others get it from there, wherever they run.
            outcome = await self._once(
                (*key, 0), "encode_labels", trial, dataset, labellers, condensed, 0, None,
                priority=priority, needs=needs,
            )  # fmt: skip
            first, rest = outcome.get(), rest[1:]
            needs = (*needs, first.address)
        outcomes = await asyncio.gather(
            *(
                self._once(
                    (*key, shard), "encode_labels", trial, dataset, labellers, condensed, shard, first,
                    priority=priority, needs=needs,
                )
                for shard in rest
            )
        )  # fmt: skip
        parts = [outcome.get() for outcome in outcomes]
        return parts if first is None else [first, *parts]

    async def _once(
        self, key: tuple[Any, ...], stage: str, *args: Any, priority: int, needs: tuple[str, ...] = ()
    ) -> Outcome:
        """The outcome of a stage that trials share: run for the first that comes, awaited by all."""
        if key not in self._shared:
            self._shared[key] = asyncio.ensure_future(self._executor.run(stage, *args, priority=priority, needs=needs))
        return await self._shared[key]


def _addresses(refs: Sequence[TeacherRef]) -> tuple[str, ...]:
    """Of the teachers' files in the store; those that the project ships are everywhere."""
    return tuple(ref.address for ref in refs if not ref.shipped)


def _record(trial: Trial, outcome: Outcome, made_by: dict[str, str | None], fields: dict[str, Any]) -> Record:
    error = None
    if outcome.status == "failed":
        error = Failure(type=outcome.error_type, message=outcome.message, traceback=outcome.traceback)
    return Record(
        id=trial.id,
        trial={**trial.as_dict(), "id": trial.id},
        status=outcome.status,
        smallest_bytes=outcome.smallest_bytes,
        made_by=made_by,
        error=error,
        **fields,
    )
