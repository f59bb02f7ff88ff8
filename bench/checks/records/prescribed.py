"""What this installation prescribes for a record: recipe, optimiser steps, and the digests of all that makes it."""
# ruff: noqa: B019 - what is cached lives as long as the command that makes the object

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from bench.artifacts.describe import released_dataset_digest
from bench.artifacts.refs import Workspace
from bench.confinement.plugin_limits import OPENING, Limits
from bench.errors import UserError
from bench.lock import errata, lock_file
from bench.lock.errata import Withdrawal
from bench.places import absolute_path
from bench.plugins.registry import Plugin, Registry
from bench.plugins.spec import parse
from bench.protocol.definition import Protocol
from bench.protocol.recipe import Recipe
from bench.stages.origins import CODE, OriginDigests
from bench.teachers.teacher_files import teachers_digest
from bench.trials.trial import Trial
from bench.views.parameters import batch_sizes
from protocols.datasets._arrays import read_digests

KINDS = {"dataset": "dataset", "method": "method", "compressor": "compressor", "network": "student"}


class Prescribed:
    """The plugins and protocols of this installation, and the data sets and teachers that its store knows.

    Everything is looked up once. What cannot be known is None: nothing is drawn, trained or downloaded.
    """

    def __init__(self, registry: Registry, store: Path) -> None:
        self.registry = registry
        self.released = lock_file.released()
        self._origins = OriginDigests(Workspace(absolute_path(store), registry, limits=Limits(OPENING)))
        self.engine = self._origins.engine

    def unknown_names(self, trial: Trial) -> list[str]:
        """What the trial names and nothing here answers to, as messages."""
        answers = [self.protocol(trial.protocol), *(self.plugin(kind, spec) for kind, spec in _specs(trial))]
        return [str(answer) for answer in answers if isinstance(answer, UserError)]

    def canonical(self, trial: Trial) -> Trial:
        """The trial, of which nothing is unknown, with every name as this version writes it."""
        return replace(self._canonical(replace(trial, replicate=0)), replicate=trial.replicate)

    @cache
    def _canonical(self, trial: Trial) -> Trial:
        spec = {kind: self.spelling(kind, text) for kind, text in _specs(trial)}
        fixed = self.protocol(trial.protocol)
        return replace(
            trial,
            dataset=spec["dataset"],
            protocol=trial.protocol if isinstance(fixed, UserError) else fixed.id,
            method=spec["method"],
            compressor=spec.get("compressor"),
            student=spec["network"],
        )

    def digest(self, name: str) -> str | None:
        """The digest of a protocol; None where it is not known."""
        try:
            return self._origins.protocol_digest(name)
        except UserError:
            return None

    def code(self, trial: Trial) -> dict[str, str]:
        """The digests of the code that makes the trial's result here, by name; of what is known."""
        return self._code(replace(trial, ipc=1, budget=None, replicate=0))

    @cache
    def _code(self, trial: Trial) -> dict[str, str]:
        digests = {}
        for part in CODE:
            try:
                digest = self._origins.code(part, trial)
            except UserError:
                continue
            if digest is not None:
                digests[part] = digest
        return digests

    def in_force(self, names: Iterable[str]) -> list[str]:
        """Those of the protocols that are not withdrawn as they stand here."""
        digests = {name: self.digest(name.partition(":")[0]) for name in names}
        return [name for name, digest in digests.items() if digest is None or not self.withdrawn(name, digest)]

    def unofficial(self, trial: Trial) -> list[str]:
        """Why results of this trial are nobody's but the submitter's own; empty where all that is fixed is released."""
        return self._unofficial(trial.protocol, trial.dataset, trial.student)

    @cache
    def _unofficial(self, protocol: str, dataset: str, student: str) -> list[str]:
        fixed, why = self.protocol(protocol), []
        if isinstance(fixed, Protocol):
            if fixed.scale is not None:
                why.append(f"protocol '{fixed.id}' is a miniature")
            elif fixed.options.values:
                why.append(f"protocol '{fixed.id}' has other values than {fixed.name}")
            elif self.released.get(fixed.id) != self.digest(fixed.id):
                why.append(f"protocol '{fixed.id}' is not released (condensebench lock --release {fixed.id})")
            if not fixed.has_entry(dataset):
                why.append(f"protocol '{fixed.id}' has no entry for the data set '{dataset}' (default recipe)")
        for kind, text in (("dataset", dataset), ("network", student)):
            plugin = self.plugin(kind, text)
            if isinstance(plugin, Plugin) and plugin.module_name is None:
                why.append(f"{KINDS[kind]} '{text}' is a file given with --plugin")
        return why

    def steps(self, recipe: Recipe, images: int, classes: int = 1) -> int:
        """Optimiser steps of a trial's students on so many images of so many classes."""
        sizes = (images * seen // classes for seen in recipe.trainings(classes))
        return recipe.epochs * sum(sum(batch_sizes(size, recipe.batch).values()) for size in sizes)

    def images_seen(self, recipe: Recipe, images: int, classes: int = 1) -> tuple[int, int]:
        """(least, most) images that a trial's students see over all epochs; a range only where stored batches are
        drawn."""
        if recipe.draw == "epoch":
            total = recipe.epochs * sum(images * seen // classes for seen in recipe.trainings(classes))
            return total, total
        sizes = list(batch_sizes(images, recipe.batch))
        drawn = [size for size in sizes if size >= recipe.batch] or sizes
        return self.steps(recipe, images) * min(drawn), self.steps(recipe, images) * max(drawn)

    @cache
    def protocol(self, name: str) -> Protocol | UserError:
        """The protocol, or why there is none."""
        try:
            return self._origins.protocol(name)
        except UserError as error:
            return error

    @cache
    def plugin(self, kind: str, spec: str) -> Plugin | UserError:
        """The plugin that a spec names, or why there is none."""
        try:
            return self._origins.plugin(kind, spec)
        except UserError as error:
            return error

    @cache
    def spelling(self, kind: str, text: str) -> str:
        """A spec as this version writes it. Raises UserError for an unknown name."""
        return str(parse(self.registry, kind, text))

    @cache
    def withdrawn(self, protocol: str, digest: str) -> Withdrawal | None:
        """The withdrawal of a protocol under this digest."""
        return errata.withdrawn(protocol, digest)

    @cache
    def recipe(self, name: str, dataset: str, ipc: int, student: str, classes: int) -> Recipe | UserError:
        """The recipe of a cell, or why there is none."""
        fixed = self.protocol(name)
        if isinstance(fixed, UserError):
            return fixed
        try:
            return fixed.recipe(dataset=dataset, ipc=ipc, student=student, classes=classes)
        except UserError as error:
            return error

    @cache
    def recipe_digest(self, name: str, dataset: str, ipc: int, student: str, classes: int) -> str | None:
        """The digest of a cell's recipe; None where there is none."""
        recipe = self.recipe(name, dataset, ipc, student, classes)
        return None if isinstance(recipe, UserError) else recipe.digest

    @cache
    def dataset(self, spec: str) -> str | None:
        """The released digest, else that of the data set opened here before."""
        try:
            opened = self._origins.dataset(spec)
        except UserError:
            return None
        return released_dataset_digest(spec) or (opened.digest if opened else None)

    @cache
    def test_images(self, dataset: str) -> int | None:
        """How many images the test split has, where this project released the data set."""
        splits = {str(parse(self.registry, "dataset", n)): s for n, s in read_digests()["datasets"].items()}
        return splits[dataset]["test"]["count"] if dataset in splits else None

    def uses_teacher(self, trial: Trial) -> bool:
        """Whether the trial's result depends on a teacher: its protocol labels with one, or its method asks for it.
        Taken for granted where protocol or method are not known here."""
        try:
            return bool(self._origins.teacher_recipes(trial))
        except UserError:
            return True

    @cache
    def teacher(self, name: str, dataset: str, dataset_digest: str, classes: int) -> str | None:
        """Digest of the teachers that the protocol has for a data set, of the first one where only methods ask: those
        that are shipped, else those that the store holds."""
        fixed = self.protocol(name)
        if isinstance(fixed, UserError):
            return None
        recipes = fixed.teachers(dataset)
        used = recipes if fixed.asks_teachers(dataset) else recipes[:1]
        refs = self._origins.teachers(used, dataset, dataset_digest, classes)
        return None if refs is None else teachers_digest(refs)


def _specs(trial: Trial) -> list[tuple[str, str]]:
    named = [("dataset", trial.dataset), ("method", trial.method), ("network", trial.student)]
    return named + ([("compressor", trial.compressor)] if trial.compressor is not None else [])
