"""What makes a record, as digests: data set, teachers, and the code of protocol, method, compressor, network, engine.

The one place that knows: a run writes these digests into its records and tells by them which records are stale, and the
checks of records hold them against this installation's.
"""
# ruff: noqa: B019 - what is cached lives as long as the command that makes the object

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

from bench.artifacts.describe import find_dataset
from bench.artifacts.refs import DatasetRef, Workspace
from bench.engine import ENGINE_VERSION
from bench.plugins.context_use import asked_for, uses_teacher
from bench.plugins.registry import Plugin
from bench.plugins.spec import parse
from bench.protocol import definition
from bench.protocol.definition import Protocol
from bench.protocol.recipe import Recipe
from bench.teachers import network_choice
from bench.teachers.dynamics_recipes import dynamics_identity
from bench.teachers.teacher_files import TeacherRecipe, TeacherRef, find, load_recipe, shipped_path, teachers_digest
from bench.trials.trial import Trial
from bench.views.parameters import AUGMENT_VERSION

CODE = ("protocol", "method", "compressor", "network", "engine")  # what is known before anything runs


class OriginDigests:
    """The digests of what makes records here, by the plugins, the protocols and the store of a workspace. Each is taken
    once, however many trials share it; nothing is drawn, trained or downloaded."""

    engine = f"{ENGINE_VERSION}.{AUGMENT_VERSION}"

    def __init__(self, ws: Workspace) -> None:
        self.ws = ws

    def made_by(
        self, trial: Trial, dataset: DatasetRef | None = None, labellers: Sequence[TeacherRef] = ()
    ) -> dict[str, str | None]:
        """Digests by name, as a record has them; None for a data set that is not given, where no teacher is used, and
        where there is no compressor."""
        return {
            "dataset": dataset.digest if dataset else None,
            "teacher": teachers_digest(labellers) if labellers else None,
            **{part: self.code(part, trial) for part in CODE},
            **self._backbones(trial, dataset, labellers),
            **self._dynamics(trial, dataset),
        }

    def known(self, trial: Trial) -> Mapping[str, str | None]:
        """`made_by` as far as it is known before anything runs: by data sets and teachers opened here before."""
        return self._known(replace(trial, ipc=1, budget=None, replicate=0))

    @cache
    def _known(self, trial: Trial) -> Mapping[str, str | None]:
        """`known`, once for all trials that differ in nothing that is made by code."""
        dataset = self.dataset(trial.dataset)
        if dataset is None:
            return self.made_by(trial)
        recipes = self.teacher_recipes(trial)
        labellers = self.teachers(recipes, trial.dataset, dataset.digest, dataset.classes)
        return self.made_by(trial, dataset, labellers or ())

    def teacher_recipes(self, trial: Trial) -> tuple[str, ...]:
        """The teachers that a trial uses, by the names of their recipes: all of the protocol's where it asks them, the
        first one where only the method does, else none. Raises UserError for an unknown name."""
        fixed = self.protocol(trial.protocol)
        recipes = fixed.teachers(trial.dataset)
        if fixed.asks_teachers(trial.dataset):
            return recipes
        return recipes[:1] if self.method_uses_teacher(trial.method) else ()

    @cache
    def method_uses_teacher(self, method: str) -> bool:
        """Whether a method asks for the teacher. Raises UserError where there is no such method."""
        return uses_teacher(parse(self.ws.registry, "method", method))

    def code(self, part: str, trial: Trial) -> str | None:
        """The digest of one of CODE; None where the trial has no compressor. Raises UserError for an unknown name."""
        if part == "engine":
            return self.engine
        if part == "protocol":
            return self.protocol_digest(trial.protocol)
        spec = trial.student if part == "network" else getattr(trial, part)
        return None if spec is None else self.plugin(part, spec).digest

    @cache
    def protocol(self, name: str) -> Protocol:
        """The protocol of a name. Raises UserError where there is none."""
        return definition.load(self.ws.registry, name)

    def recipe(self, trial: Trial, classes: int) -> Recipe:
        """The protocol's values for a trial's cell; `classes`: of its data set."""
        return self._recipe(trial.protocol, trial.dataset, trial.ipc, trial.student, classes)

    @cache
    def _recipe(self, protocol: str, dataset: str, ipc: int, student: str, classes: int) -> Recipe:
        return self.protocol(protocol).recipe(dataset=dataset, ipc=ipc, student=student, classes=classes)

    @cache
    def protocol_digest(self, name: str) -> str:
        """The digest of the protocol and the engine."""
        return self.protocol(name).digest

    @cache
    def plugin(self, kind: str, spec: str) -> Plugin:
        """The plugin that a spec names. Raises UserError where there is none."""
        return parse(self.ws.registry, kind, spec).plugin

    @cache
    def dataset(self, spec: str) -> DatasetRef | None:
        """The data set, where it was opened here before."""
        return find_dataset(self.ws, spec)

    @cache
    def teachers(
        self, recipes: tuple[str, ...], dataset: str, dataset_digest: str, classes: int
    ) -> tuple[TeacherRef, ...] | None:
        """The teachers of a data set, shipped or made here before; None where one of them is neither."""
        refs = []
        for recipe in recipes:
            resolved = load_recipe(self.ws.registry, recipe, dataset, classes)
            ref = find(self.ws.store, resolved, dataset, dataset_digest)
            if ref is None:
                return None
            refs.append(ref)
        return tuple(refs)

    @cache
    def _networks(self, method: str) -> str | None:
        """The choice of networks of a method; None where that is the teacher alone."""
        choice = network_choice.declared(parse(self.ws.registry, "method", method))
        return choice if network_choice.needs_others(choice) else None

    def _dynamics(self, trial: Trial, dataset: DatasetRef | None) -> dict[str, str | None]:
        """The identity of the training dynamics that a method asks for; nothing where it asks for none, or where they
        are those that records have never told."""
        if dataset is None or "dynamics" not in asked_for(self.plugin("method", trial.method)):
            return {}
        identity = dynamics_identity(self.ws.registry, dataset.spec, dataset.size, dataset.classes)
        return {"dynamics": identity} if identity else {}

    def _backbones(
        self, trial: Trial, dataset: DatasetRef | None, labellers: Sequence[TeacherRef]
    ) -> dict[str, str | None]:
        """The digest of a method's further networks, as far as they are known here; nothing for a method with none."""
        choice = self._networks(trial.method)
        if choice is None:
            return {}
        networks = None
        if dataset and labellers:
            networks = network_choice.made_before(self.ws.store, self.ws.registry, dataset, labellers[0], choice)
        return {"backbones": network_choice.digest_of(networks or ())}


def teacher_to_train(ws: Workspace, name: str, dataset: str) -> TeacherRecipe | None:
    """The recipe of a teacher that has to be trained before it is there; None where it ships, lies here, or has
    weights."""
    try:
        opened = find_dataset(ws, dataset)
        classes = opened.classes if opened else ws.data(dataset).dataset.num_classes
        recipe = load_recipe(ws.registry, name, dataset, classes)
    except Exception:  # the trials that fail for it tell why
        return None
    if recipe.recipe is None or shipped_path(recipe.id, dataset).is_file():
        return None
    here = opened is not None and find(ws.store, recipe, dataset, opened.digest) is not None
    return None if here else recipe
