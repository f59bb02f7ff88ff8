"""Teachers: networks trained on the full training split by a fixed recipe, or weights that others published.

A recipe is a TOML file in protocols/teachers/. It names a network, and either how that is trained ([recipe], with
values by data set as in a protocol) or whose weights it gets (weights = "torchvision:resnet18:IMAGENET1K_V1"). Weights
that ship with the project lie beside the file as safetensors, tied by digests to the data and the recipe that made
them; for any other data set the recipe is run once and the weights are kept in the store.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bench.artifacts.opened import Data
from bench.artifacts.store import Store
from bench.engine import ENGINE_VERSION
from bench.errors import UserError
from bench.fingerprint import digest
from bench.plugins.former_code import former
from bench.plugins.registry import ROOT, Registry, unknown
from bench.plugins.spec import Spec, parse
from bench.protocol.conditions import resolve
from bench.protocol.definition import read_toml, validated, with_defaults
from bench.protocol.recipe import Recipe
from bench.seeds import seed
from bench.teachers import pretrained
from bench.teachers.ensemble import Member
from bench.training.loop import evaluate, train
from bench.training.networks import build_network
from bench.training.normalisation import statistics
from bench.views.render import normalise

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
        made: dict[str, Any] = {"weights": self.weights}
        if self.recipe is not None:
            made = {"recipe": self.recipe.model_dump(mode="json", exclude_defaults=True)}
        return {
            "engine": ENGINE_VERSION,
            "dataset": dataset_digest,
            "network": str(self.network),
            "network_code": network_code or self.network.plugin.digest,
            **made,
        }

    def made_from(self, dataset_digest: str) -> tuple[str, ...]:
        """The digest of `inputs`; then those under which weights of the same code were kept before records of schema
        4 (bench.plugins.former_code)."""
        before = former(self.network.plugin.digest)
        return tuple(digest(self.inputs(dataset_digest, code)) for code in (None, *before))


def load_recipe(registry: Registry, name: str, dataset: str, classes: int) -> TeacherRecipe:
    """The recipe `name`, resolved for a data set. Raises UserError."""
    path = FOLDER / f"{name}.toml"
    if not path.is_file():
        raise UserError(unknown("teacher recipe", name, (p.stem for p in FOLDER.glob("*.toml"))))
    return read_recipe(path, registry, dataset, classes)


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
            with safe_open(path, "pt") as file:
                meta = json.loads(file.metadata()["json"])
            if meta["made_from"] in wanted:
                address = path.relative_to(FOLDER if shipped else store.root).as_posix()
                return TeacherRef(
                    address, shipped, str(recipe.network), meta["digest"], meta["accuracy"], recipe.normalisation
                )
    return None


def make(store: Store, data: Data, recipe: TeacherRecipe, dataset_digest: str, *, device: str = "cpu") -> TeacherRef:
    """Find the teacher, or make it by its recipe and keep it in the store.

    Raises:
        UserError: published weights do not fit the data set, or cannot be had.
    """
    found = find(store, recipe, str(data.spec), dataset_digest)
    if found is None:
        wanted = recipe.made_from(dataset_digest)[0]
        store.get("teacher", {"made": wanted}, lambda: _make(data, recipe, wanted, device))
        found = find(store, recipe, str(data.spec), dataset_digest)
        assert found is not None
    return found


def make_unmeasured(
    store: Store, data: Data, recipe: TeacherRecipe, dataset_digest: str, *, device: str = "cpu"
) -> TeacherRef:
    """As `make`, where the test split is out of reach: a network that is made here has no accuracy (NaN). It is the
    one that `make` would make, but teaches no student.

    Raises:
        UserError: published weights do not fit the data set, or cannot be had.
    """
    found = find_unmeasured(store, recipe, str(data.spec), dataset_digest)
    if found is None:

        def unmeasured() -> tuple[dict, dict]:
            _, arrays, _ = _network(data, recipe, device)
            return arrays, {"digest": _weights_digest(arrays)}

        store.get("backbone", {"made": recipe.made_from(dataset_digest)[0]}, unmeasured)
        found = find_unmeasured(store, recipe, str(data.spec), dataset_digest)
        assert found is not None
    return found


def find_unmeasured(store: Store, recipe: TeacherRecipe, dataset: str, dataset_digest: str) -> TeacherRef | None:
    """What `make_unmeasured` gives, if that is known here; else None."""
    found = find(store, recipe, dataset, dataset_digest)
    if found is None:
        for wanted in recipe.made_from(dataset_digest):
            artifact = store.find("backbone", {"made": wanted})
            if artifact is not None:
                own = store.relative(artifact), False, str(recipe.network), artifact.meta["digest"], math.nan
                return TeacherRef(*own, recipe.normalisation)
    return found


def _make(data: Data, recipe: TeacherRecipe, wanted: str, device: str) -> tuple[dict, dict]:
    model, arrays, published = _network(data, recipe, device)
    accuracy = _accuracy(data, recipe, model)
    if accuracy < published / 2:
        raise UserError(
            f"teacher '{recipe.id}': {recipe.weights} has {published:.1%} on ImageNet-1K, and {accuracy:.1%} on "
            f"the test split of '{data.spec}'. Are its classes in torchvision's order (ascending WordNet ids)?"
        )
    return arrays, {"made_from": wanted, "digest": _weights_digest(arrays), "accuracy": accuracy}


def _network(data: Data, recipe: TeacherRecipe, device: str) -> tuple[Any, dict[str, np.ndarray], float]:
    """(network, the weights that are kept of it, its published accuracy: 0 of a network that is trained here)."""
    if recipe.recipe is not None:
        model, published = fit(data, recipe, recipe.recipe, "teacher", device), 0.0
        # Half precision halves the file; the rounded weights are the teacher, for everyone and from the start.
        weights = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    else:
        assert recipe.weights is not None
        model, published = pretrained.build(recipe.network, recipe.weights, data.dataset)
        weights = model.to(device).state_dict()
    return model, {name: tensor.cpu().numpy() for name, tensor in weights.items()}, published


def _accuracy(data: Data, recipe: TeacherRecipe, model: torch.nn.Module) -> float:
    mean, std = statistics(recipe.normalisation, data.dataset)
    return evaluate(model, *data.test_images(), mean=mean, std=std).accuracy


def fit(data: Data, teacher: TeacherRecipe, recipe: Recipe, purpose: str, device: str, **options: Any) -> Any:
    """A network of the teacher's kind, trained on the whole training split by `recipe`; in eval mode.

    `purpose`, the teacher's name and the data set's seed it; `options` go to bench.training.loop.train.
    """
    dataset = data.dataset
    coordinates = (purpose, teacher.id, str(data.spec))
    model = build_network(
        teacher.network,
        channels=dataset.channels,
        size=dataset.size,
        classes=dataset.num_classes,
        seed=seed(*coordinates, "init"),
    ).to(device)
    mean, std = statistics(recipe.normalisation, dataset)
    train(
        model,
        data.train.images(np.arange(len(data.train))),
        torch.from_numpy(np.array(data.train.labels)),
        recipe,
        coordinates=coordinates,
        mean=mean,
        std=std,
        mirror=dataset.mirror,
        device=device,
        **options,
    )
    return model.eval()


def load(ref: TeacherRef, store: Store, registry: Registry, data: Data, *, device: str = "cpu") -> torch.nn.Module:
    """The network with its weights, in eval mode, parameters frozen."""
    dataset = data.dataset
    model = build_network(
        parse(registry, "network", ref.network),
        channels=dataset.channels,
        size=dataset.size,
        classes=dataset.num_classes,
        seed=0,
    )
    with safe_open(ref.path(store), "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping: it has no iterator)
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    return model.eval().requires_grad_(False).to(device)


def member(ref: TeacherRef, store: Store, registry: Registry, data: Data, *, device: str = "cpu") -> Member:
    """The teacher as a member of an ensemble."""
    mean, std = statistics(ref.normalisation, data.dataset)
    return Member(load(ref, store, registry, data, device=device), mean, std)


def ship(ref: TeacherRef, store: Store, name: str, dataset: str) -> Path:
    """Copy weights that were made here to where the project keeps them."""
    target = shipped_path(name, dataset)
    target.parent.mkdir(parents=True, exist_ok=True)
    with safe_open(ref.path(store), "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping: it has no iterator)
        meta = json.loads(file.metadata()["json"])
    kept = {key: meta[key] for key in ("made_from", "digest", "accuracy")}
    save_file(tensors, target, metadata={"json": json.dumps(kept, sort_keys=True)})
    target.chmod(0o644)  # safetensors keeps its files to the owner
    return target


@torch.no_grad()
def predict(
    model: torch.nn.Module,
    images: torch.Tensor,
    *,
    mean: Any,
    std: Any,
    device: str = "cpu",
    batch: int = 250,
    features: bool = False,
) -> torch.Tensor:
    """float32 [n, C] logits (or [n, d] penultimate features) of uint8 images, on the CPU; the mode is put back."""
    training = model.training
    model.eval()
    call: Callable[[torch.Tensor], torch.Tensor] = getattr(model, "features") if features else model  # noqa: B009
    pieces = [call(normalise(part.to(device), mean, std)).float().cpu() for part in images.split(batch)]
    model.train(training)
    return torch.cat(pieces)


def _weights_digest(arrays: Mapping[str, np.ndarray]) -> str:
    content = hashlib.sha256()
    for name in sorted(arrays):
        content.update(name.encode())
        content.update(np.ascontiguousarray(arrays[name]).tobytes())
    return content.hexdigest()
