"""The structures of a protocol: every way in which its cells train differently, each once and in short form.

Two cells have one structure where the same options are on: the same optimiser, loss, schedule, label regime, kinds of
augmentation. How large a rate or a probability is, is a value; the digest of the protocol holds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.fingerprint import canonical, digest
from bench.protocol.conditions import NoValue, cells, resolve
from bench.protocol.definition import Protocol, defaults, validated, without_defaults
from bench.protocol.recipe import Recipe

EPOCHS = 9  # enough for every schedule to show its phases
SSRS_EPOCHS = 12  # and for SSRS, which jumps after 5/6 of them: one before, one at and one after the jump
BATCH = 8
VIEWS = 3  # fewer than epochs, so that they come round again
WARMUP = 2
STEPS = 2  # trainings of a trial
SIZES = ("epochs", "batch", "views", "lr")  # never off


@dataclass(frozen=True)
class Cell:
    """One cell of a protocol, resolved."""

    at: dict[str, str | int]  # data set, ipc, classes, images, student; "?" or 0: what no key of the file names
    recipe: Recipe
    teachers: int
    resolved: str  # digest of what the cell comes to


def cell(protocol: Protocol, at: Mapping[str, Any]) -> Cell:
    """The values of `protocol` for one cell. Raises bench.protocol.conditions.NoValue where it has none."""
    by_dataset, values = {"dataset": at["dataset"]}, protocol.values
    labels, teacher = (resolve(values[key], by_dataset, f"{protocol.name}, {key}") for key in ("labels", "teacher"))
    given = resolve(values["recipe"], at, protocol.name)
    recipe = validated({"labels": labels, **given}, protocol.path)
    teachers = [teacher] if isinstance(teacher, str) else list(teacher)
    resolved = digest({"labels": labels, "teachers": teachers, "recipe": without_defaults(Recipe, given)})
    return Cell(dict(at), recipe, len(teachers), resolved)


def all_cells(protocol: Protocol) -> Iterator[Cell]:
    """Every cell that meets another branch of the file."""
    for at in cells(protocol.values):
        try:
            yield cell(protocol, at)
        except NoValue:
            continue


def structures(candidates: Iterator[Cell] | list[Cell]) -> list[Cell]:
    """The first cell of every structure."""
    first: dict[str, Cell] = {}
    for each in candidates:
        first.setdefault(canonical([_shape(each.recipe), min(each.teachers, 2)]), each)
    return list(first.values())


def _shape(recipe: Recipe) -> dict[str, Any]:
    """Names and switches as they are, numbers only as on or off."""

    def shape(values: Mapping[str, Any], model: Any) -> dict[str, Any]:
        structure: dict[str, Any] = {}
        for key, default in defaults(model).items():
            value = values[key]
            if isinstance(default, type):
                structure[key] = shape(value, default)
            elif key not in SIZES:
                structure[key] = value if isinstance(value, str | bool) else value != default
        return structure

    return {"labels": recipe.labels, **shape(recipe.model_dump(mode="json"), Recipe)}


def short(recipe: Recipe) -> Recipe:
    """The recipe with a few epochs, views and images a batch; every phase of its schedule still occurs."""
    epochs = min(recipe.epochs, SSRS_EPOCHS if recipe.schedule.name == "ssrs" else EPOCHS)
    milestones = {max(1, min(epochs - 1, round(m * epochs / recipe.epochs))) for m in recipe.schedule.milestones}
    chunks = recipe.accumulation
    values = recipe.model_dump()
    values |= {
        "epochs": epochs,
        "batch": min(recipe.batch, chunks * max(2, BATCH // chunks)),
        "views": min(recipe.views, VIEWS),
        "class_steps": min(recipe.class_steps, STEPS),
        "kept_channels": recipe.kept_channels[-STEPS:],
    }
    values["schedule"] |= {
        "warmup": min(recipe.schedule.warmup, WARMUP, epochs - 1),
        "milestones": tuple(sorted(milestones)),
    }
    return Recipe.model_validate(values)


def written(recipe: Recipe) -> dict[str, Any]:
    """A recipe as the lock holds it: what does not stand at its default."""
    return {"labels": recipe.labels, **without_defaults(Recipe, recipe.model_dump(mode="json"))}
