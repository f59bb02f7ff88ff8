"""Teachers as files: the recipes, and the weights that were made by them. Nothing here loads torch.

A recipe is a TOML file in protocols/teachers/. It names a network, and either how that is trained ([recipe], with
values by data set as in a protocol) or whose weights it gets (weights = "torchvision:resnet18:IMAGENET1K_V1"). Weights
that ship with the project lie beside the file as safetensors, tied by digests to the data and the recipe that made
them; for any other data set the recipe is run once and the weights are kept in the store.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from bench.artifacts.store import Store
from bench.engine import ENGINE_VERSION
from bench.errors import UserError, unknown
from bench.fingerprint import digest
from bench.plugins.former_code import former
from bench.plugins.registry import ROOT, Registry
from bench.plugins.spec import Spec, parse
from bench.protocol.conditions import resolve
from bench.protocol.definition import validated, with_defaults
from bench.protocol.recipe import Recipe
from bench.protocol.toml_file import read_toml

FOLDER = ROOT / "protocols" / "teachers"
TEXTS = {"title", "source", "notes"}


@dataclass(frozen=True)
class TeacherRecipe:
    """How a teacher is made for one data set: trained by `recipe`, or given published `weights`."""

    id: str
    network: Spec
    recipe: Recipe | None
    weights: str | None = None  # as bench.teachers.pretrained reads it

    @property
    def normalisation(self) -> str:
        """What its images are normalised with (bench.training.normalisation); torchvision's weights go with
        ImageNet's."""
        return "imagenet" if self.recipe is None else self.recipe.normalisation

    def inputs(self, dataset_digest: str, network_code: str | None = None) -> dict[str, Any]:
        """Everything that decides the weights. What a recipe leaves at its default stays out: a field that a later
        version adds, switched off, makes no other teacher. `network_code`: by default that of the network here."""
        origin: dict[str, Any] = {"weights": self.weights}
        if self.recipe is not None:
            origin = {"recipe": self.recipe.model_dump(mode="json", exclude_defaults=True)}
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
    """The recipe `name`, resolved for a data set. Raises UserError."""
    files = {path.stem: path for path in FOLDER.glob("*.toml")}  # looked up: a stranger's name is never a path
    if name not in files:
        raise UserError(unknown("teacher recipe", name, files))
    return read_recipe(files[name], registry, dataset, classes)


def read_recipe(path: Path, registry: Registry, dataset: str, classes: int) -> TeacherRecipe:
    """The recipe in a file, resolved for a data set. Raises UserError."""
    content = read_toml(path)
    if set(content) - TEXTS not in ({"network", "recipe"}, {"network", "weights"}):
        raise UserError(
            f"{path}: a teacher recipe has the keys title, source, notes, network, and [recipe] or weights."
        )
    cell = {"dataset": dataset, "ipc": 0, "classes": classes, "images": 0, "student": ""}
    network = parse(registry, "network", resolve(content["network"], cell, f"{path}, network"))
    if "weights" in content:
        from bench.teachers import pretrained  # with torchvision, whose weights they are

        weights = str(content["weights"])
        pretrained.find_weights(weights)
        if (wanted := pretrained.network_of(weights)) != str(network):
            raise UserError(f"{path}: weights '{weights}' belong to network = '{wanted}', not to '{network}'.")
        return TeacherRecipe(path.stem, network, None, weights)
    values = resolve(with_defaults(Recipe, content["recipe"], path, "recipe"), cell, str(path))
    return TeacherRecipe(path.stem, network, validated({"labels": "hard", **values}, path))


@dataclass(frozen=True)
class TeacherRef:
    """Where a teacher's weights lie, and what they are."""

    address: str  # below protocols/teachers/ if the weights are shipped with the project, else in the store
    shipped: bool
    network: str
    digest: str  # of the weights
    accuracy: float  # on the test split, measured when the weights were made
    normalisation: str = "dataset"  # of its images, see bench.normalisation

    def path(self, store: Store) -> Path:
        """The file, on this machine."""
        return (FOLDER if self.shipped else store.root) / self.address


@dataclass(frozen=True)
class UnusedTeacher:
    """The teacher of a method that asks for none: nobody makes it. Its recipe still says how images are normalised."""

    recipe: str


def teachers_digest(refs: Sequence[TeacherRef]) -> str:
    """What a record tells of its teachers: the digest of the weights; of several, that of the list of theirs."""
    return refs[0].digest if len(refs) == 1 else digest([ref.digest for ref in refs])


def shipped_path(name: str, dataset: str) -> Path:
    """Where the project keeps the weights of a recipe for a data set."""
    slug = "".join(c if c.isalnum() else "-" for c in dataset)
    return FOLDER / name / f"{slug}.safetensors"


def find(store: Store, recipe: TeacherRecipe, dataset: str, dataset_digest: str) -> TeacherRef | None:
    """The weights for exactly this data and this recipe: shipped, or made here before; else None."""
    wanted = recipe.made_from(dataset_digest)
    kept = [(store.path("teacher", {"made": each}), False) for each in wanted]
    for path, shipped in ((shipped_path(recipe.id, dataset), True), *kept):
        if path.is_file():
            with safe_open(path, "np") as file:
                meta = json.loads(file.metadata()["json"])
            if meta["made_from"] in wanted:
                address = path.relative_to(FOLDER if shipped else store.root).as_posix()
                return TeacherRef(
                    address, shipped, str(recipe.network), meta["digest"], meta["accuracy"], recipe.normalisation
                )
    return None
