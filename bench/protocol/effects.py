"""Values of a protocol that change nothing in some cell: zeta under a schedule of steps, for instance.

A protocol file may hold them: they stand at what is switched off. Whoever types one after the colon of a protocol
expects another training, and would get the same one under another name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from bench.errors import UserError
from bench.plugins.registry import Registry
from bench.protocol.definition import Protocol, load
from bench.protocol.recipe import Recipe


@dataclass(frozen=True)
class Use:
    """When a value of a recipe is read."""

    holds: Callable[[Recipe], bool]
    condition: str  # for people
    present: Callable[[Recipe], str]  # what the recipe has instead, for people


def _among(part: str, key: str, *names: str) -> Use:
    """A value that is read where `part.key` is one of `names`."""

    def present(recipe: Recipe) -> str:
        return str(getattr(getattr(recipe, part), key))

    where = f"recipe.{part}.{key}"
    return Use(
        lambda recipe: present(recipe) in names,
        f"{where} = {' or '.join(names)}",
        lambda recipe: f"{where} = {present(recipe)}",
    )


def _above(where: str, value: Callable[[Recipe], float], bound: float = 0) -> Use:
    """A value that is read where another one is above `bound`."""
    return Use(
        lambda recipe: value(recipe) > bound,
        f"{where} above {bound}",
        lambda recipe: f"{where} = {value(recipe)}",
    )


_MIXING = _among("augment", "mix", "cutmix", "mixup")
_SGD = _among("optimizer", "name", "sgd")
_BY_LOSS = _among("schedule", "name", "loss-driven")
_STEPS = _among("schedule", "name", "multistep")
_TEMPERATURE = _among("loss", "name", "kl", "soft-ce")
USES = {
    "recipe.accumulation_weight": _above("recipe.accumulation", lambda recipe: recipe.accumulation, 1),
    "recipe.optimizer.betas": _among("optimizer", "name", "adamw"),
    "recipe.optimizer.momentum": _SGD,
    "recipe.optimizer.nesterov": _SGD,
    "recipe.schedule.zeta": _among("schedule", "name", "cosine", "ssrs"),
    "recipe.schedule.gamma": _among("schedule", "name", "multistep", "loss-driven"),
    "recipe.schedule.restart": _STEPS,
    "recipe.schedule.loss_fall": _BY_LOSS,
    "recipe.schedule.loss_fall_share": _BY_LOSS,
    "recipe.schedule.warmup_start": _above("recipe.schedule.warmup", lambda recipe: recipe.schedule.warmup),
    "recipe.loss.temperature": _TEMPERATURE,
    "recipe.loss.times_t_squared": _TEMPERATURE,
    "recipe.augment.randaugment_magnitude": _above(
        "recipe.augment.randaugment_ops", lambda recipe: recipe.augment.randaugment_ops
    ),
    "recipe.augment.patches": Use(
        lambda recipe: recipe.augment.patches == "none" or recipe.augment.patch_grid > 1,
        "recipe.augment.patch_grid above 1",
        lambda recipe: f"recipe.augment.patch_grid = {recipe.augment.patch_grid}: the whole image is its only patch",
    ),
    "recipe.augment.patch_grid": _among("augment", "patches", "shuffle", "extract"),
    "recipe.augment.mix_alpha": _MIXING,
    "recipe.augment.mix_probability": _MIXING,
    "recipe.augment.cutout_probability": _above("recipe.augment.cutout", lambda recipe: recipe.augment.cutout),
}


def without_effect(recipe: Recipe, names: Collection[str]) -> dict[str, str]:
    """Those of the dotted names whose values this recipe does not read, each with the reason in a clause."""
    return {
        name: f"it belongs to {use.condition}, and there is {use.present(recipe)}"
        for name, use in USES.items()
        if name in names and not use.holds(recipe)
    }


def hold_to_effects(registry: Registry, cells: Iterable[tuple[str, str, int, str]]) -> None:
    """Refuse values that were typed after the colon of a protocol and change nothing where it is to be used.

    Args:
        registry: that knows the protocols.
        cells: (protocol, data set, ipc, student).

    Raises:
        UserError: for the first such value.
    """
    protocols: dict[str, Protocol] = {}
    for name, dataset, ipc, student in dict.fromkeys(cells):
        protocol = protocols.get(name) or protocols.setdefault(name, load(registry, name))
        typed = [key for key, _ in protocol.options.values]
        if not set(typed) & USES.keys():
            continue
        try:
            recipe = protocol.recipe(
                dataset=dataset, ipc=ipc, student=student, classes=10
            )  # any: what is read is the same
        except UserError:
            continue  # a cell that the protocol does not have: its trial tells so
        for key, reason in without_effect(recipe, typed).items():
            raise UserError(
                f"protocol '{name}' on {dataset}: {key} changes nothing there: {reason}. Type what it belongs to "
                f"beside it, or leave it out."
            )
