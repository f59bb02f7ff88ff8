"""Teachers as files: the recipes, and the weights that were made by them. Nothing here loads torch.

A recipe is a TOML file, in protocols/teachers/ or the user's own. It names a network, and how that is trained
([recipe], with values by data set as in a protocol), or whose weights it gets (weights = "torchvision:resnet18", or
another of the words in bench/teachers/pretrained.py), or both: then its training starts from these weights. Weights
that ship with the project lie beside the file as safetensors, tied by digests to the data and the recipe that made
them. For any other data set the recipe is run once, and the weights are kept in the store.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from bench.artifacts.store import Artifact, Store, arrays_digest, discard
from bench.engine import ENGINE_VERSION
from bench.errors import UserError, unknown
from bench.fingerprint import digest
from bench.plugins.former_code import former
from bench.plugins.registry import ROOT, Registry
from bench.plugins.spec import Spec, parse
from bench.protocol.conditions import resolve
from bench.protocol.definition import validated, with_defaults
from bench.protocol.own_teacher import content_digest, given_file
from bench.protocol.recipe import Recipe, scaled
from bench.protocol.toml_file import read_toml
from bench.texts import cut

FOLDER = ROOT / "protocols" / "teachers"
TEXTS = {"title", "source", "notes"}
OF_A_FILE = {"keys", "sha256"}  # what a recipe may say beside `weights`
WITH_WEIGHTS = OF_A_FILE | {"normalisation"}  # and where nothing is trained


@dataclass(frozen=True)
class TeacherRecipe:
    """How a teacher is made for one data set: trained by `recipe`, given published `weights`, or trained from these."""

    id: str  # seeds its training; of the user's own, the digest of what the recipe says
    network: Spec
    recipe: Recipe | None
    weights: str | None = None  # as bench.teachers.pretrained reads it
    name: str = ""  # of the file, for messages; "": the id
    sha256: str | None = None  # of the file with the weights
    stated: str | None = None  # the normalisation that goes with weights, where the file states it
    keys: str = "name"  # how the tensors of a file are matched, see bench.teachers.state_files
    folder: Path | None = None  # that the file of the weights is relative to
    scale: str = ""  # of the miniature that it was asked for by

    @property
    def normalisation(self) -> str:
        """What its images are normalised with (bench.training.normalisation); torchvision's weights go with
        ImageNet's."""
        if self.recipe is not None:
            return self.recipe.normalisation
        return self.stated or "imagenet"

    def inputs(self, dataset_digest: str, network_code: str | None = None) -> dict[str, Any]:
        """Everything that decides the weights. What a recipe leaves at its default stays out: a field that a later
        version adds, switched off, makes no other teacher. `network_code`: by default that of the network here."""
        origin: dict[str, Any] = {}
        if self.weights or self.recipe is None:
            origin["weights"] = {"sha256": self.sha256, "keys": self.keys} if self.sha256 else self.weights
        if self.stated:
            origin["normalisation"] = self.stated
        if self.recipe is not None:
            origin["recipe"] = self.recipe.model_dump(mode="json", exclude_defaults=True)
        return {
            "engine": ENGINE_VERSION,
            "dataset": dataset_digest,
            "network": str(self.network),
            "network_code": network_code or self.network.plugin.digest,
            **origin,
        }

    def made_from(self, dataset_digest: str) -> tuple[str, ...]:
        """The digest of `inputs`; then those under which weights of the same code were kept before records of schema
        4 (bench.plugins.former_code)."""
        before = former(self.network.plugin.digest)
        return tuple(digest(self.inputs(dataset_digest, code)) for code in (None, *before))


def load_recipe(registry: Registry, name: str, dataset: str, classes: int) -> TeacherRecipe:
    """The recipe `name`, resolved for a data set: the user's own, else the project's. Raises UserError.

    `NAME:scale=S` is the recipe in miniature, where it has to be trained: a teacher that ships, or has weights already,
    is what it is.
    """
    base, _, scale = name.partition(":scale=")
    given = given_file(registry, base)
    if given is None:
        files = {path.stem: path for path in FOLDER.glob("*.toml")}  # looked up: a stranger's name is never a path
        if base not in files:
            raise UserError(unknown("teacher recipe", base, [*registry.teacher_names(), *files]))
        recipe = read_recipe(files[base], registry, dataset, classes)
    else:
        recipe = read_recipe(given[0], registry, dataset, classes, given[1])
        recipe = replace(recipe, id=content_digest(*given))
    if not scale:
        return recipe
    if recipe.recipe is None or shipped_path(base, dataset).is_file():
        return replace(recipe, scale=scale)
    miniature = scaled(recipe.recipe, float(scale))
    return replace(
        recipe, id=f"{recipe.id}:scale={scale}", name=f"{recipe.name}:scale={scale}", recipe=miniature, scale=scale
    )


def read_recipe(path: Path, registry: Registry, dataset: str, classes: int, text: str | None = None) -> TeacherRecipe:
    """The recipe in a file (or in its text, read before), resolved for a data set. Raises UserError."""
    content = read_toml(path, text)
    keys = set(content) - TEXTS
    kinds = (
        {"network", "recipe"},
        {"network", "weights"} | (keys & WITH_WEIGHTS),
        {"network", "weights", "recipe"} | (keys & OF_A_FILE),
    )
    if keys not in kinds:
        raise UserError(
            f"{path}: a teacher recipe has the keys title, source, notes, network, and [recipe], weights (with "
            f"{', '.join(sorted(WITH_WEIGHTS))}), or both: the training then starts from the weights, and the "
            f"normalisation stands in [recipe]."
        )
    cell = {"dataset": dataset, "ipc": 0, "classes": classes, "images": 0, "student": ""}
    named = resolve(content["network"], cell, f"{path}, network")
    if not isinstance(named, str):
        raise UserError(f'{path}: network = {cut(repr(named), 80)} must be a text, such as "convnet:width=16".')
    network = parse(registry, "network", named)
    recipe: Recipe | None = None
    fields: dict[str, Any] = {"name": path.stem}
    if "weights" in content:
        from bench.teachers import pretrained  # with torchvision, whose weights they are

        fields = pretrained.weight_fields(path, network, content)
    if "recipe" in content:
        values = resolve(with_defaults(Recipe, content["recipe"], path, "recipe"), cell, str(path))
        recipe = validated({"labels": "hard", **values}, path)
    return TeacherRecipe(path.stem, network, recipe, **fields)


@dataclass(frozen=True)
class TeacherRef:
    """Where a teacher's weights lie, and what they are."""

    address: str  # below protocols/teachers/ if the weights are shipped with the project, else in the store
    shipped: bool
    network: str
    digest: str  # of the weights
    accuracy: float  # on the test split, measured when the weights were made
    normalisation: str = "dataset"  # of its images, see bench.normalisation
    stated: bool = False  # whether the normalisation is a choice beside the weights, and so part of what it is
    recipe: str = ""  # name of its recipe
    scale: str = ""  # of the miniature that it is lent in

    @property
    def identity(self) -> str:
        """What tells it from others: the digest of its weights; with the normalisation where that was stated."""
        return digest([self.digest, self.normalisation]) if self.stated else self.digest

    def path(self, store: Store) -> Path:
        """The file, on this machine."""
        return (FOLDER if self.shipped else store.root) / self.address


@dataclass(frozen=True)
class UnusedTeacher:
    """The teacher of a method that asks for none: nobody makes it. Its recipe still says how images are normalised."""

    recipe: str


def teachers_digest(refs: Sequence[TeacherRef]) -> str:
    """What a record tells of its teachers: the digest of the weights; of several, that of the list of theirs."""
    return refs[0].identity if len(refs) == 1 else digest([ref.identity for ref in refs])


def shipped_path(name: str, dataset: str) -> Path:
    """Where the project keeps the weights of a recipe for a data set."""
    slug = "".join(c if c.isalnum() else "-" for c in dataset)
    return FOLDER / name / f"{slug}.safetensors"


def find(store: Store, recipe: TeacherRecipe, dataset: str, dataset_digest: str) -> TeacherRef | None:
    """The weights for exactly this data and this recipe: shipped, or made here before; else None."""
    wanted = recipe.made_from(dataset_digest)
    path = shipped_path(recipe.id, dataset)
    shipped = [(path, _shipped_facts(path), True)] if path.is_file() else []
    kept = [(each.path, each.meta, False) for key in wanted if (each := _kept(store, key))]
    for path, meta, is_shipped in (*shipped, *kept):
        if meta["made_from"] in wanted:
            address = path.relative_to(FOLDER if is_shipped else store.root).as_posix()
            return TeacherRef(
                address, is_shipped, str(recipe.network), meta["digest"], meta["accuracy"], recipe.normalisation,
                stated=recipe.stated is not None, recipe=recipe.name or recipe.id, scale=recipe.scale,
            )  # fmt: skip
    return None


def _kept(store: Store, key: str) -> Artifact | None:
    """The weights that were made here, if they are the ones that their file tells of; others are removed."""
    artifact = store.find("teacher", {"made": key})
    if artifact is None or arrays_digest(artifact.arrays) == artifact.meta["digest"]:
        return artifact
    discard(artifact.path, f"{artifact.path}: its weights are not those that its digest tells. It is made again.")
    return None


def _shipped_facts(path: Path) -> dict[str, Any]:
    """What a shipped file tells of itself. Raises UserError where it is damaged."""
    try:
        with safe_open(path, "np") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["json"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: the teacher that this project ships is damaged ({error}). Get the file anew: install again, or "
            f"git checkout."
        ) from None
    return facts
