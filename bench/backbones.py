"""Further networks that learnt the training split, for methods that match several of them (G-VBSM, EDC).

Which ones belongs to the data set, not to a protocol: a method makes the same images under every protocol with the
same teacher. The lists are those that gvbsm-v1 labels with, in its order; a data set that is not listed gets the small
networks below 64 pixels and the ones of the ImageNet subsets from there on.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from bench import teachers
from bench.data import Data
from bench.ensemble import Member, renormalisation
from bench.errors import UserError
from bench.normalisation import statistics
from bench.registry import Registry
from bench.store import Store

SMALL = ("small-teacher-v1", "small-convnet-teacher-v1", "small-deep-teacher-v1", "small-wide-teacher-v1")
CIFAR = (
    "cifar-resnet18-v1",
    "cifar-convnet-v1",
    "cifar-wrn-16-2-v1",
    "cifar-mobilenet-v2-v1",
    "cifar-shufflenet-v2-x0-5-v1",
)
TINY = tuple(name.replace("cifar-", "tiny-") for name in CIFAR)
SUBSET = (
    "imagenet-subset-resnet18-v1",
    "imagenet-subset-mobilenet-v2-v1",
    "imagenet-subset-efficientnet-b0-v1",
    "imagenet-subset-shufflenet-v2-x0-5-v1",
)
WHOLE = tuple(name.replace("-subset", "") for name in SUBSET)
LISTED = {"cifar10": CIFAR, "cifar100": CIFAR, "tiny-imagenet": TINY, "imagenet-1k": WHOLE}
LARGE = 64  # pixels


def names(data: Data) -> tuple[str, ...]:
    """The recipes of a data set's backbones; the first is that of its usual teacher."""
    default = SUBSET if data.dataset.size >= LARGE else SMALL
    return LISTED.get(str(data.spec).partition(":")[0], default)


def further(
    store: Store,
    registry: Registry,
    data: Data,
    dataset_digest: str,
    teacher: teachers.TeacherRef,
    *,
    device: str,
) -> Iterator[torch.nn.Module]:
    """The backbones besides the teacher, one after the other as they are asked for, in eval mode, parameters frozen.

    Each takes images as the teacher does, whatever it was trained with itself. Weights are shipped, or lie in the
    store, or are made now by the recipe, from the training split alone.

    Raises:
        UserError: published weights do not fit the data set, or cannot be had.
    """
    first, *rest = names(data)
    for name in (*rest, first):  # a protocol with another teacher still gets the usual one, last
        recipe = teachers.load_recipe(registry, name, str(data.spec), data.dataset.num_classes)
        ref = teachers.make_unmeasured(store, data, recipe, dataset_digest, device=device)
        if ref.digest != teacher.digest:
            yield _as_the_teacher(ref, store, registry, data, teacher, device)


def enough(found: list[torch.nn.Module], count: int, data: Data) -> list[torch.nn.Module]:
    """The first `count` of the backbones that were found. Raises UserError where there are fewer."""
    if len(found) < count:
        raise UserError(
            f"{count} backbones were asked for; data set '{data.spec}' has {len(found)} "
            f"({', '.join(names(data))}). Ask for at most {len(found)}."
        )
    return found[:count]


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
        return self.network(images * self.factor + self.shift)


def _as_the_teacher(
    ref: teachers.TeacherRef,
    store: Store,
    registry: Registry,
    data: Data,
    teacher: teachers.TeacherRef,
    device: str,
) -> torch.nn.Module:
    network = teachers.load(ref, store, registry, data, device=device)
    mean, std = statistics(teacher.normalisation, data.dataset)
    change = renormalisation(mean, std, Member(network, *statistics(ref.normalisation, data.dataset)))
    return network if change is None else _Renormalised(network, *change).to(device)
