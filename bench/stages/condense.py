"""The stage that runs a method and keeps the condensed set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from bench.api import Condensed
from bench.artifacts.ahead import ahead
from bench.artifacts.opened import TrainSplit
from bench.artifacts.refs import CondensedRef, DatasetRef, Workspace
from bench.artifacts.store import Artifact, Blocks
from bench.engine import ENGINE_VERSION
from bench.errors import PluginError
from bench.labels.label_file import image_bytes, image_count
from bench.plugins.context_use import asked_for
from bench.plugins.registry import Registry
from bench.plugins.spec import Spec, named_by_content, parse
from bench.records.schema import COUNTED_AS
from bench.stages.kept_steps import KeptSteps
from bench.stages.lend import Lending, surviving
from bench.stages.method_call import assembled, check_counts, picked, provenance_of
from bench.teachers import network_choice
from bench.teachers.dynamics_recipes import dynamics_identity
from bench.teachers.further import further
from bench.teachers.network_choice import Further
from bench.teachers.teacher_files import TeacherRef, UnusedTeacher, load_recipe
from bench.training.course import kept_course

BLOCK_BYTES = 32 * 2**20  # of images that are written and counted at a time


def condense(
    ws: Workspace,
    method: str,
    dataset: DatasetRef,
    teacher: TeacherRef | UnusedTeacher,
    ipc: int,
    replicate: int,
    balanced: bool = True,
) -> CondensedRef:
    """Run a method, in a process of its own. Where the result says `random=False`, it serves all replicates. A method
    that asks for no teacher makes the same set whatever teacher there is: only the normalisation counts.

    Bytes are counted here, where no code of a method runs. `balanced`: whether every class must have `ipc` images; else
    the set has `ipc` times as many as there are classes. One set serves protocols of both kinds where it keeps to both.

    Raises:
        PluginFailure: the method raised it, exceeded a limit, or died.
        PluginError: what it handed in breaks the contract.
    """
    spec = named_by_content(parse(ws.registry, "method", method))
    lent, normalisation = lent_teacher(ws.registry, teacher, dataset)
    inputs = {
        "engine": ENGINE_VERSION,
        "dataset": dataset.digest,
        "teacher": lent.identity if lent else {"unused": normalisation},
        "method": str(spec),
        "code": spec.plugin.digest,
        "ipc": ipc,
        "replicate": replicate,
    }
    # Only where records name them: the sets of the embedded data sets stay where they are.
    if "dynamics" in asked_for(spec.plugin) and (
        identity := dynamics_identity(ws.registry, dataset.spec, dataset.size, dataset.classes)
    ):
        inputs["dynamics"] = identity
    networks = network_choice.declared(spec)
    further_networks = list[Further]()
    if network_choice.needs_others(networks):
        assert lent is not None  # the first of several networks is the teacher
        data = ws.described(dataset).sealed()
        further_networks = further(ws.store, ws.registry, data, dataset.digest, lent, networks, device=ws.device)
        # Only here: the sets of all other methods stay where they are.
        inputs["backbones"] = [network.ref.digest for network in further_networks]

    coordinates = ("condense", str(spec), dataset.spec, ipc, replicate)
    name = f"method {method} on {dataset.spec}, ipc {ipc}, replicate {replicate}"
    decides = {"condensed": inputs, "coordinates": list(coordinates)}
    steps = KeptSteps(kept_course(ws.store, name, decides, ws.device))

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        lending = Lending(ws, spec, dataset, lent, normalisation, coordinates, networks, steps=steps)

        def call() -> tuple[dict[str, Any], tuple[str, ...]]:
            with lending.process() as process:
                values = process.call("bench.stages.lent:condense", ipc, balanced)
            return values, process.conduct

        handed_in, conduct = surviving(call)
        meta: dict[str, Any] = {
            "random": bool(handed_in["random"]),
            "conduct": conduct,
            "backbones": network_choice.digest_of(further_networks),
        }
        train, result = ws.described(dataset).train, _handed_in(spec, handed_in)
        arrays, provenance = _arrays(spec, result, train, ipc, meta, steps, balanced=balanced)
        counted = image_count(dataset.size, floats=arrays["images"].dtype.kind == "f")
        words = {name: value for name, value in provenance.items() if name != COUNTED_AS}  # the harness says that
        meta["provenance"] = _json_values(spec, {**words, **_network_names(further_networks), **counted})
        return arrays, meta

    artifact = ws.store.get("condensed", inputs, make)
    steps.end()
    check_counts(spec, np.asarray(artifact.arrays["labels"]), dataset.classes, ipc, balanced=balanced)
    return _condensed_ref(ws, artifact)


def _arrays(
    spec: Spec,
    result: np.ndarray | Condensed,
    train: TrainSplit,
    ipc: int,
    meta: dict[str, Any],
    steps: KeptSteps,
    *,
    balanced: bool,
) -> tuple[dict[str, np.ndarray | Blocks], Mapping[str, Any]]:
    """(the arrays of the condensed set, its provenance). Images that were picked are read block by block; their bytes
    are counted as they pass by, and stand in `meta` after the last one."""
    arrays: dict[str, np.ndarray | Blocks]
    blocks: Iterator[torch.Tensor]
    if isinstance(result, Condensed):
        condensed = assembled(spec, result, train, ipc, balanced=balanced)
        images, provenance = condensed.images, condensed.provenance
        shape, kind = tuple(images.shape), images.numpy().dtype
        rows = max(1, BLOCK_BYTES // max(1, images[0].nbytes))
        blocks = (images[first : first + rows] for first in range(0, len(images), rows))
        arrays = {"labels": condensed.labels.numpy()}
        if condensed.indices is not None:
            arrays["indices"] = condensed.indices
        if condensed.soft_labels is not None:
            arrays["soft_labels"] = condensed.soft_labels.numpy()
    else:
        indices, provenance = picked(spec, result, train, ipc, balanced=balanced), provenance_of(spec)
        shape, kind = (len(indices), train.channels, train.size, train.size), np.dtype(np.uint8)
        step = max(1, BLOCK_BYTES // (train.channels * train.source_size**2))
        blocks = ahead(train.images, np.split(indices, range(step, len(indices), step)))
        arrays = {"labels": train.labels[indices], "indices": indices}

    def counted() -> Iterator[np.ndarray]:
        total = 0
        for block in blocks:
            total += image_bytes(block)
            yield block.numpy()
        meta.update(bytes_images=total, seconds=steps.seconds)

    arrays["images"] = Blocks(shape, kind, counted())
    return arrays, provenance


def lent_teacher(
    registry: Registry, teacher: TeacherRef | UnusedTeacher, dataset: DatasetRef
) -> tuple[TeacherRef | None, str]:
    """(the teacher that a method is lent, if it asks for one; what its images are normalised with)."""
    if isinstance(teacher, TeacherRef):
        return teacher, teacher.normalisation
    recipe = load_recipe(registry, teacher.recipe, dataset.spec, dataset.classes)
    return None, recipe.normalisation


def _network_names(networks: Sequence[Further]) -> dict[str, Any]:
    """The part of the provenance that names the method's further networks; empty without any."""
    names = [{"recipe": each.recipe, "network": each.ref.network, "digest": each.ref.digest} for each in networks]
    return {"backbones": names} if names else {}


def _handed_in(spec: Spec, values: Mapping[str, Any]) -> np.ndarray | Condensed:
    """What a method returned, from what its process sent; bench.stages.method_call.assembled checks it."""
    try:
        if "images" not in values:
            return np.array(values["indices"])
        images, labels = (torch.from_numpy(np.asarray(values[name])) for name in ("images", "labels"))
        soft = values.get("soft_labels")
        soft = None if soft is None else torch.from_numpy(np.asarray(soft))
        return Condensed(images, labels, values["indices"], json.loads(values["provenance"]), soft)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise PluginError(f"method '{spec}': its process sent no condensed set ({error}).") from None


def _json_values(spec: Spec, provenance: Mapping[str, Any]) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(json.dumps(dict(provenance)))
    except (TypeError, ValueError) as error:
        raise PluginError(f"method '{spec}': provenance must hold JSON values only: {error}.") from None
    return values


def _condensed_ref(ws: Workspace, artifact: Artifact) -> CondensedRef:
    meta = artifact.meta
    return CondensedRef(
        address=ws.store.relative(artifact),
        images=len(artifact.arrays["labels"]),
        bytes_images=meta["bytes_images"],
        seconds=meta["seconds"],
        random=meta["random"],
        provenance=meta["provenance"],
        conduct=tuple(meta.get("conduct") or ()),
        backbones=meta.get("backbones"),  # sets of an earlier version have none
    )
