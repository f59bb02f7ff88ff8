"""Where plugins are checked: the real context over the tiny data sets, with teachers that learnt them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from bench.api import DynamicsScores, Stepped
from bench.artifacts.opened import Data
from bench.artifacts.store import Store, arrays_digest
from bench.checks.plugins import worlds
from bench.plugins.registry import Registry, discover, read
from bench.plugins.spec import Spec, parse
from bench.protocol.recipe import Optimizer, Recipe
from bench.seeds import seed
from bench.stages.context import HarnessContext
from bench.teachers.teacher_files import TeacherRef
from bench.training.loop import train
from bench.training.networks import build_network

TEACHER = "convnet:depth=2,width=8"
RECIPE = Recipe(labels="hard", epochs=12, batch=12, optimizer=Optimizer(lr=1e-2))


class Workshop:
    """A store in a folder; what is made there is made once. Without a folder it is a temporary one, which goes away
    with the process."""

    def __init__(self, registry: Registry, folder: Path | None = None) -> None:
        self.registry = registry
        if folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="condensebench-checks-")
            folder = Path(self._folder.name) / "store"
        self.store = Store(folder)
        self._plugin = read(Path(worlds.__file__), kind="dataset", module_name=worlds.__name__)

    def data(self, world: str) -> Data:
        """A fresh copy: what one plugin does to it is not seen by the next."""
        data = Data(Spec(self._plugin, {} if world == "plain" else {"world": world}), self.store.root / "datasets")
        assert data.dataset.num_classes
        return data

    @contextmanager
    def context(self, data: Data, name: str, replicate: int) -> Iterator[HarnessContext]:
        """The context of one call of the plugin `name`, as the harness makes it."""
        with self.store.scratch() as scratch:
            yield HarnessContext(
                store=self.store,
                registry=self.registry,
                data=data,
                dataset_digest=data.dataset.train().digest(),
                teacher=self.teacher(data),
                coordinates=("check", name, replicate),
                scratch=scratch,
                device="cpu",
            )

    def teacher(self, data: Data) -> TeacherRef:
        """A teacher that fits the data set: trained on `plain`, or on the world itself where the shapes differ."""
        world = str(data.spec.parameters["world"])
        return self._teacher(world if world in ("colour", "one-class") else "plain")

    def _teacher(self, world: str) -> TeacherRef:
        def fit() -> tuple[dict[str, np.ndarray], dict[str, Any]]:
            data = self.data(world)
            d = data.dataset
            net = build_network(
                parse(self.registry, "network", TEACHER),
                channels=d.channels,
                size=d.size,
                classes=d.num_classes,
                seed=seed("checks", "teacher", world),
            )
            images, labels = data.train.images(np.arange(len(data.train))), torch.from_numpy(data.train.labels.copy())
            coordinates = ("checks", "teacher", world)
            train(net, images, labels, RECIPE, coordinates=coordinates, mean=d.mean, std=d.std, mirror=d.mirror)
            return {name: value.numpy() for name, value in net.state_dict().items()}, {}

        artifact = self.store.get("check-teacher", {"world": world}, fit)
        digest = arrays_digest(artifact.arrays)
        return TeacherRef(self.store.relative(artifact), False, TEACHER, digest, accuracy=1.0)


@cache
def workshop() -> Workshop:
    """The process's own."""
    return Workshop(discover())


class Renamed:
    """A context whose classes carry other numbers: class c of `base` is `names[c]` here, to the teacher as well.

    With `streams`, a generator whose name holds a class number is the one of the same class in `base`, so a method that
    treats classes alike makes the same images of every class, to the bit. `asked` keeps the names in base's numbers.
    """

    def __init__(self, base: HarnessContext, names: tuple[int, ...], *, streams: bool = True) -> None:
        self._base, self._back, self._streams = base, {new: old for old, new in enumerate(names)}, streams
        self.device, self.scratch = base.device, base.scratch
        self.order = [self._back[new] for new in range(len(names))]
        self.teacher: nn.Module = _RenamedNet(base.teacher, self.order)
        self.generator_names: set[tuple[str | int, ...]] = set()

    def teachers(self, choice: int | str) -> list[nn.Module]:
        """Those of the base, under these class numbers."""
        lent = self._base.teachers(choice)
        return [self.teacher if net is self._base.teacher else _RenamedNet(net, self.order) for net in lent]

    def numpy(self, *name: str | int) -> np.random.Generator:
        """As in the base, of the class that is meant."""
        return self._base.numpy(*self._old(name))

    def torch(self, *name: str | int) -> Generator:
        """As in the base, of the class that is meant."""
        return self._base.torch(*self._old(name))

    def normalise(self, images: Tensor) -> Tensor:
        """As in the base."""
        return self._base.normalise(images)

    def predict(self, images: Tensor) -> Tensor:
        """float32 [n, C]."""
        return self._base.predict(images)[:, self.order]

    def features(self) -> np.ndarray:
        """float32 [N, d], as in the base."""
        return self._base.features()

    def logits(self) -> np.ndarray:
        """float32 [N, C]."""
        return self._base.logits()[:, self.order]

    def dynamics(self, epochs: int) -> np.ndarray:
        """float16 [epochs, N, C]."""
        return self._base.dynamics(epochs)[:, :, self.order]

    def dynamics_scores(self, epochs: int) -> DynamicsScores:
        """As in the base: the numbers of the classes do not matter."""
        return self._base.dynamics_scores(epochs)

    def soft_labels(
        self, images: Tensor | None, k: int, *, crop_scale: float = 0.4, cutmix: bool = False
    ) -> np.ndarray:
        """float16 [n, k, C]."""
        return self._base.soft_labels(images, k, crop_scale=crop_scale, cutmix=cutmix)[:, :, self.order]

    def steps(self, count: int, state: Mapping[str, Stepped]) -> Iterator[int]:
        """As in the base."""
        return self._base.steps(count, state)

    def streams_of_every_class(self) -> bool:
        """Whether the method asked for a generator of each class, by the class's number."""
        numbers = {part for name in self.generator_names for part in name if isinstance(part, int)}
        return set(self._back.values()) <= numbers

    def _old(self, name: tuple[str | int, ...]) -> tuple[str | int, ...]:
        old = tuple(self._back.get(part, part) if self._streams and isinstance(part, int) else part for part in name)
        self.generator_names.add(old)
        return old


class _RenamedNet(nn.Module):
    def __init__(self, net: nn.Module, order: list[int]) -> None:
        super().__init__()
        self.net, self._order = net, order
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images)[:, self._order]
        return logits

    def features(self, images: Tensor) -> Tensor:
        features: Tensor = self.net.features(images)  # type: ignore[operator]
        return features
