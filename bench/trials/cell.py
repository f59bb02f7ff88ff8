"""The protocol and the recipe of a trial's cell."""

from __future__ import annotations

from bench.plugins.registry import Registry
from bench.protocol import definition
from bench.protocol.recipe import Recipe
from bench.trials.trial import Trial


def cell_recipe(registry: Registry, trial: Trial, classes: int) -> tuple[definition.Protocol, Recipe]:
    """The protocol of a trial and its values for the trial's cell."""
    fixed = definition.load(registry, trial.protocol)
    return fixed, fixed.recipe(dataset=trial.dataset, ipc=trial.ipc, student=trial.student, classes=classes)
