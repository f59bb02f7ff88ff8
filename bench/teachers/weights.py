"""Weights of teachers: trained on the full training split by a fixed recipe, or published by others.

They are made once, and kept. bench/teachers/teacher_files.py tells where recipes and weights lie.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from scipy.optimize import linear_sum_assignment

from bench.artifacts.opened import Data
from bench.artifacts.split_images import training_images
from bench.artifacts.store import Store, arrays_digest
from bench.errors import UserError
from bench.protocol.recipe import Recipe
from bench.seeds import seed
from bench.teachers import loaded, pretrained
from bench.teachers.network_choice import find_unmeasured
from bench.teachers.state_files import State, fitted
from bench.teachers.teacher_files import TeacherRecipe, TeacherRef, find, shipped_path
from bench.training.course import Course, kept_course
from bench.training.loop import evaluate, train
from bench.training.networks import build_network
from bench.training.normalisation import statistics
from bench.training.together import train_together

PER_CLASS = 5  # test images from which on an order of the classes is no accident


def make(
    store: Store,
    data: Data,
    recipe: TeacherRecipe,
    dataset_digest: str,
    *,
    device: str = "cpu",
    download: bool = True,
    processes: int = 1,
) -> TeacherRef:
    """Find the teacher, or make it by its recipe and keep it in the store. `download`: whether weights may be fetched.
    `processes`: that train it together, each with a GPU.

    Raises:
        UserError: published weights do not fit the data set, or cannot be had.
    """
    ref = find(store, recipe, str(data.spec), dataset_digest)
    if ref is None:
        wanted = recipe.made_from(dataset_digest)[0]
        course = _course(store, data, recipe, "teacher", wanted, device)
        make_it = partial(_make, data, recipe, wanted, device, download, course, processes)
        store.get("teacher", {"made": wanted}, make_it)
        course.end()
        ref = find(store, recipe, str(data.spec), dataset_digest)
        assert ref is not None
    return ref


def make_unmeasured(
    store: Store, data: Data, recipe: TeacherRecipe, dataset_digest: str, *, device: str = "cpu"
) -> TeacherRef:
    """As `make`, where the test split is out of reach: a network that is made here has no accuracy (NaN). It is the
    one that `make` would make, but teaches no student.

    Raises:
        UserError: published weights do not fit the data set, or cannot be had.
    """
    ref = find_unmeasured(store, recipe, str(data.spec), dataset_digest)
    if ref is None:
        wanted = recipe.made_from(dataset_digest)[0]
        course = _course(store, data, recipe, "backbone", wanted, device)

        def unmeasured() -> tuple[dict[str, Any], dict[str, Any]]:
            _, arrays, _ = _network(data, recipe, device, False, course)
            return arrays, {"digest": arrays_digest(arrays)}

        store.get("backbone", {"made": wanted}, unmeasured)
        course.end()
        ref = find_unmeasured(store, recipe, str(data.spec), dataset_digest)
        assert ref is not None
    return ref


def _course(store: Store, data: Data, recipe: TeacherRecipe, kind: str, wanted: str, device: str) -> Course:
    name = f"{kind} {recipe.name or recipe.id} on {data.spec}"
    return kept_course(store, name, {kind: wanted, "seeded": recipe.id}, device)


def _make(
    data: Data, recipe: TeacherRecipe, wanted: str, device: str, download: bool, course: Course, processes: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    model, arrays, published = _network(data, recipe, device, download, course, processes)
    accuracy = _accuracy(data, recipe, model)
    if accuracy < published / 2:
        raise UserError(
            f"teacher '{recipe.id}': {recipe.weights} has {published:.1%} on ImageNet-1K, and {accuracy:.1%} on "
            f"the test split of '{data.spec}'. Are its classes in torchvision's order (ascending WordNet ids)?"
        )
    return arrays, {"made_from": wanted, "digest": arrays_digest(arrays), "accuracy": accuracy}


def _network(
    data: Data, recipe: TeacherRecipe, device: str, download: bool, course: Course, processes: int = 1
) -> tuple[Any, dict[str, np.ndarray], float]:
    """(network, the weights that are kept of it, its published accuracy: 0 of a network that is trained here)."""
    if recipe.recipe is not None:
        options: dict[str, Any] = {"course": course, "processes": processes}
        weights_of = pretrained.read_weights(recipe, download=download) if recipe.weights else None
        model, published = fit(data, recipe, recipe.recipe, "teacher", device, start=weights_of, **options), 0.0
        # Half precision halves the file; the rounded weights are the teacher, for everyone and from the start.
        weights = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    else:
        model, published = pretrained.build(recipe, data.dataset, download=download)
        weights = model.to(device).state_dict()
    return model, {name: tensor.cpu().numpy() for name, tensor in weights.items()}, published


def _accuracy(data: Data, recipe: TeacherRecipe, model: torch.nn.Module) -> float:
    """On the test split. Raises UserError for weights whose classes stand in another order."""
    mean, std = statistics(recipe.normalisation, data.dataset)
    images, labels = data.test_images()
    accuracy = evaluate(model, images, labels, mean=mean, std=std).accuracy
    classes = data.dataset.num_classes
    if recipe.recipe is None and len(labels) >= PER_CLASS * classes:
        device = str(next(model.parameters()).device)
        said = torch.cat(
            [
                loaded.predict(model, images[start : start + 1000], mean=mean, std=std, device=device).argmax(dim=1)
                for start in range(0, len(labels), 1000)
            ]
        )
        counts = torch.bincount(said * classes + labels, minlength=classes * classes).reshape(classes, classes).numpy()
        best = counts[linear_sum_assignment(counts, maximize=True)].sum() / len(labels)
        if best > max(2 * accuracy, 0.5):
            raise UserError(
                f"teacher '{recipe.name}': the classes of {recipe.weights} stand in another order than those of "
                f"'{data.spec}': as they stand {accuracy:.1%} of the test split are right, in the best order "
                f"{best:.1%}. Take weights that were trained on the classes in the order of the data set."
            )
    return accuracy


def fit(
    data: Data,
    teacher: TeacherRecipe,
    recipe: Recipe,
    purpose: str,
    device: str,
    *,
    start: tuple[State, str] | None = None,
    processes: int = 1,
    **options: Any,
) -> Any:
    """A network of the teacher's kind, trained on the whole training split by `recipe`; in eval mode.

    `purpose`, the teacher's name and the data set's seed it; `options` go to bench.training.loop.train. Several
    `processes` train it together (bench/training/together.py). `start` are weights that it starts from, and how a
    message about them begins (bench.teachers.pretrained.read_weights): but for the classifier of other classes and the
    first convolution of another size of images, which are drawn.

    Raises:
        UserError: `start` does not fit the network.
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
    if start is not None:
        state, where = start
        model.load_state_dict(fitted(state, model, dataset, where, teacher.keys, redrawn=True))
    mean, std = statistics(recipe.normalisation, dataset)
    training = train if processes == 1 else partial(train_together, train, processes=processes)
    training(
        model,
        training_images(data.train),
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
