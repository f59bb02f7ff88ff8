"""What a plugin's process does with what it is lent: it opens the context, and calls the plugin.

Only the harness's side (bench/stages/lend.py) calls these functions, over bench/confinement/process.py. Nothing here
opens a data set: its code is not even imported.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from bench.api import Condensed, Dataset, DynamicsScores, ImageSource, SoftLabels
from bench.artifacts.opened import Data, TrainSplit, sealed_test
from bench.artifacts.store import Artifact, Store
from bench.confinement.plugin_side import Peer
from bench.confinement.watch import DATA, unwatched
from bench.errors import PluginError
from bench.labels import adapter
from bench.photographs.cache_limits import cache_limit
from bench.plugins.spec import Spec, parse
from bench.sources import FileSource
from bench.stages.context import HarnessContext
from bench.stages.isolation import method_code_begins
from bench.stages.lend import DATASETS, Loan
from bench.stages.method_call import returned
from bench.teachers.network_choice import Further
from bench.training import checkpoint, gpus
from bench.training.course import Course
from bench.training.standing import Standing

CODEC = ("encode", "fit", "decode", "rows", "batches", "invalid")


def open_loan(peer: Peer, loan: Loan) -> None:
    """Make the context and the training split of it, and watch the process from then on."""
    method_code_begins()
    gpus.device(loan.gpu_share)
    peer.kept["spec"] = parse(loan.registry, loan.kind, loan.spec)
    if loan.source is not None:
        peer.kept["context"] = context = LentContext(peer, loan, loan.source)
        peer.kept["train"] = context.lent_train
    for name in [each for each in sys.modules if each == DATASETS or each.startswith(f"{DATASETS}.")]:
        del sys.modules[name]  # what a plugin imports of it is imported anew, and seen
    peer.watch(loan.watched)


def condense(peer: Peer, ipc: int, balanced: bool) -> dict[str, Any]:
    """Call the method: arrays and JSON of what it returned. `balanced`: as of bench.stages.method_call.returned."""
    spec: Spec = peer.kept["spec"]
    context: LentContext = peer.kept["context"]
    result = returned(spec, peer.kept["train"], ipc, context, balanced=balanced)
    handed_in: dict[str, Any]
    if isinstance(result, Condensed):
        handed_in = {
            "images": result.images.detach().cpu().contiguous().numpy(),
            "labels": result.labels.cpu().numpy(),
            "indices": result.indices,
            "provenance": json.dumps(dict(result.provenance)),
        }
        if result.soft_labels is not None:
            handed_in["soft_labels"] = result.soft_labels.detach().cpu().contiguous().numpy()
    else:
        handed_in = {"indices": result}
    return {**handed_in, "random": context.asked_for_randomness}


def scores(peer: Peer) -> np.ndarray:
    """What the method says of every image of the training split."""
    spec: Spec = peer.kept["spec"]
    return np.asarray(spec.plugin.module.scores(peer.kept["train"], peer.kept["context"], **spec.parameters))


def codec(peer: Peer) -> dict[str, list[str]]:
    """The functions of the compressor that the harness calls -> the names of their parameters."""
    import inspect

    module = peer.kept["spec"].plugin.module
    return {name: list(inspect.signature(getattr(module, name)).parameters) for name in CODEC if hasattr(module, name)}


def fit(peer: Peer, labels: SoftLabels, allowance: int, surveyed: bool) -> bytes:
    """bench.labels.adapter.fit of the compressor."""
    spec: Spec = peer.kept["spec"]
    survey = (lambda views: _survey(peer, views)) if surveyed else None
    return adapter.fit(spec.plugin.module, labels, allowance, peer.kept["context"], survey, **spec.parameters)


def _survey(peer: Peer, views: Sequence[int]) -> Iterator[SoftLabels]:
    """The harness's survey, shard by shard (bench.api.Survey)."""
    peer.ask("survey", [int(view) for view in views])
    while (labels := peer.ask("surveyed")) is not None:
        yield labels


def encode(peer: Peer, labels: SoftLabels, allowance: int, shared: bytes) -> bytes:
    """bench.labels.adapter.encode of the compressor."""
    spec: Spec = peer.kept["spec"]
    return adapter.encode(spec.plugin.module, labels, allowance, peer.kept["context"], shared, **spec.parameters)


def call(peer: Peer, function: str, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    """Another function of the compressor."""
    spec: Spec = peer.kept["spec"]
    value = getattr(spec.plugin.module, function)(*args, **keywords)
    return np.asarray(value) if function in ("rows", "batches") and value is not None else value


def _lent_course(peer: Peer, loan: Loan) -> LentCourse | None:
    """Of the plugin's steps; None where they are not kept."""
    return None if loan.checkpoints is None else LentCourse(peer, Path(loan.checkpoints), Path(loan.exchange))


class LentStore(Store):
    """A store that is read. What is not there is made by the harness."""

    def get(self, kind: str, inputs: Mapping[str, Any], make: Any) -> Artifact:  # noqa: ARG002 (nothing is made here)
        """The artifact. Raises PluginError where the harness has not made it."""
        artifact = self.find(kind, inputs)
        if artifact is None:
            raise PluginError(f"an artifact of kind {kind} is made by the harness alone: ask the context for it.")
        return artifact


class LentFiles(FileSource):
    """Image files of the training split, as the harness reads them: what that opens is not the plugin's doing."""

    def __init__(self, files: FileSource, peer: Peer) -> None:
        vars(self).update(vars(files))
        self._peer = peer

    def read(self, indices: np.ndarray) -> np.ndarray:
        """As FileSource.read."""
        with unwatched():
            return super().read(indices)

    def photos(self, indices: np.ndarray) -> list[np.ndarray]:
        """As FileSource.photos."""
        with unwatched():
            return super().photos(indices)

    def prepare(self, report: Callable[[int], object] | None = None) -> None:  # noqa: ARG002 (nobody looks on)
        """As FileSource.prepare, by the harness: the pixels are shared."""
        if self._pixels is None and len(self) and self.pixel_cache is not None and cache_limit():
            self._peer.ask("prepare")
            with unwatched():
                self._pixels = self.pixel_cache.find()


class LentCourse(Course):
    """The course of a method's loops in its process. Checkpoints are read where they lie in the store; they are written
    where the plugin may write, and the harness moves them (bench.stages.kept_steps)."""

    def __init__(self, peer: Peer, folder: Path, exchange: Path, number: int = 0) -> None:
        """`folder`: of the method's checkpoints; `number`: of the loop."""
        super().__init__(folder=folder / str(number), watch=self._tell_harness, unit="step")
        self._peer, self._place, self._exchange, self._number = peer, folder, exchange, number

    def loop(self, number: int) -> LentCourse:
        """As Course.loop."""
        return LentCourse(self._peer, self._place, self._exchange, number)

    def save(self, folder: Path, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:  # noqa: ARG002
        """As Course.save."""
        checkpoint.save(self._exchange, tensors, facts)
        self._peer.ask("steps_keep", self._number)

    def _tell_harness(self, standing: Standing | None) -> None:
        if standing is not None:
            self._peer.ask("steps_tell", standing.epoch, standing.epochs, standing.rate, standing.seconds_left)


class LentContext(HarnessContext):
    """The context in a plugin's process: artifacts are asked for, then read."""

    def __init__(self, peer: Peer, loan: Loan, images: ImageSource) -> None:
        def opened_test() -> NoReturn:
            peer.note(DATA, "asked for the test split")
            sealed_test()

        source = LentFiles(images, peer) if isinstance(images, FileSource) else images
        dataset = Dataset(**loan.facts, train=lambda: source, test=opened_test)
        data = Data(parse(loan.registry, "dataset", loan.dataset), Path(loan.store) / "datasets")
        self.lent_train = TrainSplit(source, dataset)
        vars(data).update(dataset=dataset, train=self.lent_train)
        super().__init__(
            store=LentStore(loan.store, loan.arithmetic),
            registry=loan.registry,
            data=data,
            dataset_digest=loan.dataset_digest,
            teacher=loan.teacher,
            normalisation=loan.normalisation,
            coordinates=loan.coordinates,
            scratch=Path(loan.scratch),
            device=loan.device,
            networks=loan.networks,
            course=_lent_course(peer, loan),
        )
        sealed = replace(dataset, test=opened_test)
        vars(self._data).update(dataset=sealed)
        self._peer = peer

    def _further(self, choice: int | str) -> list[Further]:
        """As HarnessContext: made by the harness."""
        networks: list[Further] = self._peer.ask("networks", choice)
        return networks

    def _facts(self) -> dict[str, Any]:
        """As HarnessContext: with what was noted of the plugin so far, which a kill would hide."""
        return {**super()._facts(), "notes": self._peer.notes()}

    def _go_on(self, facts: dict[str, Any]) -> None:
        """As HarnessContext."""
        super()._go_on(facts)
        for note in facts["notes"]:
            self._peer.note(*note.split(": ", 1))
        self._peer.ask("steps_go_on")

    def features(self) -> np.ndarray:
        """As HarnessContext.features."""
        self._peer.ask("features")
        return super().features()

    def logits(self) -> np.ndarray:
        """As HarnessContext.logits."""
        self._peer.ask("logits")
        return super().logits()

    def dynamics(self, epochs: int) -> np.ndarray:
        """As HarnessContext.dynamics."""
        self._peer.ask("dynamics", int(epochs))
        return super().dynamics(epochs)

    def dynamics_scores(self, epochs: int) -> DynamicsScores:
        """As HarnessContext.dynamics_scores."""
        self._peer.ask("dynamics_scores", int(epochs))
        return super().dynamics_scores(epochs)

    def soft_labels(self, images: Any, k: int, *, crop_scale: float = 0.4, cutmix: bool = False) -> np.ndarray:
        """As HarnessContext.soft_labels."""
        if images is None:
            self._peer.ask("soft_labels", int(k), float(crop_scale), bool(cutmix))
        return super().soft_labels(images, k, crop_scale=crop_scale, cutmix=cutmix)
