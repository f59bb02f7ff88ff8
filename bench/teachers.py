"""Teachers and training dynamics: networks trained on the full training split by a fixed recipe.

A recipe is a TOML file in protocols/teachers/, with values by data set as in a protocol. Weights that ship with the
project lie beside it as safetensors, tied by digests to the data and the recipe that made them; for any other data set
the recipe is run once and the weights are kept in the store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bench import ENGINE_VERSION
from bench.conditions import resolve
from bench.data import Data
from bench.errors import UserError
from bench.fingerprint import digest
from bench.networks import build_network
from bench.protocol import read_toml, validated, with_defaults
from bench.recipe import Recipe
from bench.registry import ROOT, Registry, unknown
from bench.seeds import seed
from bench.spec import Spec, parse
from bench.store import Artifact, Store
from bench.training import evaluate, train

FOLDER = ROOT / "protocols" / "teachers"
DYNAMICS = "small-dynamics-v1"


@dataclass(frozen=True)
class TeacherRecipe:
    """How a teacher is made for one data set."""

    id: str
    network: Spec
    recipe: Recipe

    def inputs(self, dataset_digest: str) -> dict[str, Any]:
        """Everything that decides the weights."""
        return {
            "engine": ENGINE_VERSION,
            "dataset": dataset_digest,
            "network": str(self.network),
            "network_code": self.network.plugin.digest,
            "recipe": self.recipe.model_dump(mode="json"),
        }


def load_recipe(registry: Registry, name: str, dataset: str, classes: int) -> TeacherRecipe:
    """The recipe `name`, resolved for a data set. Raises UserError."""
    path = FOLDER / f"{name}.toml"
    if not path.is_file():
        raise UserError(unknown("teacher recipe", name, (p.stem for p in FOLDER.glob("*.toml"))))
    content = read_toml(path)
    if set(content) - {"title", "notes"} != {"network", "recipe"}:
        raise UserError(f"{path}: a teacher recipe has the keys title, notes, network and [recipe].")
    cell = {"dataset": dataset, "ipc": 0, "classes": classes, "images": 0, "student": ""}
    network = parse(registry, "network", resolve(content["network"], cell, f"{path}, network"))
    values = resolve(with_defaults(Recipe, content["recipe"], path, "recipe"), cell, str(path))
    return TeacherRecipe(name, network, validated({"labels": "hard", **values}, path))


@dataclass(frozen=True)
class TeacherRef:
    """Where a teacher's weights lie, and what they are."""

    address: str  # below protocols/teachers/ if the weights are shipped with the project, else in the store
    shipped: bool
    network: str
    digest: str  # of the weights
    accuracy: float  # on the test split, measured when the weights were made

    def path(self, store: Store) -> Path:
        """The file, on this machine."""
        return (FOLDER if self.shipped else store.root) / self.address


def shipped_path(name: str, dataset: str) -> Path:
    """Where the project keeps the weights of a recipe for a data set."""
    slug = "".join(c if c.isalnum() else "-" for c in dataset)
    return FOLDER / name / f"{slug}.safetensors"


def find(store: Store, recipe: TeacherRecipe, dataset: str, dataset_digest: str) -> TeacherRef | None:
    """The weights for exactly this data and this recipe: shipped, or made here before; else None."""
    wanted = digest(recipe.inputs(dataset_digest))
    for path, shipped in ((shipped_path(recipe.id, dataset), True), (store.path("teacher", {"made": wanted}), False)):
        if path.is_file():
            with safe_open(path, "pt") as file:
                meta = json.loads(file.metadata()["json"])
            if meta["made_from"] == wanted:
                address = path.relative_to(FOLDER if shipped else store.root).as_posix()
                return TeacherRef(address, shipped, str(recipe.network), meta["digest"], meta["accuracy"])
    return None


def make(store: Store, data: Data, recipe: TeacherRecipe, dataset_digest: str, *, device: str = "cpu") -> TeacherRef:
    """Find the teacher, or train it by its recipe and keep it in the store."""
    found = find(store, recipe, str(data.spec), dataset_digest)
    if found is None:
        wanted = digest(recipe.inputs(dataset_digest))
        store.get("teacher", {"made": wanted}, lambda: _train_teacher(data, recipe, wanted, device))
        found = find(store, recipe, str(data.spec), dataset_digest)
        assert found is not None
    return found


def _train_teacher(data: Data, recipe: TeacherRecipe, wanted: str, device: str) -> tuple[dict, dict]:
    model = _fit(data, recipe, recipe.recipe, "teacher", device)
    images, labels = data.test_images()
    measured = evaluate(model, images, labels, mean=data.dataset.mean, std=data.dataset.std)
    # Half precision halves the file; the rounded weights are the teacher, for everyone and from the start.
    weights = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    arrays = {name: tensor.cpu().numpy() for name, tensor in weights.items()}
    return arrays, {"made_from": wanted, "digest": _weights_digest(arrays), "accuracy": measured.accuracy}


def _fit(data: Data, teacher: TeacherRecipe, recipe: Recipe, purpose: str, device: str, **options: Any) -> Any:
    dataset = data.dataset
    coordinates = (purpose, teacher.id, str(data.spec))
    model = build_network(
        teacher.network,
        channels=dataset.channels,
        size=dataset.size,
        classes=dataset.num_classes,
        seed=seed(*coordinates, "init"),
    ).to(device)
    train(
        model,
        data.train.images(np.arange(len(data.train))),
        torch.from_numpy(np.array(data.train.labels)),
        recipe,
        coordinates=coordinates,
        mean=dataset.mean,
        std=dataset.std,
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


def ship(ref: TeacherRef, store: Store, name: str, dataset: str) -> Path:
    """Copy weights that were made here to where the project keeps them."""
    target = shipped_path(name, dataset)
    target.parent.mkdir(parents=True, exist_ok=True)
    with safe_open(ref.path(store), "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping: it has no iterator)
        meta = json.loads(file.metadata()["json"])
    kept = {key: meta[key] for key in ("made_from", "digest", "accuracy")}
    save_file(tensors, target, metadata={"json": json.dumps(kept, sort_keys=True)})
    return target


def dynamics(
    store: Store, registry: Registry, data: Data, dataset_digest: str, epochs: int, *, device: str = "cpu"
) -> Artifact:
    """float16 [epochs, N, C] under the name `probabilities`: of every training image after each epoch, unaugmented."""
    base = load_recipe(registry, DYNAMICS, str(data.spec), data.dataset.num_classes)
    recipe = base.recipe.model_copy(update={"epochs": epochs})

    def make_dynamics() -> tuple[Mapping[str, np.ndarray], Mapping[str, Any]]:
        images = data.train.images(np.arange(len(data.train)))
        logged: list[np.ndarray] = []

        def log(_epoch: int, model: torch.nn.Module) -> None:
            logits = predict(model, images, mean=data.dataset.mean, std=data.dataset.std, device=device)
            logged.append(torch.softmax(logits, dim=1).to(torch.float16).numpy())

        _fit(data, base, recipe, "dynamics", device, on_epoch_end=log)
        return {"probabilities": np.stack(logged)}, {}

    inputs = {**base.inputs(dataset_digest), "recipe": recipe.model_dump(mode="json")}
    return store.get("dynamics", inputs, make_dynamics)


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
    from bench.render import normalise

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
