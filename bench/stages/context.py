"""The context that a plugin is given (bench.api.Context): seeded generators and the shared artifacts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Generator, Tensor

from bench.api import DynamicsScores, Stepped
from bench.artifacts.opened import Data
from bench.artifacts.split_images import SplitImages
from bench.artifacts.store import Blocks, Store, blocks_of_rows
from bench.engine import ENGINE_VERSION
from bench.errors import PluginError
from bench.labels.making import teacher_logits
from bench.plugins.registry import Registry
from bench.protocol.recipe import Augment
from bench.seeds import Coordinate, numpy_generator, seed, torch_generator
from bench.stages.steps import steps
from bench.teachers import further, loaded, network_choice, teacher_files
from bench.teachers.dynamics import dynamics, dynamics_scores
from bench.teachers.ensemble import Ensemble, Member, teacher_batches
from bench.training.course import Course
from bench.training.normalisation import statistics
from bench.views.parameters import View, Views
from bench.views.render import normalise, pieces

# Views for scores that look at a teacher's labels (ctx.soft_labels): SCORE's crop range, no mixing, since the label of
# an image must not depend on a partner. A method can say otherwise, so that none depends on a protocol.
SCORING_VIEWS = Augment(crop_scale=(0.4, 1.0), flip=0.5)


class HarnessContext:
    """One plugin call's context. Artifacts of the whole training split are made once and read back by everyone."""

    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        data: Data,
        dataset_digest: str,
        teacher: teacher_files.TeacherRef | None,
        coordinates: tuple[Coordinate, ...],
        scratch: Path,
        device: str,
        networks: str | None = None,
        normalisation: str | None = None,
        course: Course | None = None,
    ) -> None:
        """`teacher`: None where the plugin asks for none. `networks`: which `teachers` may lend, as the method
        declares it; None is no limit. `normalisation`: of images (bench.training.normalisation); None: the teacher's.
        `course`: of the method's steps; None: they are neither kept nor told.
        """
        self.device = torch.device(device)
        self.scratch = scratch
        self.asked_for_randomness = False
        self._store, self._registry, self._data = store, registry, data.sealed()  # no way to the test split
        self._dataset_digest, self._lent = dataset_digest, teacher
        self._coordinates = coordinates
        if normalisation is None:
            normalisation = self._teacher_ref.normalisation
        self._mean, self._std = statistics(normalisation, data.dataset)
        self._networks, self._backbones = networks, dict[str, torch.nn.Module]()
        self._course, self._loops, self._looping = course or Course(), 0, False

    @property
    def _teacher_ref(self) -> teacher_files.TeacherRef:
        if self._lent is None:
            raise PluginError(
                "ctx: the method asks for the teacher, and nothing in its code told the harness so: no teacher was "
                "made. Write TEACHER = True into its module."
            )
        return self._lent

    @cached_property
    def teacher(self) -> torch.nn.Module:
        """The teacher, in eval mode, parameters frozen."""
        return loaded.load(self._teacher_ref, self._store, self._registry, self._data, device=str(self.device))

    def teachers(self, choice: int | str) -> list[torch.nn.Module]:
        """The teacher and further networks of the data set (bench.teachers.further)."""
        if self._networks is not None and not network_choice.covers(self._networks, choice):
            which = f"{choice} networks" if isinstance(choice, int) else choice
            raise PluginError(
                f"ctx.teachers({choice!r}): the method does not declare that it uses {which}, but {self._networks}. "
                f"Condensed sets are kept by the networks that made them, so its module has to say so beforehand: "
                f'BACKBONES = {choice!r}, or BACKBONES = "NAME" with the name of the parameter that tells which.'
            )
        opened, device = (self._store, self._registry, self._data), str(self.device)
        others = list[torch.nn.Module]()
        for each in self._further(choice):
            if each.ref.digest not in self._backbones:
                network = further.load(each, *opened, self._teacher_ref, device=device)
                self._backbones[each.ref.digest] = network
            others.append(self._backbones[each.ref.digest])
        return further.in_order(choice, self.teacher, others)

    def _further(self, choice: int | str) -> list[network_choice.Further]:
        """The networks besides the teacher, made where they are not there yet."""
        opened, device = (self._store, self._registry, self._data), str(self.device)
        return further.further(*opened, self._dataset_digest, self._teacher_ref, choice, device=device)

    def numpy(self, *name: str | int) -> np.random.Generator:
        """A numpy generator seeded by this call's coordinates and `name`."""
        self.asked_for_randomness = True
        return numpy_generator(*self._coordinates, *name)

    def torch(self, *name: str | int) -> Generator:
        """A torch generator on the CPU seeded by this call's coordinates and `name`."""
        self.asked_for_randomness = True
        return torch_generator(*self._coordinates, *name)

    def normalise(self, images: Tensor) -> Tensor:
        """float32 [n, channels, s, s], as the teacher sees them."""
        return normalise(images, self._mean, self._std)

    def predict(self, images: Tensor) -> Tensor:
        """Teacher logits float32 [n, C] of uint8 images, without gradients."""
        return self._predict(images)

    def features(self) -> np.ndarray:
        """float32 [N, d], of the whole training split."""
        return self._of_train("features")

    def logits(self) -> np.ndarray:
        """float32 [N, C], of the whole training split."""
        return self._of_train("logits")

    def dynamics(self, epochs: int) -> np.ndarray:
        """float16 [epochs, N, C] class probabilities."""
        artifact = dynamics(
            self._store, self._registry, self._data, self._dataset_digest, epochs, device=str(self.device)
        )
        return artifact.arrays["probabilities"]

    def dynamics_scores(self, epochs: int) -> DynamicsScores:
        """Float arrays [epochs, N], see bench.api.DynamicsScores."""
        artifact = dynamics_scores(
            self._store, self._registry, self._data, self._dataset_digest, epochs, device=str(self.device)
        )
        return DynamicsScores(**artifact.arrays)

    def soft_labels(
        self, images: Tensor | None, k: int, *, crop_scale: float = SCORING_VIEWS.crop_scale[0], cutmix: bool = False
    ) -> np.ndarray:
        """float16 [n, k, C]: teacher logits of k cropped (and mirrored) views; None: of the whole training split."""
        changes = {"crop_scale": (float(crop_scale), 1.0), "mix": "cutmix" if cutmix else "none"}
        augment = SCORING_VIEWS.model_copy(update=changes)
        if images is not None:
            return self._soft_labels(images, k, augment)
        inputs = {**self._artifact_inputs(), "k": k, "views": augment.model_dump(mode="json")}

        def make() -> tuple[dict[str, Blocks], dict[str, Any]]:
            return {"logits": blocks_of_rows(len(self._data.train), self._scoring_labels(k, augment))}, {}

        return self._store.get("scoring-labels", inputs, make).arrays["logits"]

    def steps(self, count: int, state: Mapping[str, Stepped]) -> Iterator[int]:
        """The steps that are still to do; `state` is restored before the first and kept between them."""
        loop = self._course.loop(self._loops)
        self._loops += 1
        return self._outermost(steps(loop, count, state, self._facts, self._go_on))

    def _outermost(self, numbers: Iterator[int]) -> Iterator[int]:
        """The numbers of a loop. Raises PluginError where another one goes on: which loop within it is which cannot be
        told after a kill."""
        if self._looping:
            raise PluginError("ctx.steps: a loop stands within a loop. Put both into one, with one count of steps.")
        self._looping = True
        try:
            yield from numbers
        finally:
            self._looping = False

    def _facts(self) -> dict[str, Any]:
        """JSON values that belong to a checkpoint of the method's steps, beside its state."""
        return {"random": self.asked_for_randomness}

    def _go_on(self, facts: dict[str, Any]) -> None:
        """Take over the facts of the process that was stopped."""
        self.asked_for_randomness |= bool(facts["random"])

    def _soft_labels(self, images: Tensor, k: int, augment: Augment) -> np.ndarray:
        everything, views = np.arange(len(images)), self._views(len(images), k, augment)
        return teacher_logits(self._alone, images.to(self.device), views, everything).numpy()

    def _scoring_labels(self, k: int, augment: Augment) -> Iterator[np.ndarray]:
        """float16 [n, k, C] of the training split, in the batches that `_soft_labels` would show the teacher. An image
        is read once for all its views, where views mix no images."""
        images, every = SplitImages(self._data.train, self.device), np.arange(len(self._data.train))
        views, batches = list(self._views(len(images), k, augment)), teacher_batches(every)
        mixed, whole = [view.partner for view in views if view.partner is not None], cast(Tensor, images)

        def wanted(rows: np.ndarray) -> Iterator[np.ndarray]:
            for partner in mixed:
                for some in self._alone.passes(whole, rows):
                    for part in pieces(whole, some):
                        yield from (part, partner[part])

        images.expect(each for rows in batches for each in (wanted(rows) if mixed else [rows]))
        for rows in batches:
            if mixed:
                said = [self._alone.say(whole, view, rows)[0] for view in views]
            else:
                shown = images[torch.from_numpy(rows)]
                said = [self._alone.say(shown, part_of(view, rows), np.arange(len(rows)))[0] for view in views]
            yield torch.stack([each.to(torch.float16).cpu() for each in said], dim=1).numpy()

    @property
    def _alone(self) -> Ensemble:
        return Ensemble([Member(self.teacher, self._mean, self._std)])

    def _views(self, images: int, k: int, augment: Augment) -> Views:
        dataset = self._data.dataset
        return Views(
            augment,
            images,
            dataset.size,
            mirror=dataset.mirror,
            batch=images,
            seed=seed("scoring-views", self._dataset_digest),
            count=k,
        )

    def _predict(self, images: Tensor, *, features: bool = False) -> Tensor:
        return loaded.predict(
            self.teacher, images, mean=self._mean, std=self._std, device=str(self.device), features=features
        )

    def _of_train(self, what: str) -> np.ndarray:
        def said() -> Iterator[np.ndarray]:
            images, every = SplitImages(self._data.train), np.arange(len(self._data.train))
            parts = [every[start : start + 1000] for start in range(0, len(every), 1000)]
            images.expect(parts)
            for part in parts:
                yield self._predict(images[torch.from_numpy(part)], features=what == "features").numpy()

        def make() -> tuple[dict[str, Blocks], dict[str, Any]]:
            return {what: blocks_of_rows(len(self._data.train), said())}, {}

        return self._store.get(what, self._artifact_inputs(), make).arrays[what]

    def _artifact_inputs(self) -> dict[str, object]:
        return {"engine": ENGINE_VERSION, "dataset": self._dataset_digest, "teacher": self._teacher_ref.identity}


def part_of(view: View, rows: np.ndarray) -> View:
    """A view of some images alone, in the order of `rows` (int64 [n]); of views that mix no images."""
    assert view.partner is None
    values = {field.name: getattr(view, field.name) for field in fields(view)}
    return replace(view, **{name: value[rows] for name, value in values.items() if isinstance(value, np.ndarray)})
