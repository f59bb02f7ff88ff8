"""Takes trials through their stages, and appends a record the moment each trial ends.

A trial walks through its stages as a coroutine; what several trials share (data set, teacher, condensed set, encoded
labels) is made once and awaited by all. Records are written by this process alone.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import machine
from bench.artifacts.refs import CondensedRef, DatasetRef, LabelsRef, Workspace
from bench.artifacts.store import LOG, DamagedArtifact
from bench.confinement.plugin_limits import Limits
from bench.driver.faults import RayLost
from bench.driver.outcome import NoValue, Outcome, fault_or_failure, ignore
from bench.driver.prepared import RERUN, state_of
from bench.errors import MachineError
from bench.labels.label_file import shards
from bench.plugins.spec import parse
from bench.protocol.recipe import Recipe
from bench.records import files
from bench.records.files import Failure, ReadRecord, Record
from bench.stages.origins import OriginDigests
from bench.teachers.teacher_files import TeacherRef, UnusedTeacher
from bench.trials.budget import reference_bytes
from bench.trials.trial import Trial

if TYPE_CHECKING:
    from bench.driver.on_ray.executor import RayExecutor

RECORDS = "records.jsonl"
SHARDS = 16  # that one task encodes at most: a GiB of raw labels, by one loading of teachers and set
CONTINUES = "What had ended is recorded; the same command continues."


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
        on_lost: Callable[[Trial, str], None] = ignore,
        limits: Limits | None = None,
    ) -> None:
        self._ws, self._executor, self._path = ws, executor, results / RECORDS
        self._latest = {record.id: record for record in files.latest(existing)}
        self._rerun, self._on_record, self._on_skip, self._on_lost = RERUN[rerun], on_record, on_skip, on_lost
        self._whereabouts = files.Whereabouts(self._path)
        self._lost: dict[Trial, str] = {}
        self._shared: dict[tuple[Any, ...], asyncio.Task[Outcome]] = {}
        self._environment = {**machine.environment(), "arithmetic": ws.store.arithmetic}
        self._limits = (limits or Limits()).as_text()
        self._origins = OriginDigests(ws)

    async def all(self, trials: Sequence[Trial]) -> None:
        """Run the trials; earlier ones first where they compete for a worker.

        Raises MachineError where a machine was to blame that trials have no record, once all others have ended, and
        where records went away.
        """
        everything = asyncio.gather(*(self._trial(trial, index) for index, trial in enumerate(trials)))
        await self._executor.during(everything)
        self._whereabouts.check()  # of the lines that came last
        if self._lost:
            (fault, _), *others = Counter(self._lost.values()).most_common()
            more = f" (and {len(others)} other reasons)" if others else ""
            raise MachineError(
                f"{len(self._lost)} of {len(trials)} trials have no record, through no fault of theirs: {fault}{more}. "
                f"{CONTINUES}"
            )

    async def _trial(self, trial: Trial, priority: int) -> None:
        """Run one trial and write its record."""
        made_by: dict[str, str | None] = {}
        fields: dict[str, Any] = {"environment": self._environment, "limits": self._limits, "seconds": {}}
        try:
            made_by = self._origins.made_by(trial)
            protocol = self._origins.protocol(trial.protocol)
            fields["labels"] = protocol.labels(trial.dataset)
            fields["default_recipe"] = not protocol.has_entry(trial.dataset)
            for _ in range(2):
                try:
                    outcome = await self._stages(trial, priority, made_by, fields)
                except NoValue as end:
                    outcome = end.outcome
                if outcome is None or outcome.error_type != DamagedArtifact.__name__:
                    break
                # Somebody changed a file of the store while the run used it: it is made anew, by stages that run again.
                LOG.warning("%s", outcome.message)
                self._shared = {key: task for key, task in self._shared.items() if not task.done()}
            record = _record(trial, outcome, made_by, fields)
        except RayLost:
            raise
        except Exception as error:  # of this trial: it must cost neither the others nor its own record
            outcome = fault_or_failure(error, traceback.format_exc())
            record = _record(trial, outcome, made_by, {"environment": self._environment})
        if outcome is None:
            self._on_skip(trial)
        if outcome is not None and outcome.status == "lost":
            self._lost[trial] = outcome.message
            self._on_lost(trial, outcome.message)
        if record is None:
            return
        try:
            self._whereabouts.check()
            files.append(self._path, record)
            self._whereabouts.note()
        except OSError as error:
            raise MachineError(f"{self._path} cannot be written: {error.strerror or error}. {CONTINUES}") from None
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

        recipes = self._origins.teacher_recipes(trial)
        taught = [once(("teacher", name, trial.dataset), "teach", name, dataset) for name in recipes]
        labellers: tuple[TeacherRef, ...] = tuple(outcome.get() for outcome in await asyncio.gather(*taught))
        made_by |= self._origins.made_by(trial, dataset, labellers)
        fields["teachers"] = [
            {"recipe": ref.recipe, "network": ref.network, "digest": ref.digest, "accuracy": ref.accuracy}
            for ref in labellers
        ] or None
        if state_of(trial, made_by, self._latest) not in self._rerun:
            return None

        recipe = self._origins.recipe(trial, dataset.classes)
        fields["recipe"] = recipe.digest
        lent = self._lent(trial, labellers)
        balanced = recipe.class_balance == "equal"
        fields["class_balance"] = None if balanced else recipe.class_balance
        condensed_key = ("condense", trial.dataset, lent, trial.method, trial.ipc, balanced)
        for replicate in dict.fromkeys((0, trial.replicate)):
            condensed: CondensedRef = (
                await once(
                    (*condensed_key, replicate),
                    "condense", trial.method, dataset, lent, trial.ipc, replicate, balanced,
                    needs=_addresses([lent] if isinstance(lent, TeacherRef) else []),
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
        fields["conduct"] = {} if condensed.conduct is None else {"method": condensed.conduct}

        labels: list[LabelsRef] = []
        if trial.compressor is not None:
            fields["num_views"] = recipe.views
            fields["bytes_labels_reference"] = reference_bytes(condensed.images, recipe.views, dataset.classes)
            labels = await self._encode(trial, recipe, dataset, labellers, condensed, priority)
            fields["seconds"]["encode"] = sum(part.seconds for part in labels)
            _tell(fields["conduct"], *(part.conduct for part in labels))

        needed = labellers if recipe.labels == "online" or recipe.kept_channels else ()
        outcome = await self._executor.run(
            "evaluate", trial, dataset, condensed, labels, needed,
            priority=priority, needs=(condensed.address, *(part.address for part in labels), *_addresses(needed)),
        )  # fmt: skip
        measured = dict(outcome.get())
        fields["seconds"] |= measured.pop("seconds")
        _tell(fields["conduct"], measured.pop("conduct"))
        fields |= measured
        return outcome

    def _lent(self, trial: Trial, labellers: Sequence[TeacherRef]) -> TeacherRef | UnusedTeacher:
        """The teacher that the method sees: the protocol's first, where the method asks for it."""
        if self._origins.method_uses_teacher(trial.method):
            return labellers[0]
        return UnusedTeacher(self._origins.protocol(trial.protocol).teachers(trial.dataset)[0])

    async def _encode(
        self,
        trial: Trial,
        recipe: Recipe,
        dataset: DatasetRef,
        labellers: Sequence[TeacherRef],
        condensed: CondensedRef,
        priority: int,
    ) -> list[LabelsRef]:
        """Labels of every shard; a task has many of them. Raises NoValue with the outcome of the first task that has
        none."""
        # Students share the labels wherever the protocol fixes the same values for them.
        key = ("encode", trial.protocol, recipe.model_dump_json(), trial.compressor, trial.budget, condensed.address)
        needs = (*_addresses(labellers), condensed.address)
        first: LabelsRef | None = None
        rest = list(range(len(list(shards(condensed.images, recipe.views, dataset.classes)))))
        assert trial.compressor is not None
        if len(rest) > 1 and "fit" in parse(self._ws.registry, "compressor", trial.compressor).plugin.functions:
            # What all shards share is fitted with the first: the others get it from there, wherever they run.
            outcome = await self._once(
                (*key, 0), "encode_labels", trial, dataset, labellers, condensed, [0], None,
                priority=priority, needs=needs,
            )  # fmt: skip
            first, rest = outcome.get()[0], rest[1:]
            needs = (*needs, first.address)
        outcomes = await asyncio.gather(
            *(
                self._once(
                    (*key, some[0]), "encode_labels", trial, dataset, labellers, condensed, some, first,
                    priority=priority, needs=needs,
                )
                for some in _groups(rest, 2 * self._executor.jobs)
            )
        )  # fmt: skip
        parts = [part for outcome in outcomes for part in outcome.get()]
        return parts if first is None else [first, *parts]

    async def _once(
        self, key: tuple[Any, ...], stage: str, *args: Any, priority: int, needs: tuple[str, ...] = ()
    ) -> Outcome:
        """The outcome of a stage that trials share: run for the first that comes, awaited by all."""
        if key not in self._shared:
            self._shared[key] = asyncio.ensure_future(self._executor.run(stage, *args, priority=priority, needs=needs))
        return await self._shared[key]


def _groups(shards: Sequence[int], tasks: int) -> list[list[int]]:
    """The shards of each task, in order: as many tasks as asked for where there is work for them, and more where a task
    would have more than SHARDS."""
    size = max(1, min(SHARDS, -(-len(shards) // tasks)))
    return [list(shards[start : start + size]) for start in range(0, len(shards), size)]


def _addresses(refs: Sequence[TeacherRef]) -> tuple[str, ...]:
    """Of the teachers' files in the store; those that the project ships are everywhere."""
    return tuple(ref.address for ref in refs if not ref.shipped)


def _tell(conduct: dict[str, tuple[str, ...]], *notes: tuple[str, ...] | None) -> None:
    """Add what a compressor did beside its task, where it was watched; each note once."""
    watched = [each for each in notes if each is not None]
    if watched:
        told = (*conduct.get("compressor", ()), *(note for each in watched for note in each))
        conduct["compressor"] = tuple(dict.fromkeys(told))


def _record(
    trial: Trial, outcome: Outcome | None, made_by: dict[str, str | None], fields: dict[str, Any]
) -> Record | None:
    """The record of a trial that ended; None where it was done before, and where a machine was to blame."""
    if outcome is None or outcome.status == "lost":
        return None
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
