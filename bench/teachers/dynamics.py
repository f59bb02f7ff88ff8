"""Training dynamics: what a network thinks of every training image while it learns them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from bench.artifacts.opened import Data
from bench.artifacts.store import Artifact, Store
from bench.plugins.registry import Registry
from bench.teachers.loaded import predict
from bench.teachers.teacher_files import load_recipe
from bench.teachers.weights import fit
from bench.training.normalisation import statistics

RECIPE = "small-dynamics-v1"


def dynamics(
    store: Store, registry: Registry, data: Data, dataset_digest: str, epochs: int, *, device: str = "cpu"
) -> Artifact:
    """float16 [epochs, N, C] under the name `probabilities`: of every training image after each epoch, unaugmented."""
    base = load_recipe(registry, RECIPE, str(data.spec), data.dataset.num_classes)
    assert base.recipe is not None  # it is trained
    recipe = base.recipe.model_copy(update={"epochs": epochs})

    def make() -> tuple[Mapping[str, np.ndarray], Mapping[str, Any]]:
        images = data.train.images(np.arange(len(data.train)))
        mean, std = statistics(recipe.normalisation, data.dataset)
        logged: list[np.ndarray] = []

        def log(_epoch: int, model: torch.nn.Module) -> None:
            logits = predict(model, images, mean=mean, std=std, device=device)
            logged.append(torch.softmax(logits, dim=1).to(torch.float16).numpy())

        fit(data, base, recipe, "dynamics", device, on_epoch_end=log)
        return {"probabilities": np.stack(logged)}, {}

    inputs = {**base.inputs(dataset_digest), "recipe": recipe.model_dump(mode="json", exclude_defaults=True)}
    return store.get("dynamics", inputs, make)
