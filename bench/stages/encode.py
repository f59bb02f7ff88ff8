"""The stage that labels shards of a condensed set and encodes the labels."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from bench.artifacts.refs import CondensedRef, DatasetRef, LabelsRef, Workspace
from bench.artifacts.store import read
from bench.engine import ENGINE_VERSION
from bench.plugins.spec import parse
from bench.stages.label import Labelling
from bench.teachers.teacher_files import TeacherRef
from bench.trials.cell import cell_recipe
from bench.trials.trial import Trial


def encode_labels(
    ws: Workspace,
    trial: Trial,
    dataset: DatasetRef,
    labellers: Sequence[TeacherRef],
    condensed: CondensedRef,
    some: Sequence[int],
    first: LabelsRef | None = None,
) -> list[LabelsRef]:
    """Label some shards of a condensed set by all teachers together, and encode each within its share of the budget.
    The teachers and the set are opened once for all of them, and only where something is left to do.

    What all shards share is fitted with shard 0; for others, `first` names the labels of that.

    Raises:
        InfeasibleError: the budget cannot hold the smallest code; the message counts the whole label file.
    """
    fixed, recipe = cell_recipe(ws.registry, trial, dataset.classes)
    assert trial.compressor is not None
    spec = parse(ws.registry, "compressor", trial.compressor)
    inputs = {
        "engine": ENGINE_VERSION,
        "condensed": condensed.address,
        "teachers": [teacher.identity for teacher in labellers],
        "protocol": [fixed.id, recipe.model_dump(mode="json")],
        "compressor": str(spec),
        "code": spec.plugin.digest,
        "budget": trial.budget,
    }
    if first is not None:
        inputs["first"] = first.address

    @cache
    def opened() -> tuple[Labelling, bytes | None]:
        shared = read(ws.store.root / first.address).arrays["shared"].tobytes() if first else None
        return Labelling(ws, fixed.id, recipe, dataset, labellers, condensed), shared

    def make(shard: int) -> tuple[dict[str, Any], dict[str, Any]]:
        started = time.perf_counter()
        work, shared = opened()
        file = work.encode_shard(spec, trial.budget, shard, shared)
        arrays = {
            name: np.frombuffer(part, dtype=np.uint8)
            for name, part in (("views", file.views), ("shared", file.shared), ("blob", file.blobs[0]))
        }
        conduct = None if work.process is None else work.process.conduct
        return arrays, {"seconds": time.perf_counter() - started, "conduct": conduct}

    refs = []
    for shard in some:
        artifact = ws.store.get("labels", {**inputs, "shard": shard}, partial(make, shard))
        conduct = artifact.meta.get("conduct")
        seen = None if conduct is None else tuple(conduct)
        refs.append(LabelsRef(ws.store.relative(artifact), artifact.meta["seconds"], seen))
    return refs
