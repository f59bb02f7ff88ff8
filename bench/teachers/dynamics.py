"""Training dynamics: what a network thinks of every training image while it learns them.

Methods use a few numbers of each image and epoch (`dynamics_scores`). Class probabilities (`dynamics`) take `classes`
times as much, and are made where they are asked for. Both are logged in blocks, to a file an epoch, so that neither
stands in memory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.artifacts.artifact_file import LOG, PIECE
from bench.artifacts.opened import Data
from bench.artifacts.size_limits import refuse_if_too_large
from bench.artifacts.split_images import SplitImages, training_images
from bench.artifacts.store import Artifact, Blocks, Store
from bench.photographs.cache_limits import shown
from bench.plugins.registry import Registry
from bench.teachers.dynamics_recipes import dynamics_recipe, shortened
from bench.teachers.loaded import predict
from bench.teachers.teacher_files import TeacherRecipe
from bench.teachers.weights import fit
from bench.training.course import kept_course
from bench.training.normalisation import statistics

SCORES: Mapping[str, type] = {"error": np.float64, "own": np.float16, "other": np.float16}
BLOCK = 1000  # images whose probabilities stand in memory at once; a multiple of the batch of bench.teachers.loaded
LARGE = 10**9  # bytes of class probabilities from which on their size is told

Measure = Callable[[np.ndarray, np.ndarray], Mapping[str, np.ndarray]]  # probabilities float16 [n, C], labels int64 [n]


def scores_of(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """`error` float64 [n]: the length of probabilities less the one-hot label; `own` [n]: the probability of the label;
    `other` [n]: the largest one of another class (0 where there is none), in the type of the probabilities.

    Args:
        probabilities: float16 [n, C].
        labels: int64 [n].
    """
    rows = np.arange(len(labels))
    error = probabilities.astype(np.float64)
    error[rows, labels] -= 1.0
    others = probabilities.astype(np.float32)
    of_label = probabilities[rows, labels]
    others[rows, labels] = -np.inf if others.shape[1] > 1 else 0.0
    lengths = np.sqrt(np.einsum("nc,nc->n", error, error))
    return {"error": lengths, "own": of_label, "other": others.max(axis=1).astype(probabilities.dtype)}


class Log:
    """What is logged after each epoch: a file for each name and epoch in the folder of the checkpoints."""

    def __init__(self) -> None:
        self.folder = Path()
        self._new: list[Path] = []

    def add(self, epoch: int, blocks: Iterator[Mapping[str, np.ndarray]]) -> None:
        """Write an epoch's arrays, block by block."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for number, block in enumerate(blocks):
            for name, values in block.items():
                with self.file(name, epoch).open("ab" if number else "wb") as opened:
                    opened.write(np.ascontiguousarray(values).tobytes())
                if not number:
                    self._new.append(self.file(name, epoch))

    def file(self, name: str, epoch: int) -> Path:
        """Where an epoch of an array lies."""
        return self.folder / f"{name}-{epoch}.raw"

    def pieces(self, name: str, dtype: Any, epochs: int) -> Iterator[np.ndarray]:
        """The values of an array, epoch after epoch, in pieces. What has been read is removed with the checkpoint."""
        for epoch in range(epochs):
            with self.file(name, epoch).open("rb") as opened:
                while content := opened.read(PIECE):
                    yield np.frombuffer(content, dtype)

    def keep(self, folder: Path) -> None:  # noqa: ARG002 (files lie there already)
        """Have what is new on the disk before a checkpoint says that its epoch is over."""
        for path in self._new:
            with path.open("rb") as opened:
                os.fsync(opened.fileno())
        self._new.clear()

    def restore(self, folder: Path, epochs: int) -> None:  # noqa: ARG002 (files lie there already)
        """The files of the first epochs are there; those of later ones are written anew."""
        self._new.clear()


def dynamics(
    store: Store, registry: Registry, data: Data, dataset_digest: str, epochs: int, *, device: str = "cpu"
) -> Artifact:
    """float16 [epochs, N, C] under the name `probabilities`: of every training image after each epoch, unaugmented. The
    training is that of the data set's recipe (bench/teachers/dynamics_recipes.py).

    Raises:
        MachineError: they take more than the store's limit or its disk has left; told before anything is trained.
    """
    shape = (epochs, len(data.train), data.dataset.num_classes)
    size = 2 * math.prod(shape)

    def make(run: _Run) -> dict[str, Blocks]:
        what = f"The class probabilities of {len(data.train):,} images of '{data.spec}' over {epochs} epochs"
        refuse_if_too_large(store.root, size, what)
        if size > LARGE:
            scores = shown(12 * epochs * len(data.train))
            LOG.warning("%s take %s; ctx.dynamics_scores would take %s.", what, shown(size), scores)
        run.train(lambda probabilities, _: {"probabilities": probabilities})
        pieces = run.log.pieces("probabilities", np.float16, epochs)
        return {"probabilities": Blocks(shape, np.dtype(np.float16), pieces)}

    return _made("dynamics", store, registry, data, dataset_digest, epochs, device, make)


def dynamics_scores(
    store: Store, registry: Registry, data: Data, dataset_digest: str, epochs: int, *, device: str = "cpu"
) -> Artifact:
    """`error` (float64), `own` and `other` (float16), each [epochs, N]: `scores_of` of every training image after each
    epoch, of the same training as that of `dynamics`; read from its probabilities where they are there."""

    def make(run: _Run) -> dict[str, Blocks]:
        shape = (epochs, len(data.train))
        whole = store.find("dynamics", run.inputs)
        if whole is None:
            run.train(scores_of)
        else:
            for epoch in range(epochs):
                probabilities = whole.arrays["probabilities"][epoch]
                parts = (slice(start, start + BLOCK) for start in range(0, shape[1], BLOCK))
                run.log.add(epoch, (scores_of(probabilities[part], data.train.labels[part]) for part in parts))
        return {
            name: Blocks(shape, np.dtype(kind), run.log.pieces(name, kind, epochs)) for name, kind in SCORES.items()
        }

    return _made("dynamics-scores", store, registry, data, dataset_digest, epochs, device, make)


class _Run:
    """One training, and what is logged of it."""

    def __init__(
        self, store: Store, data: Data, base: TeacherRecipe, epochs: int, digest: str, kind: str, device: str
    ) -> None:
        assert base.recipe is not None  # it is trained
        self._data, self._base, self._device = data, base, device
        self._recipe, self._stop_after = shortened(base.recipe, epochs)
        self.inputs = {**base.inputs(digest), "recipe": self._recipe.model_dump(mode="json", exclude_defaults=True)}
        if self._stop_after is not None:
            self.inputs["stop_after"] = self._stop_after
        self.log = Log()
        name = f"dynamics {base.name} on {data.spec}"
        self.course = kept_course(store, name, {kind: self.inputs}, device, self.log)
        assert self.course.folder is not None
        self.log.folder = self.course.folder

    def train(self, measure: Measure) -> None:
        """Train the network; `measure` says what is logged of its probabilities."""
        images, labels = training_images(self._data.train), self._data.train.labels
        every = np.arange(len(labels))
        parts = [every[start : start + BLOCK] for start in range(0, len(every), BLOCK)]
        mean, std = statistics(self._recipe.normalisation, self._data.dataset)

        def said(model: torch.nn.Module) -> Iterator[Mapping[str, np.ndarray]]:
            if isinstance(images, SplitImages):
                images.expect(parts)
            for part in parts:
                logits = predict(model, images[torch.from_numpy(part)], mean=mean, std=std, device=self._device)
                yield measure(torch.softmax(logits, dim=1).to(torch.float16).numpy(), labels[part])

        fit(
            self._data,
            self._base,
            self._recipe,
            "dynamics",
            self._device,
            on_epoch_end=lambda epoch, model: self.log.add(epoch, said(model)),
            course=self.course,
            stop_after=self._stop_after,
        )


def _made(
    kind: str,
    store: Store,
    registry: Registry,
    data: Data,
    dataset_digest: str,
    epochs: int,
    device: str,
    make: Callable[[_Run], dict[str, Blocks]],
) -> Artifact:
    base = dynamics_recipe(registry, str(data.spec), data.dataset.size, data.dataset.num_classes)
    run = _Run(store, data, base, epochs, dataset_digest, kind, device)
    artifact = store.get(kind, run.inputs, lambda: (make(run), {}))
    run.course.end()
    return artifact
