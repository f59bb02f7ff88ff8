"""The stages of a trial, each a pure function of its inputs; what it makes lies in the store under their digest.

    describe ─► teach ─► condense ─► encode (one call a shard) ─► evaluate

A stage returns small values only. `describe` and `teach` see both splits, before any code of a method has run;
`condense` sees the training split; `evaluate` opens the test split once, after the last epoch, and refuses to do so in
a process where a method has run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import ENGINE_VERSION, protocol, records, teachers
from bench.api import SoftLabels
from bench.budget import Budget, reference_bytes
from bench.condensing import build_condensed
from bench.context import HarnessContext
from bench.data import Data
from bench.errors import InfeasibleError, PluginError, UserError
from bench.labels import EncodedLabels, encode, fit, label_views, shards, takes_shared, teacher_logits
from bench.networks import build_network
from bench.recipe import Recipe
from bench.registry import Registry
from bench.seeds import seed
from bench.spec import Spec, parse
from bench.storage import LabelFile, blob_allowance, image_bytes, smallest_total
from bench.store import Artifact, Store, read
from bench.training import evaluate as measure
from bench.training import train
from bench.trial import Trial

KEEP_RAW_BYTES = 256 * 2**20  # raw labels up to this size are kept, so that every compressor reads the same file

# Set in a process once code of a method has run there: such a process never opens a test split.
_method_code_ran = False


@dataclass(frozen=True)
class DatasetRef:
    """What later stages need to know of a data set without opening it."""

    spec: str
    digest: str  # of both splits and of what else `load` fixes
    classes: int
    channels: int
    size: int
    mirror: bool
    train_images: int
    train_digest: str
    test_digest: str


@dataclass(frozen=True)
class CondensedRef:
    """A condensed set in the store."""

    address: str  # path in the store
    images: int
    bytes_images: int
    seconds: float
    random: bool  # whether the method asked for a generator; if not, all replicates share this set
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class LabelsRef:
    """One shard of encoded labels in the store."""

    address: str
    seconds: float


class Workspace:
    """What a stage works with: the store, the plugins, the device. Made once in every worker process.

    With `checks`, a data set that another machine described must be the same here, or opening it raises UserError.
    """

    def __init__(self, store: str | Path, registry: Registry, device: str = "cpu", *, checks: bool = False) -> None:
        self.store = Store(store)
        self.registry = registry
        self.device = device
        self.checks = checks

    @lru_cache(maxsize=4)  # noqa: B019 (a workspace lives as long as its process)
    def data(self, spec: str) -> Data:
        """The data set, opened."""
        return Data(parse(self.registry, "dataset", spec), self.store.root / "datasets")

    @lru_cache(maxsize=4)  # noqa: B019
    def described(self, dataset: DatasetRef) -> Data:
        """The data set, opened; its training split is the one that was described."""
        data = self.data(dataset.spec)
        if self.checks:
            self.same(dataset, "train", data.dataset.train().digest(), dataset.train_digest)
        return data

    @staticmethod
    def same(dataset: DatasetRef, split: str, found: str, described: str) -> None:
        """Raise UserError unless both digests are equal."""
        if found != described:
            raise UserError(
                f"dataset '{dataset.spec}': the {split} split on one machine differs from that on another (digests "
                f"{found[:8]} and {described[:8]}). Install the same versions of the packages that it is made with."
            )

    @cached_property
    def packages(self) -> dict[str, str]:
        """Versions of what this project depends on: a data set may be drawn or decoded by any of them."""
        names = [r.split(";")[0].split(">")[0].strip() for r in requires("condensebench") or () if "extra ==" not in r]
        return {name: version(name) for name in sorted(names)}


def dataset_inputs(ws: Workspace, spec: str) -> dict[str, Any]:
    """What decides the content of a data set."""
    plugin = parse(ws.registry, "dataset", spec).plugin
    told = [each.name for each in fields(DatasetRef)]  # a store of an earlier version may tell less
    return {"spec": spec, "code": plugin.digest, "packages": ws.packages, "told": told}


def find_dataset(ws: Workspace, spec: str) -> DatasetRef | None:
    """The description, if `describe` has run here."""
    artifact = ws.store.find("dataset", dataset_inputs(ws, spec))
    return None if artifact is None else DatasetRef(**artifact.meta["dataset"])


def describe(ws: Workspace, spec: str) -> DatasetRef:
    """Open a data set (drawing or unpacking it on first use) and take its digest."""

    def make() -> tuple[dict, dict]:
        from bench.fingerprint import digest

        data = ws.data(spec)
        d = data.dataset
        splits = data.digests()
        fixed = {**splits, "size": d.size, "mirror": d.mirror, "mean": d.mean, "std": d.std}
        ref = DatasetRef(
            spec,
            digest(fixed),
            d.num_classes,
            d.channels,
            d.size,
            d.mirror,
            train_images=len(data.train),
            train_digest=splits["train"],
            test_digest=splits["test"],
        )
        return {}, {"dataset": ref.__dict__}

    return DatasetRef(**ws.store.get("dataset", dataset_inputs(ws, spec), make).meta["dataset"])


def teach(ws: Workspace, recipe: str, dataset: DatasetRef) -> teachers.TeacherRef:
    """The teacher of a data set: shipped with the project, else trained here once."""
    resolved = teachers.load_recipe(ws.registry, recipe, dataset.spec, dataset.classes)
    return teachers.make(ws.store, ws.described(dataset), resolved, dataset.digest, device=ws.device)


def condense(
    ws: Workspace, method: str, dataset: DatasetRef, teacher: teachers.TeacherRef, ipc: int, replicate: int
) -> CondensedRef:
    """Run a method. Where the result says `random=False`, it serves all replicates."""
    global _method_code_ran
    _method_code_ran = True
    spec = parse(ws.registry, "method", method)
    inputs = {
        "engine": ENGINE_VERSION,
        "dataset": dataset.digest,
        "teacher": teacher.digest,
        "method": str(spec),
        "code": spec.plugin.digest,
        "ipc": ipc,
        "replicate": replicate,
    }

    def make() -> tuple[dict, dict]:
        started = time.perf_counter()
        with ws.store.scratch() as scratch:
            ctx = HarnessContext(
                store=ws.store,
                registry=ws.registry,
                data=ws.described(dataset),
                dataset_digest=dataset.digest,
                teacher=teacher,
                coordinates=("condense", str(spec), dataset.spec, ipc, replicate),
                scratch=scratch,
                device=ws.device,
            )
            condensed = build_condensed(spec, ws.described(dataset).train, ipc, ctx)
        arrays = {"images": condensed.images.numpy(), "labels": condensed.labels.numpy()}
        if condensed.indices is not None:
            arrays["indices"] = condensed.indices
        return arrays, {
            "random": ctx.asked_for_randomness,
            "bytes_images": image_bytes(condensed.images),
            "provenance": _json_values(spec, condensed.provenance),
            "seconds": time.perf_counter() - started,
        }

    return _condensed_ref(ws, ws.store.get("condensed", inputs, make))


def _json_values(spec: Spec, provenance: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(dict(provenance)))
    except (TypeError, ValueError) as error:
        raise PluginError(f"method '{spec}': provenance must hold JSON values only: {error}.") from None


def _condensed_ref(ws: Workspace, artifact: Artifact) -> CondensedRef:
    meta = artifact.meta
    return CondensedRef(
        address=ws.store.relative(artifact),
        images=len(artifact.arrays["labels"]),
        bytes_images=meta["bytes_images"],
        seconds=meta["seconds"],
        random=meta["random"],
        provenance=meta["provenance"],
    )


def cell_recipe(registry: Registry, trial: Trial, classes: int) -> tuple[protocol.Protocol, Recipe]:
    """The protocol of a trial and its values for the trial's cell."""
    fixed = protocol.load(registry, trial.protocol)
    return fixed, fixed.recipe(dataset=trial.dataset, ipc=trial.ipc, student=trial.student, classes=classes)


def encode_labels(
    ws: Workspace, trial: Trial, dataset: DatasetRef, teacher: teachers.TeacherRef, condensed: CondensedRef, shard: int
) -> LabelsRef:
    """Label one shard of a condensed set and encode it within its share of the budget.

    Raises:
        InfeasibleError: the budget cannot hold the smallest code; the message counts the whole label file.
    """
    fixed, recipe = cell_recipe(ws.registry, trial, dataset.classes)
    assert trial.compressor is not None
    spec = parse(ws.registry, "compressor", trial.compressor)
    inputs = {
        "engine": ENGINE_VERSION,
        "condensed": condensed.address,
        "teacher": teacher.digest,
        "protocol": [fixed.id, recipe.model_dump(mode="json")],
        "compressor": str(spec),
        "code": spec.plugin.digest,
        "budget": trial.budget,
        "shard": shard,
    }

    def make() -> tuple[dict, dict]:
        started = time.perf_counter()
        work = _Labelling(ws, fixed.id, recipe, dataset, teacher, condensed)
        file = work.encode_shard(spec, trial.budget, shard)
        arrays = {
            name: np.frombuffer(part, dtype=np.uint8)
            for name, part in (("views", file.views), ("shared", file.shared), ("blob", file.blobs[0]))
        }
        return arrays, {"seconds": time.perf_counter() - started}

    artifact = ws.store.get("labels", inputs, make)
    return LabelsRef(ws.store.relative(artifact), artifact.meta["seconds"])


class _Labelling:
    """The labels of one condensed set under one protocol, made shard by shard."""

    def __init__(
        self,
        ws: Workspace,
        protocol_id: str,
        recipe: Recipe,
        dataset: DatasetRef,
        teacher: teachers.TeacherRef,
        condensed: CondensedRef,
    ) -> None:
        self.ws, self.protocol_id, self.recipe, self.dataset = ws, protocol_id, recipe, dataset
        self.teacher, self.condensed = teacher, condensed
        self.set = read_condensed(ws, condensed)
        self.views = label_views(
            recipe,
            condensed.images,
            protocol=protocol_id,
            dataset=dataset.spec,
            size=dataset.size,
            mirror=dataset.mirror,
        )
        self.shards = list(shards(condensed.images, recipe.views, dataset.classes))

    def raw(self, shard: int) -> SoftLabels:
        """float16 logits of a shard: kept in the store while the whole set is small, else made and dropped."""
        indices = self.shards[shard]
        total = self.condensed.images * self.recipe.views * self.dataset.classes * 2

        def make() -> tuple[dict, dict]:
            data = self.ws.described(self.dataset)
            model = teachers.load(self.teacher, self.ws.store, self.ws.registry, data, device=self.ws.device)
            images = torch.from_numpy(np.array(self.set.arrays["images"])).to(self.ws.device)
            d = data.dataset
            return {"logits": teacher_logits(model, images, self.views, indices, mean=d.mean, std=d.std).numpy()}, {}

        if total <= KEEP_RAW_BYTES:
            inputs = {
                "engine": ENGINE_VERSION,
                "condensed": self.condensed.address,
                "teacher": self.teacher.digest,
                "views": self.views.to_bytes().decode(),
                "shard": shard,
            }
            logits = self.ws.store.get("raw-labels", inputs, make).arrays["logits"]
        else:
            logits = make()[0]["logits"]
        return SoftLabels(
            logits=torch.from_numpy(np.array(logits)),
            hard=torch.from_numpy(np.array(self.set.arrays["labels"]))[indices],
            views=self.views,
            images=indices,
        )

    def encode_shard(self, spec: Spec, budget: str | None, shard: int) -> LabelFile:
        """One shard as a label file of its own. The shared part is fitted on the first shard, the same for all."""
        module = spec.plugin.module
        n, k, c = self.condensed.images, self.recipe.views, self.dataset.classes
        total = reference_bytes(n, k, c) if budget is None else Budget.parse(budget).total_bytes(n, k, c)
        views = self.views.to_bytes()
        sizes = [len(s) for s in self.shards]
        with self.ws.store.scratch() as scratch:
            ctx = HarnessContext(
                store=self.ws.store,
                registry=self.ws.registry,
                data=self.ws.described(self.dataset),
                dataset_digest=self.dataset.digest,
                teacher=self.teacher,
                coordinates=("encode", str(spec), self.protocol_id, self.dataset.spec, n),
                scratch=scratch,
                device=self.ws.device,
            )
            shared = b""
            if takes_shared(module):
                shared = fit(module, self.raw(0), total - len(views), ctx, **spec.parameters)
            allowance = blob_allowance(total, views=len(views), shared=len(shared), shard_sizes=sizes)[shard]
            try:
                blob = encode(module, self.raw(shard), allowance, ctx, shared, **spec.parameters)
            except InfeasibleError as error:
                # What the whole file would need: every image as much as in this shard, and the overhead.
                needed = smallest_total(
                    error.smallest_bytes, shard, views=len(views), shared=len(shared), shard_sizes=sizes
                )
                raise InfeasibleError(needed, error.why) from None
        return LabelFile(views, shared, (blob,))


def read_condensed(ws: Workspace, condensed: CondensedRef) -> Artifact:
    """The condensed set from the store."""
    return read(ws.store.root / condensed.address)


def evaluate(
    ws: Workspace, trial: Trial, dataset: DatasetRef, condensed: CondensedRef, labels: list[LabelsRef]
) -> dict[str, Any]:
    """Train the student, then open the test split, once. Returns the measured fields of the record."""
    started = time.perf_counter()
    fixed, recipe = cell_recipe(ws.registry, trial, dataset.classes)
    data = ws.described(dataset)
    train_set = read_condensed(ws, condensed)
    reader, sizes = None, None
    if trial.compressor is not None:
        parts = [read(ws.store.root / ref.address) for ref in labels]
        file = LabelFile(
            parts[0].arrays["views"].tobytes(),
            parts[0].arrays["shared"].tobytes(),
            tuple(part.arrays["blob"].tobytes() for part in parts),
        )
        module = parse(ws.registry, "compressor", trial.compressor).plugin.module
        reader, sizes = EncodedLabels(file, module, condensed.images, trial.compressor), file.sizes()
    student_spec = parse(ws.registry, "network", trial.student)
    coordinates = ("student", fixed.id, trial.dataset, trial.ipc, trial.student, trial.replicate)
    student = build_network(
        student_spec,
        channels=dataset.channels,
        size=dataset.size,
        classes=dataset.classes,
        seed=seed(*coordinates, "init"),
    ).to(ws.device)
    d = data.dataset
    log = train(
        student,
        torch.from_numpy(np.array(train_set.arrays["images"])),
        torch.from_numpy(np.array(train_set.arrays["labels"])),
        recipe,
        coordinates=coordinates,
        reader=reader,
        mean=d.mean,
        std=d.std,
        mirror=d.mirror,
        device=ws.device,
    )
    trained = time.perf_counter()
    if _method_code_ran:
        raise RuntimeError(f"process {os.getpid()} has run a method's code; it must not open a test split")
    if ws.checks:
        ws.same(dataset, "test", data.dataset.test().digest(), dataset.test_digest)
    images, targets = data.test_images()
    measured = measure(student, images, targets, mean=d.mean, std=d.std)
    return {
        "accuracy": measured.accuracy,
        "test_loss": measured.loss,
        "train_loss": log.losses[-1],
        "steps": log.steps,
        "epochs": recipe.epochs,
        "bytes_labels": sizes,
        "environment": records.environment(),
        "seconds": {"train": trained - started, "test": time.perf_counter() - trained},
    }
