"""What the harness lends to a plugin's process: the training split, the teacher, and artifacts that it makes itself.

The process gets no workspace, no code of the data set, and no store that makes anything. What a plugin asks the context
for is made by the harness, where no plugin runs, and then read from the store: a plugin that changes torch, say,
changes nobody's features.
"""

from __future__ import annotations

import os
import site
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench.api import ImageSource
from bench.artifacts.opened import Data, prepare
from bench.artifacts.refs import DatasetRef, Workspace
from bench.artifacts.store import Blocks, Store
from bench.confinement.plugin_limits import KILLED, PluginDied
from bench.confinement.process import PluginProcess, plugin_process
from bench.confinement.watch import Watched
from bench.places import data_folders
from bench.plugins.registry import ROOT, Registry
from bench.plugins.spec import Spec
from bench.seeds import Coordinate
from bench.sources import ArraySource, FileSource
from bench.stages.context import HarnessContext
from bench.stages.kept_steps import KeptSteps
from bench.teachers.network_choice import Further
from bench.teachers.teacher_files import TeacherRef
from bench.training import gpus

T = TypeVar("T")
COPIED = 64 * 2**20  # bytes of images that are copied at a time
RETRIES = 2  # for a process that is killed from outside
DATASETS = "protocols.datasets"  # the package of this project's data sets


@dataclass(frozen=True)
class Loan:
    """All that a plugin's process is given."""

    kind: str
    spec: str  # of the plugin
    registry: Registry
    store: str
    arithmetic: str
    dataset: str  # its spec
    facts: Mapping[str, Any]  # the plain fields of bench.api.Dataset
    source: ImageSource | None  # the training split; None where the plugin is lent no context, as to decode
    dataset_digest: str
    teacher: TeacherRef | None
    normalisation: str | None
    coordinates: tuple[Coordinate, ...]
    scratch: str
    device: str
    gpu_share: float
    networks: str | None
    exchange: str  # a folder for what goes to the harness
    checkpoints: str | None  # where those of the plugin's steps lie; None: they are not kept
    watched: Watched = field(repr=False)


def surviving(call: Callable[[], T]) -> T:
    """The value of a call in a plugin's process, made again where somebody else kills that (as a machine does that is
    short of memory). Raises PluginDied where that happens again and again, and whatever else the call raises."""
    for _ in range(RETRIES):
        try:
            return call()
        except PluginDied as error:
            if error.kind != KILLED:
                raise
    return call()


@dataclass(frozen=True)
class Lending:
    """What one plugin is lent, and by whom.

    Args:
        ws: the harness's workspace.
        spec: the plugin.
        dataset: whose training split it sees.
        teacher, normalisation, coordinates, networks: of the context, see bench.stages.context.HarnessContext.
        context: False where the plugin gets neither a context nor a training split, as to decode.
        steps: keeps and tells those of the plugin; None: nobody does.
    """

    ws: Workspace
    spec: Spec
    dataset: DatasetRef
    teacher: TeacherRef | None
    normalisation: str | None
    coordinates: tuple[Coordinate, ...]
    networks: str | None = None
    context: bool = True
    steps: KeptSteps | None = None

    @contextmanager
    def process(self, asked: Mapping[str, Any] | None = None) -> Iterator[PluginProcess]:
        """A process of the plugin with its context; calls go to functions of bench/stages/lent.py. `asked`: what the
        plugin's side may ask for, beside the artifacts of a context."""
        store, spec = self.ws.store, self.spec
        with store.scratch() as scratch, store.scratch() as exchange:
            answers = {**(self._artifacts(scratch) if self.context else {}), **(asked or {})}
            if self.steps is not None:
                answers |= self.steps.answers(exchange)
            with plugin_process(f"{spec.plugin.kind} '{spec}'", self.ws.limits, exchange, answers) as process:
                process.call("bench.stages.lent:open_loan", self._loan(scratch, exchange))
                yield process

    def _loan(self, scratch: Path, exchange: Path) -> Loan:
        data, store = self._data, self.ws.store
        names = ("num_classes", "channels", "size", "source_size", "mirror", "mean", "std", "class_names")
        return Loan(
            kind=self.spec.plugin.kind,
            spec=str(self.spec),
            registry=self.ws.registry,
            store=str(store.root.resolve()),
            arithmetic=store.arithmetic,
            dataset=self.dataset.spec,
            facts={name: getattr(data.dataset, name) for name in names},
            source=_lendable(store, self.dataset, data) if self.context else None,
            dataset_digest=self.dataset.digest,
            teacher=None if self.teacher is None else _placed(self.teacher, store),
            normalisation=self.normalisation,
            coordinates=self.coordinates,
            scratch=str(scratch.resolve()),
            device=self.ws.device,
            gpu_share=self.ws.gpu_share,
            networks=self.networks,
            exchange=str(exchange.resolve()),
            checkpoints=None if self.steps is None or self.steps.checkpoints is None else str(self.steps.checkpoints),
            watched=_watched(self.ws, self.spec, data, (scratch, exchange)),
        )

    @property
    def _data(self) -> Data:
        return self.ws.described(self.dataset)

    def _artifacts(self, scratch: Path) -> dict[str, Callable[..., Any]]:
        """What a context's artifacts are made by, where no plugin runs."""
        ws, data = self.ws, self._data
        ctx = HarnessContext(
            store=ws.store,
            registry=ws.registry,
            data=data,
            dataset_digest=self.dataset.digest,
            teacher=self.teacher,
            normalisation=self.normalisation,
            coordinates=("lent",),  # no artifact of a context is random
            scratch=scratch,
            device=ws.device,
        )

        def networks(choice: int | str) -> list[Further]:
            return [replace(each, ref=_placed(each.ref, ws.store)) for each in ctx._further(choice)]

        return {
            "features": _silent(ctx.features),
            "logits": _silent(ctx.logits),
            "dynamics": _silent(ctx.dynamics),
            "dynamics_scores": _silent(ctx.dynamics_scores),
            "soft_labels": _silent(
                lambda k, crop_scale, cutmix: ctx.soft_labels(None, k, crop_scale=crop_scale, cutmix=cutmix)
            ),
            "networks": networks,
            "prepare": lambda: prepare(data.train._source),
        }


def _silent(make: Callable[..., Any]) -> Callable[..., None]:
    """The same without its value, which the plugin's process reads from the store. It may need the GPU's memory."""

    def answer(*args: Any) -> None:
        make(*args)
        gpus.hand_back()

    return answer


def _placed(ref: TeacherRef, store: Store) -> TeacherRef:
    """The teacher by the path of its file on this machine."""
    return replace(ref, address=str(ref.path(store).resolve()))


def _lendable(store: Store, dataset: DatasetRef, data: Data) -> ImageSource:
    """The training split without any code of its data set: as it is where it is of the harness's own classes, else
    copied into the store once."""
    source = data.train._source
    if type(source) is FileSource:
        files = copy(source)
        files._pixels = None  # mapped from the same file there
        return files
    if type(source) is ArraySource:
        return source

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        first = source.read(np.arange(min(1, len(source))))
        step = max(1, COPIED // max(1, first.nbytes))
        parts = (source.read(np.arange(start, min(start + step, len(source)))) for start in range(0, len(source), step))
        images = Blocks((len(source), *first.shape[1:]), first.dtype, parts)
        return {"images": images, "labels": np.array(source.labels, np.int64)}, {}

    # By the digest of its content: a data set of another release is another one.
    arrays = store.get("train-split", {"train": dataset.train_digest}, make).arrays
    return ArraySource(arrays["images"], arrays["labels"])


def _watched(ws: Workspace, spec: Spec, data: Data, free: tuple[Path, ...]) -> Watched:
    """From where a plugin could read the test split, and where it has nothing to write."""
    plugin = data.spec.plugin
    folder = data.dataset.folder
    named: dict[str, str] = {}
    for path in sorted(data.read_from):
        named[os.path.realpath(path)] = _shown(path)
    if folder is not None:
        named[os.path.realpath(folder)] = f"data/{plugin.name}"
    for place in data_folders():
        named.setdefault(os.path.realpath(place), "data")
    named[os.path.realpath(data.root)] = "store/datasets"
    named[os.path.realpath(plugin.path)] = _shown(plugin.path)
    named[str(ROOT / "protocols" / "datasets")] = "protocols/datasets"
    guarded = [(os.path.realpath(ws.store.root), "store")]
    guarded += [(os.path.realpath(each), f"results/{each.name}") for each in ws.results]
    module = plugin.module_name or f"condensebench_plugin.dataset.{plugin.name}"
    return Watched(
        plugin=str(spec.plugin.path),
        data=tuple(named.items()),
        modules=(DATASETS, module),
        guarded=tuple(guarded),
        free=tuple(os.path.realpath(each) for each in free),
    )


def _shown(path: str | Path) -> str:
    """A path as a published record may show it: below the folder of packages, else its last parts."""
    for base in (*site.getsitepackages(), str(ROOT)):
        if os.path.realpath(path).startswith(os.path.realpath(base) + os.sep):
            return os.path.relpath(os.path.realpath(path), os.path.realpath(base))
    return os.sep.join(Path(path).parts[-2:])
