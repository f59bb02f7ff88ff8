"""What the harness lends to a plugin's process: the training split, the teacher, and artifacts that it makes itself.

The process gets no workspace, no code of the data set, and no store that makes anything. What a plugin asks the context
for is made by the harness, where no plugin runs, and then read from the store: a plugin that changes torch, say,
changes nobody's features.
"""

from __future__ import annotations

import os
import signal
import site
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench.api import ImageSource
from bench.artifacts.opened import Data
from bench.artifacts.refs import DatasetRef, Workspace
from bench.artifacts.store import Store
from bench.confinement.limits import PluginDied
from bench.confinement.process import PluginProcess, plugin_process
from bench.confinement.watch import Watched
from bench.places import data_folders
from bench.plugins.registry import ROOT, Registry
from bench.plugins.spec import Spec
from bench.seeds import Coordinate
from bench.sources import ArraySource, FileSource
from bench.stages.context import HarnessContext
from bench.teachers import further
from bench.teachers.teacher_files import TeacherRef

T = TypeVar("T")
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
    coordinates: tuple[Coordinate, ...]
    scratch: str
    device: str
    networks: int | None
    watched: Watched = field(repr=False)


def surviving(call: Callable[[], T]) -> T:
    """The value of a call in a plugin's process, made again where somebody else kills that (as a machine does that is
    short of memory). Raises PluginDied where that happens again and again, and whatever else the call raises."""
    for _ in range(RETRIES):
        try:
            return call()
        except PluginDied as error:
            if error.signal != signal.SIGKILL:
                raise
    return call()


@contextmanager
def lent_process(
    ws: Workspace,
    spec: Spec,
    dataset: DatasetRef,
    teacher: TeacherRef | None,
    coordinates: tuple[Coordinate, ...],
    *,
    networks: int | None = None,
    asked: Mapping[str, Any] | None = None,
) -> Iterator[PluginProcess]:
    """A process of a plugin with its context; calls go to functions of bench/stages/lent.py.

    Args:
        ws: the harness's workspace.
        spec: the plugin.
        dataset, teacher, coordinates, networks: of the context, see bench.stages.context.HarnessContext. Without a
            teacher there is no context, nor a training split.
        asked: what the plugin's side may ask for, beside the artifacts of a context.
    """
    data = ws.described(dataset)
    with ws.store.scratch() as scratch, ws.store.scratch() as exchange:
        loan = Loan(
            kind=spec.plugin.kind,
            spec=str(spec),
            registry=ws.registry,
            store=str(ws.store.root.resolve()),
            arithmetic=ws.store.arithmetic,
            dataset=dataset.spec,
            facts={
                **{name: getattr(data.dataset, name) for name in ("num_classes", "channels", "size", "source_size")},
                **{name: getattr(data.dataset, name) for name in ("mirror", "mean", "std", "class_names")},
            },
            source=None if teacher is None else _lendable(ws.store, dataset, data),
            dataset_digest=dataset.digest,
            teacher=None if teacher is None else _placed(teacher, ws.store),
            coordinates=coordinates,
            scratch=str(scratch.resolve()),
            device=ws.device,
            networks=networks,
            watched=_watched(ws, spec, data, (scratch, exchange)),
        )
        artifacts = {} if teacher is None else _artifacts(ws, dataset, teacher, scratch)
        answers = {**artifacts, **(asked or {})}
        with plugin_process(f"{spec.plugin.kind} '{spec}'", ws.limits, exchange, answers) as process:
            process.call("bench.stages.lent:open_loan", loan)
            yield process


def _artifacts(ws: Workspace, dataset: DatasetRef, teacher: TeacherRef, scratch: Path) -> dict[str, Any]:
    """What a context's artifacts are made by, where no plugin runs."""
    data = ws.described(dataset)
    ctx = HarnessContext(
        store=ws.store,
        registry=ws.registry,
        data=data,
        dataset_digest=dataset.digest,
        teacher=teacher,
        coordinates=("lent",),  # no artifact of a context is random
        scratch=scratch,
        device=ws.device,
    )

    def made(make: Any) -> Any:
        def answer(*args: Any) -> None:
            make(*args)

        return answer

    def networks(count: int) -> list[further.Further]:
        opened = ws.store, ws.registry, data.sealed()
        found = further.further(*opened, dataset.digest, teacher, count - 1, device=ws.device)
        return [replace(each, ref=_placed(each.ref, ws.store)) for each in found]

    return {
        "features": made(ctx.features),
        "logits": made(ctx.logits),
        "dynamics": made(ctx.dynamics),
        "soft_labels": made(lambda k: ctx.soft_labels(None, k)),
        "networks": networks,
    }


def _placed(ref: TeacherRef, store: Store) -> TeacherRef:
    """The teacher by the path of its file on this machine."""
    return replace(ref, address=str(ref.path(store).resolve()))


def _lendable(store: Store, dataset: DatasetRef, data: Data) -> ImageSource:
    """The training split without any code of its data set: as it is where it is of the harness's own classes, else
    copied into the store once."""
    source = data.train._source
    if type(source) in (ArraySource, FileSource):
        return source

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        everything = np.arange(len(source))
        return {"images": source.read(everything), "labels": np.array(source.labels, np.int64)}, {}

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
