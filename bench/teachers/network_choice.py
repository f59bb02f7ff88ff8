"""Which further networks a method uses beside the teacher, and the digests of theirs. Nothing here loads torch.

Which ones belongs to the data set, not to a protocol: a method makes the same images under every protocol with the
same teacher. The lists are those that gvbsm-v1 labels with, in its order; a data set that is not listed gets the small
networks below 64 pixels and the ones of the ImageNet subsets from there on.

A method says which it uses (BACKBONES in its module) before it runs, since its condensed sets are kept by the digests
of their weights, and its records tell them. A choice is a number (the teacher and the next ones of the list), `all`, or
names of teacher recipes with + between them, among which `teacher` is the protocol's own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.artifacts.refs import DatasetRef
from bench.artifacts.store import Store
from bench.errors import UserError
from bench.fingerprint import digest
from bench.plugins.registry import Registry
from bench.plugins.spec import Spec
from bench.teachers.teacher_files import TeacherRecipe, TeacherRef, find, load_recipe

SMALL = ("small-teacher-v1", "small-convnet-teacher-v1", "small-deep-teacher-v1", "small-wide-teacher-v1")
CIFAR = (
    "cifar-resnet18-v1",
    "cifar-convnet-v1",
    "cifar-wrn-16-2-v1",
    "cifar-mobilenet-v2-v1",
    "cifar-shufflenet-v2-x0-5-v1",
)
TINY = tuple(name.replace("cifar-", "tiny-") for name in CIFAR)
# EDC's scripts have eight on CIFAR: those of G-VBSM and three more ConvNets.
EIGHT = (*CIFAR, "cifar-convnet-d1-v1", "cifar-convnet-d2-v1", "cifar-convnet-w32-v1")
SUBSET = (
    "imagenet-subset-resnet18-v1",
    "imagenet-subset-mobilenet-v2-v1",
    "imagenet-subset-efficientnet-b0-v1",
    "imagenet-subset-shufflenet-v2-x0-5-v1",
)
WHOLE = (*(name.replace("-subset", "") for name in SUBSET), "imagenet-alexnet-v1")  # the fifth is EDC's
LISTED = {"cifar10": EIGHT, "cifar100": EIGHT, "tiny-imagenet": TINY, "imagenet-1k": WHOLE}
LARGE = 64  # pixels
TEACHER = "teacher"  # its name in a choice
ALL = "all"


@dataclass(frozen=True)
class Further:
    """A network besides the teacher: its recipe, and where its weights lie."""

    recipe: str
    ref: TeacherRef


def declared(method: Spec) -> str:
    """The choice of networks that a method declares; "1", the teacher alone, where its module says nothing.

    Raises:
        UserError: it is none.
    """
    backbones = method.plugin.constants.get("BACKBONES", 1)
    text = str(method.parameters[backbones] if isinstance(backbones, str) else backbones)
    parse_choice(text, f"method '{method}'")
    return text


def needs_others(choice: int | str) -> bool:
    """Whether a choice has networks besides the teacher."""
    return parse_choice(choice) not in (1, (TEACHER,))


def covers(declared: str, choice: int | str) -> bool:
    """Whether a call may ask for this choice where the method declares that one: the same, or a smaller number."""
    whole, part = parse_choice(declared), parse_choice(choice)
    return whole == part or (isinstance(whole, int) and isinstance(part, int) and part <= whole)


def names(dataset: str, size: int) -> tuple[str, ...]:
    """The recipes of the backbones of a data set (its spec, and the side of its images in pixels); the first is that
    of its usual teacher."""
    return LISTED.get(dataset.partition(":")[0], SUBSET if size >= LARGE else SMALL)


def made_before(
    store: Store,
    registry: Registry,
    dataset: DatasetRef,
    teacher: TeacherRef,
    choice: int | str,
) -> list[Further] | None:
    """What `further` gives, without opening the data set; None where one of them was never made here."""
    recipes, count = wanted_recipes(choice, names(dataset.spec, dataset.size), teacher)
    networks = list[Further]()
    for name in recipes:
        if count is None or len(networks) < count:
            recipe = load_recipe(registry, name, dataset.spec, dataset.classes)
            ref = find_unmeasured(store, recipe, dataset.spec, dataset.digest)
            if ref is None:
                return None
            if count is None or ref.digest != teacher.digest:
                networks.append(Further(name, ref))
    return networks if count in (None, len(networks)) else None


def find_unmeasured(store: Store, recipe: TeacherRecipe, dataset: str, dataset_digest: str) -> TeacherRef | None:
    """What `make_unmeasured` gives, if that is known here; else None."""
    ref = find(store, recipe, dataset, dataset_digest)
    if ref is None:
        for wanted in recipe.made_from(dataset_digest):
            artifact = store.find("backbone", {"made": wanted})
            if artifact is not None:
                place = store.relative(artifact), False, str(recipe.network), artifact.meta["digest"], math.nan
                return TeacherRef(*place, recipe.normalisation)
    return ref


def digest_of(networks: Sequence[Further]) -> str | None:
    """What a record tells of a method's further networks: the digest of the list of theirs; None without any."""
    return digest([each.ref.digest for each in networks]) if networks else None


def wanted_recipes(
    choice: int | str, listed: tuple[str, ...], teacher: TeacherRef
) -> tuple[tuple[str, ...], int | None]:
    """The recipes of a choice in their order, and how many of them that are not the teacher are wanted; None: each. In
    a miniature they are miniatures."""
    parsed, scale = parse_choice(choice), f":scale={teacher.scale}" if teacher.scale else ""
    if isinstance(parsed, tuple) and parsed != (ALL,):
        return tuple(f"{name}{scale}" for name in parsed if name != TEACHER), None
    first, *rest = (f"{name}{scale}" for name in listed)  # a protocol with another teacher gets the usual one, last
    return (*rest, first), (len(listed) if isinstance(parsed, tuple) else parsed) - 1


def parse_choice(choice: int | str, where: str = "backbones") -> int | tuple[str, ...]:
    """A choice as a number or names."""
    text = str(choice)
    if text.isascii() and text.isdigit() and 0 < len(text) < 4 and int(text):
        return int(text)
    parts = tuple(part.strip() for part in text.split("+"))
    if not all(re.fullmatch(r"[a-z][a-z0-9.-]*", part) for part in parts) or len(set(parts)) < len(parts):
        raise UserError(
            f"{where}: '{text}' is no choice of backbones. Type a number from 1 (the teacher and the next ones of the "
            f"data set's list), {ALL}, or different teacher recipes with + between them, as in "
            f"{TEACHER}+cifar-convnet-v1."
        )
    return parts
