"""What this installation prescribes for a record: recipe, optimiser steps, and the digests of all that makes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from bench.artifacts.describe import find_dataset, released_dataset_digest
from bench.artifacts.refs import Workspace
from bench.engine import ENGINE_VERSION
from bench.errors import UserError
from bench.lock import errata, lock_file
from bench.plugins.registry import Plugin, Registry
from bench.plugins.spec import parse
from bench.protocol import definition
from bench.protocol.definition import Protocol
from bench.protocol.recipe import Recipe
from bench.teachers import teacher_files
from bench.trials.trial import Trial
from bench.views.parameters import AUGMENT_VERSION, batch_sizes
from protocols.datasets._arrays import read_digests

KINDS = {"dataset": "dataset", "method": "method", "compressor": "compressor", "network": "student"}


class Here:
    """The plugins and protocols of this installation, and the data sets and teachers that its store knows.

    Everything is looked up once. What cannot be known is None: nothing is drawn, trained or downloaded.
    """

    def __init__(self, registry: Registry, store: Path) -> None:
        self.registry = registry
        self.engine = f"{ENGINE_VERSION}.{AUGMENT_VERSION}"
        self.released = lock_file.released()
        self._ws = Workspace(store.resolve(), registry)
        self.protocol = lru_cache(maxsize=None)(self._protocol)
        self.spelling = lru_cache(maxsize=None)(lambda kind, text: str(parse(registry, kind, text)))
        self._digests: dict[str, str | None] = {}
        self.plugin = lru_cache(maxsize=None)(self._plugin)
        self.recipe = lru_cache(maxsize=None)(self._recipe)
        self.dataset = lru_cache(maxsize=None)(self._dataset)
        self.teacher = lru_cache(maxsize=None)(self._teacher)
        self.test_images = lru_cache(maxsize=None)(self._test_images)
        self.withdrawn = lru_cache(maxsize=None)(errata.withdrawn)

    def unknown(self, trial: Trial) -> list[str]:
        """What the trial names and nothing here answers to, as messages."""
        found = {kind: self.plugin(kind, spec) for kind, spec in _specs(trial)}
        return [str(each) for each in (self.protocol(trial.protocol), *found.values()) if isinstance(each, UserError)]

    def canonical(self, trial: Trial) -> Trial:
        """The trial, of which nothing is unknown, with every name as this version writes it."""
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
        if name not in self._digests:
            fixed = self.protocol(name)
            self._digests[name] = None if isinstance(fixed, UserError) else fixed.digest
        return self._digests[name]

    def in_force(self, names: Iterable[str]) -> list[str]:
        """Those of the protocols that are not withdrawn as they stand here."""
        digests = {name: self.digest(name.partition(":")[0]) for name in names}
        return [name for name, digest in digests.items() if digest is None or not self.withdrawn(name, digest)]

    def unofficial(self, trial: Trial) -> list[str]:
        """Why results of this trial are nobody's but the submitter's own; empty where all that is fixed is released."""
        fixed, why = self.protocol(trial.protocol), []
        if isinstance(fixed, Protocol):
            if fixed.scale is not None:
                why.append(f"protocol '{fixed.id}' is a miniature")
            elif self.released.get(fixed.id) != self.digest(fixed.id):
                why.append(f"protocol '{fixed.id}' is not released (condensebench lock --release {fixed.id})")
        for kind, text in (("dataset", trial.dataset), ("network", trial.student)):
            plugin = self.plugin(kind, text)
            if isinstance(plugin, Plugin) and plugin.module_name is None:
                why.append(f"{KINDS[kind]} '{text}' is a file given with --plugin")
        return why

    def steps(self, recipe: Recipe, images: int) -> int:
        """Optimiser steps of a student on so many images."""
        return recipe.epochs * sum(batch_sizes(images, recipe.batch).values())

    def images_seen(self, recipe: Recipe, images: int) -> tuple[int, int]:
        """(least, most) images that a student sees over all epochs; a range only where stored batches are drawn."""
        if recipe.draw == "epoch":
            return recipe.epochs * images, recipe.epochs * images
        sizes = list(batch_sizes(images, recipe.batch))
        drawn = [size for size in sizes if size >= recipe.batch] or sizes
        return self.steps(recipe, images) * min(drawn), self.steps(recipe, images) * max(drawn)

    def _protocol(self, name: str) -> Protocol | UserError:
        try:
            return definition.load(self.registry, name)
        except UserError as error:
            return error

    def _plugin(self, kind: str, spec: str) -> Plugin | UserError:
        try:
            return parse(self.registry, kind, spec).plugin
        except UserError as error:
            return error

    def _recipe(self, name: str, dataset: str, ipc: int, student: str, classes: int) -> Recipe | UserError:
        fixed = self.protocol(name)
        if isinstance(fixed, UserError):
            return fixed
        try:
            return fixed.recipe(dataset=dataset, ipc=ipc, student=student, classes=classes)
        except UserError as error:
            return error

    def _dataset(self, spec: str) -> str | None:
        """The released digest, else that of the data set opened here before."""
        try:
            opened = find_dataset(self._ws, spec)
        except UserError:
            return None
        return released_dataset_digest(spec) or (opened.digest if opened else None)

    def _test_images(self, dataset: str) -> int | None:
        """How many images the test split has, where this project released the data set."""
        told = {str(parse(self.registry, "dataset", n)): s for n, s in read_digests()["datasets"].items()}
        return told[dataset]["test"]["count"] if dataset in told else None

    def _teacher(self, name: str, dataset: str, dataset_digest: str, classes: int) -> str | None:
        """Digest of the teachers that the protocol names: those that are shipped, else those that the store holds."""
        fixed = self.protocol(name)
        if isinstance(fixed, UserError):
            return None
        found = []
        for recipe in fixed.teachers(dataset):
            resolved = teacher_files.load_recipe(self.registry, recipe, dataset, classes)
            ref = teacher_files.find(self._ws.store, resolved, dataset, dataset_digest)
            if ref is None:
                return None
            found.append(ref)
        return teacher_files.teachers_digest(found)


def _specs(trial: Trial) -> list[tuple[str, str]]:
    named = [("dataset", trial.dataset), ("method", trial.method), ("network", trial.student)]
    return named + ([("compressor", trial.compressor)] if trial.compressor is not None else [])
