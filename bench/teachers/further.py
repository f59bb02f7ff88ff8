"""Further networks that learnt the training split, for methods that match several of them (G-VBSM, EDC).

Which ones belongs to the data set, not to a protocol: a method makes the same images under every protocol with the
same teacher. The lists are those that gvbsm-v1 labels with, in its order; a data set that is not listed gets the small
networks below 64 pixels and the ones of the ImageNet subsets from there on.

A method says how many it uses (BACKBONES in its module) before it runs, since its condensed sets are kept by the
digests of their weights, and its records tell them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from bench.artifacts.opened import Data
from bench.artifacts.refs import DatasetRef
from bench.artifacts.store import Store
from bench.errors import UserError
from bench.fingerprint import digest
from bench.plugins.registry import Registry
from bench.plugins.spec import Spec
from bench.teachers import loaded, teacher_files, weights
from bench.teachers.ensemble import Member, renormalisation
from bench.training.normalisation import statistics

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


@dataclass(frozen=True)
class Further:
    """A network besides the teacher: its recipe, and where its weights lie."""

    recipe: str
    ref: teacher_files.TeacherRef


def declared(method: Spec) -> int:
    """How many networks a method uses, the teacher included; 1 where its module says nothing."""
    backbones = method.plugin.constants.get("BACKBONES", 1)
    return max(1, int(method.parameters[backbones] if isinstance(backbones, str) else backbones))


def names(dataset: str, size: int) -> tuple[str, ...]:
    """The recipes of the backbones of a data set (its spec, and the side of its images in pixels); the first is that
    of its usual teacher."""
    return LISTED.get(dataset.partition(":")[0], SUBSET if size >= LARGE else SMALL)


def further(
    store: Store,
    registry: Registry,
    data: Data,
    dataset_digest: str,
    teacher: teacher_files.TeacherRef,
    count: int,
    *,
    device: str,
) -> list[Further]:
    """`count` networks besides the teacher. Weights are shipped, or lie in the store, or are made now by the recipe,
    from the training split alone.

    Raises:
        UserError: the data set has fewer; or published weights do not fit it, or cannot be had.
    """

    def each() -> Iterator[Further]:
        for name in _order(str(data.spec), data.dataset.size, teacher.scale):
            recipe = teacher_files.load_recipe(registry, name, str(data.spec), data.dataset.num_classes)
            ref = weights.make_unmeasured(store, data, recipe, dataset_digest, device=device)
            if ref.digest != teacher.digest:
                yield Further(name, ref)

    networks = list(islice(each(), count))
    if len(networks) < count:
        listed = ", ".join(names(str(data.spec), data.dataset.size))
        raise UserError(
            f"{count + 1} backbones were asked for; data set '{data.spec}' has {len(networks) + 1} ({listed}). Ask for "
            f"at most {len(networks) + 1}."
        )
    return networks


def made_before(
    store: Store,
    registry: Registry,
    dataset: DatasetRef,
    teacher: teacher_files.TeacherRef,
    count: int,
) -> list[Further] | None:
    """What `further` gives, without opening the data set; None where one of them was never made here."""
    networks = list[Further]()
    for name in _order(dataset.spec, dataset.size, teacher.scale):
        if len(networks) < count:
            recipe = teacher_files.load_recipe(registry, name, dataset.spec, dataset.classes)
            ref = weights.find_unmeasured(store, recipe, dataset.spec, dataset.digest)
            if ref is None:
                return None
            if ref.digest != teacher.digest:
                networks.append(Further(name, ref))
    return networks if len(networks) == count else None


def digest_of(networks: Sequence[Further]) -> str | None:
    """What a record tells of a method's further networks: the digest of the list of theirs; None without any."""
    return digest([each.ref.digest for each in networks]) if networks else None


def load(
    backbone: Further, store: Store, registry: Registry, data: Data, teacher: teacher_files.TeacherRef, *, device: str
) -> torch.nn.Module:
    """The network, in eval mode, parameters frozen. It takes images as the teacher does, whatever it was trained with
    itself."""
    network = loaded.load(backbone.ref, store, registry, data, device=device)
    mean, std = statistics(teacher.normalisation, data.dataset)
    change = renormalisation(mean, std, Member(network, *statistics(backbone.ref.normalisation, data.dataset)))
    return network if change is None else _Renormalised(network, *change).to(device)


def _order(dataset: str, size: int, scale: str) -> Iterator[str]:
    first, *rest = names(dataset, size)
    for name in (*rest, first):  # a protocol with another teacher still gets the usual one, last
        yield f"{name}:scale={scale}" if scale else name


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
