"""Training dynamics: what a network thinks of every training image while it learns them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.artifacts.opened import Data
from bench.artifacts.store import Artifact, Store
from bench.plugins.registry import Registry
from bench.teachers.dynamics_recipes import dynamics_recipe, shortened
from bench.teachers.loaded import predict
from bench.teachers.weights import fit
from bench.training.course import kept_course
from bench.training.normalisation import statistics


class Log:
    """The probabilities after each epoch; those of a run that goes on are read back from beside its checkpoint."""

    def __init__(self) -> None:
        self.epochs: list[np.ndarray] = []
        self._written = 0

    def keep(self, folder: Path) -> None:
        """Write what is new, a file an epoch."""
        folder.mkdir(parents=True, exist_ok=True)
        for epoch in range(self._written, len(self.epochs)):
            np.save(folder / f"epoch-{epoch}.npy", self.epochs[epoch])
        self._written = len(self.epochs)

    def restore(self, folder: Path, epochs: int) -> None:
        """Read back the first epochs."""
        self.epochs = [np.load(folder / f"epoch-{epoch}.npy", allow_pickle=False) for epoch in range(epochs)]
        self._written = epochs


def dynamics(
    store: Store, registry: Registry, data: Data, dataset_digest: str, epochs: int, *, device: str = "cpu"
) -> Artifact:
    """float16 [epochs, N, C] under the name `probabilities`: of every training image after each epoch, unaugmented. The
    training is that of the data set's recipe (bench/teachers/dynamics_recipes.py)."""
    dataset = data.dataset
    base = dynamics_recipe(registry, str(data.spec), dataset.size, dataset.num_classes)
    assert base.recipe is not None  # it is trained
    recipe, stop_after = shortened(base.recipe, epochs)
    inputs = {**base.inputs(dataset_digest), "recipe": recipe.model_dump(mode="json", exclude_defaults=True)}
    if stop_after is not None:
        inputs["stop_after"] = stop_after
    log = Log()
    course = kept_course(store, f"dynamics {base.name} on {data.spec}", {"dynamics": inputs}, device, log)

    def make() -> tuple[Mapping[str, np.ndarray], Mapping[str, Any]]:
        images = data.train.images(np.arange(len(data.train)))
        mean, std = statistics(recipe.normalisation, dataset)

        def after(_epoch: int, model: torch.nn.Module) -> None:
            logits = predict(model, images, mean=mean, std=std, device=device)
            log.epochs.append(torch.softmax(logits, dim=1).to(torch.float16).numpy())

        fit(data, base, recipe, "dynamics", device, on_epoch_end=after, course=course, stop_after=stop_after)
        return {"probabilities": np.stack(log.epochs)}, {}

    artifact = store.get("dynamics", inputs, make)
    course.end()
    return artifact
