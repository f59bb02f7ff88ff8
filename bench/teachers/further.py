"""Further networks that learnt the training split, for methods that match several of them (G-VBSM, EDC): made, loaded,
and put in the order of a choice (bench/teachers/network_choice.py)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import torch

from bench.artifacts.opened import Data
from bench.artifacts.store import Store
from bench.errors import UserError
from bench.plugins.registry import Registry
from bench.teachers import loaded, teacher_files, weights
from bench.teachers.ensemble import Member, renormalisation
from bench.teachers.network_choice import ALL, TEACHER, Further, names, parse_choice, wanted_recipes
from bench.training.normalisation import statistics


def further(
    store: Store,
    registry: Registry,
    data: Data,
    dataset_digest: str,
    teacher: teacher_files.TeacherRef,
    choice: int | str,
    *,
    device: str,
) -> list[Further]:
    """The networks of a choice besides the teacher. Weights are shipped, or lie in the store, or are made now by the
    recipe, from the training split alone.

    Raises:
        UserError: the choice is none, or the data set has fewer; or published weights do not fit it, or cannot be had.
    """

    def each(recipes: Sequence[str]) -> Iterator[Further]:
        for name in recipes:
            recipe = teacher_files.load_recipe(registry, name, str(data.spec), data.dataset.num_classes)
            yield Further(name, weights.make_unmeasured(store, data, recipe, dataset_digest, device=device))

    listed = names(str(data.spec), data.dataset.size)
    recipes, count = wanted_recipes(choice, listed, teacher)
    if count is None:
        return list(each(recipes))
    others = (network for network in each(recipes) if network.ref.digest != teacher.digest)
    networks = list(islice(others, count))
    if len(networks) < count:
        raise UserError(
            f"{count + 1} backbones were asked for; data set '{data.spec}' has {len(networks) + 1} "
            f"({', '.join(listed)}). Ask for at most {len(networks) + 1}."
        )
    return networks


def in_order(choice: int | str, teacher: torch.nn.Module, others: Sequence[torch.nn.Module]) -> list[torch.nn.Module]:
    """The networks of a choice as they are lent: the teacher first, or where the choice names it, or not at all."""
    parsed, rest = parse_choice(choice), iter(others)
    if isinstance(parsed, tuple) and parsed != (ALL,):
        return [teacher if name == TEACHER else next(rest) for name in parsed]
    return [teacher, *rest]


def load(
    backbone: Further, store: Store, registry: Registry, data: Data, teacher: teacher_files.TeacherRef, *, device: str
) -> torch.nn.Module:
    """The network, in eval mode, parameters frozen. It takes images as the teacher does, whatever it was trained with
    itself."""
    network = loaded.load(backbone.ref, store, registry, data, device=device)
    mean, std = statistics(teacher.normalisation, data.dataset)
    change = renormalisation(mean, std, Member(network, *statistics(backbone.ref.normalisation, data.dataset)))
    return network if change is None else _Renormalised(network, *change).to(device)


class _Renormalised(torch.nn.Module):
    """A network that takes images in another normalisation than its own."""

    factor: torch.Tensor
    shift: torch.Tensor

    def __init__(self, network: torch.nn.Module, factor: torch.Tensor, shift: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("factor", factor)
        self.register_buffer("shift", shift)
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images * self.factor + self.shift)
        return logits
