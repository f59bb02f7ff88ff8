"""The stages of a trial, each a pure function of its inputs; what it makes lies in the store under their digest.

    describe ─► teach (each teacher) ─► condense ─► encode (one call a shard) ─► evaluate

A stage returns small values only. `describe` and `teach` see both splits, before any code of a method has run;
`condense` sees the training split; `evaluate` opens the test split once, after the last epoch, and refuses to do so in
a process where a method has run. Labels are hard (nothing to make), stored (`encode_labels`, from all teachers of the
protocol), or online: then `evaluate` loads the teachers.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from bench.artifacts import duplicates
from bench.artifacts.describe import describe, find_dataset, released_dataset_digest
from bench.artifacts.refs import CondensedRef, DatasetRef, LabelsRef, Workspace
from bench.artifacts.store import Artifact, read
from bench.engine import ENGINE_VERSION
from bench.errors import PluginError
from bench.labels.label_file import image_bytes
from bench.plugins.registry import Registry
from bench.plugins.spec import Spec, parse
from bench.protocol import definition
from bench.protocol.recipe import Recipe
from bench.records import files
from bench.stages.condense import build_condensed
from bench.stages.context import HarnessContext
from bench.stages.label import Labelling
from bench.stages.train import Trained, train_student
from bench.teachers import further as backbones
from bench.teachers import teacher_files, teachers
from bench.training.loop import evaluate as measure
from bench.trials.trial import Trial

__all__ = [
    "CondensedRef",
    "DatasetRef",
    "LabelsRef",
    "Trained",
    "Workspace",
    "cell_recipe",
    "condense",
    "describe",
    "encode_labels",
    "evaluate",
    "find_dataset",
    "released_dataset_digest",
    "teach",
    "train_student",
]

# Set in a process once code of a method has run there: such a process never opens a test split.
_method_code_ran = False


def teach(ws: Workspace, recipe: str, dataset: DatasetRef) -> teacher_files.TeacherRef:
    """A teacher of a data set: shipped with the project, else trained (or downloaded) here once."""
    resolved = teacher_files.load_recipe(ws.registry, recipe, dataset.spec, dataset.classes)
    return teachers.make(ws.store, ws.described(dataset), resolved, dataset.digest, device=ws.device)


def condense(
    ws: Workspace, method: str, dataset: DatasetRef, teacher: teacher_files.TeacherRef, ipc: int, replicate: int
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
    networks = backbones.declared(spec)
    further = list[backbones.Further]()
    if networks > 1:
        data = ws.described(dataset).sealed()
        own = (ws.store, ws.registry, data, dataset.digest, teacher)
        further = backbones.further(*own, networks - 1, device=ws.device)
        # Only here: the sets of all other methods stay where they are.
        inputs["backbones"] = [one.ref.digest for one in further]

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
                networks=networks,
            )
            condensed = build_condensed(spec, ws.described(dataset).train, ipc, ctx)
        arrays = {"images": condensed.images.numpy(), "labels": condensed.labels.numpy()}
        if condensed.indices is not None:
            arrays["indices"] = condensed.indices
        return arrays, {
            "random": ctx.asked_for_randomness,
            "bytes_images": image_bytes(condensed.images),
            "provenance": _json_values(spec, {**condensed.provenance, **_told(further)}),
            "backbones": backbones.digest_of(further),
            "seconds": time.perf_counter() - started,
        }

    return _condensed_ref(ws, ws.store.get("condensed", inputs, make))


def _told(further: Sequence[backbones.Further]) -> dict[str, Any]:
    told = [{"recipe": one.recipe, "network": one.ref.network, "digest": one.ref.digest} for one in further]
    return {"backbones": told} if told else {}


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
        backbones=meta.get("backbones"),  # sets of an earlier version have none
    )


def cell_recipe(registry: Registry, trial: Trial, classes: int) -> tuple[definition.Protocol, Recipe]:
    """The protocol of a trial and its values for the trial's cell."""
    fixed = definition.load(registry, trial.protocol)
    return fixed, fixed.recipe(dataset=trial.dataset, ipc=trial.ipc, student=trial.student, classes=classes)


def encode_labels(
    ws: Workspace,
    trial: Trial,
    dataset: DatasetRef,
    labellers: Sequence[teacher_files.TeacherRef],
    condensed: CondensedRef,
    shard: int,
    first: LabelsRef | None = None,
) -> LabelsRef:
    """Label one shard of a condensed set by all teachers together, and encode it within its share of the budget.

    What all shards share is fitted with shard 0; for another one, `first` names the labels of that.

    Raises:
        InfeasibleError: the budget cannot hold the smallest code; the message counts the whole label file.
    """
    fixed, recipe = cell_recipe(ws.registry, trial, dataset.classes)
    assert trial.compressor is not None
    spec = parse(ws.registry, "compressor", trial.compressor)
    inputs = {
        "engine": ENGINE_VERSION,
        "condensed": condensed.address,
        "teachers": [teacher.digest for teacher in labellers],
        "protocol": [fixed.id, recipe.model_dump(mode="json")],
        "compressor": str(spec),
        "code": spec.plugin.digest,
        "budget": trial.budget,
        "shard": shard,
    }
    if first is not None:
        inputs["first"] = first.address

    def make() -> tuple[dict, dict]:
        started = time.perf_counter()
        work = Labelling(ws, fixed.id, recipe, dataset, labellers, condensed)
        shared = read(ws.store.root / first.address).arrays["shared"].tobytes() if first else None
        file = work.encode_shard(spec, trial.budget, shard, shared)
        arrays = {
            name: np.frombuffer(part, dtype=np.uint8)
            for name, part in (("views", file.views), ("shared", file.shared), ("blob", file.blobs[0]))
        }
        return arrays, {"seconds": time.perf_counter() - started}

    artifact = ws.store.get("labels", inputs, make)
    return LabelsRef(ws.store.relative(artifact), artifact.meta["seconds"])


def evaluate(
    ws: Workspace,
    trial: Trial,
    dataset: DatasetRef,
    condensed: CondensedRef,
    labels: Sequence[LabelsRef] = (),
    labellers: Sequence[teacher_files.TeacherRef] = (),
) -> dict[str, Any]:
    """Train the student, then open the test split, once. Returns the measured fields of the record.

    Args:
        ws, trial, dataset, condensed: what is evaluated.
        labels: every shard of the encoded labels, for stored labels.
        labellers: the protocol's teachers, for online labels.
    """
    started = time.perf_counter()
    _, recipe = cell_recipe(ws.registry, trial, dataset.classes)
    data = ws.described(dataset)
    opened_before = len(data.opened)
    trained = train_student(ws, trial, dataset, condensed, labels, labellers, recipe)
    seconds = time.perf_counter() - started
    if _method_code_ran:
        raise RuntimeError(f"process {os.getpid()} has run a method's code; it must not open a test split")
    if ws.checks:
        ws.same(dataset, "test", data.dataset.test().digest(), dataset.test_digest)
    images, targets = data.test_images()
    measured = measure(trained.student, images, targets, mean=trained.mean, std=trained.std)
    return {
        "accuracy": measured.accuracy,
        "test_loss": measured.loss,
        "num_test": measured.n,
        "test_opened": len(data.opened) - opened_before,
        "measured_after": len(trained.log.losses),
        "train_loss": trained.log.losses[-1],
        "steps": trained.log.steps,
        "images_seen": trained.log.images_seen,
        "epochs": recipe.epochs,
        "condensed": duplicates.condensed_facts(
            trained.images,
            trained.classes,
            images.numpy(),
            classes=dataset.classes,
            train_in_test=dataset.train_in_test,
        ),
        "bytes_labels": trained.bytes_labels,
        "invalid_labels": trained.invalid_labels,
        "environment": {**files.environment(), "threads": str(torch.get_num_threads()), "device": _device(ws.device)},
        "seconds": {"train": seconds, "test": time.perf_counter() - started - seconds},
    }


def _device(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else device
