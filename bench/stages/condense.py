"""The stage that runs a method and keeps the condensed set."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from bench.artifacts.refs import CondensedRef, DatasetRef, Workspace
from bench.artifacts.store import Artifact
from bench.engine import ENGINE_VERSION
from bench.errors import PluginError
from bench.labels.label_file import image_bytes
from bench.plugins.registry import Registry
from bench.plugins.spec import Spec, parse
from bench.stages.context import HarnessContext
from bench.stages.isolation import method_code_begins
from bench.stages.method_call import build_condensed
from bench.teachers import further
from bench.teachers.teacher_files import TeacherRef, UnusedTeacher, load_recipe


def condense(
    ws: Workspace, method: str, dataset: DatasetRef, teacher: TeacherRef | UnusedTeacher, ipc: int, replicate: int
) -> CondensedRef:
    """Run a method. Where the result says `random=False`, it serves all replicates. A method that asks for no teacher
    makes the same set whatever teacher there is: only the normalisation counts."""
    method_code_begins()
    spec = parse(ws.registry, "method", method)
    lent, normalisation = lent_teacher(ws.registry, teacher, dataset)
    inputs = {
        "engine": ENGINE_VERSION,
        "dataset": dataset.digest,
        "teacher": lent.digest if lent else {"unused": normalisation},
        "method": str(spec),
        "code": spec.plugin.digest,
        "ipc": ipc,
        "replicate": replicate,
    }
    networks = further.declared(spec)
    further_networks = list[further.Further]()
    if further.needs_others(networks):
        assert lent is not None  # the first of several networks is the teacher
        data = ws.described(dataset).sealed()
        further_networks = further.further(
            ws.store, ws.registry, data, dataset.digest, lent, networks, device=ws.device
        )
        # Only here: the sets of all other methods stay where they are.
        inputs["backbones"] = [network.ref.digest for network in further_networks]

    def make() -> tuple[dict[str, Any], dict[str, Any]]:
        started = time.perf_counter()
        with ws.store.scratch() as scratch:
            ctx = HarnessContext(
                store=ws.store,
                registry=ws.registry,
                data=ws.described(dataset),
                dataset_digest=dataset.digest,
                teacher=lent,
                normalisation=normalisation,
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
            "provenance": _json_values(spec, {**condensed.provenance, **_network_names(further_networks)}),
            "backbones": further.digest_of(further_networks),
            "seconds": time.perf_counter() - started,
        }

    return _condensed_ref(ws, ws.store.get("condensed", inputs, make))


def lent_teacher(
    registry: Registry, teacher: TeacherRef | UnusedTeacher, dataset: DatasetRef
) -> tuple[TeacherRef | None, str]:
    """(the teacher that a method is lent, if it asks for one; what its images are normalised with)."""
    if isinstance(teacher, TeacherRef):
        return teacher, teacher.normalisation
    recipe = load_recipe(registry, teacher.recipe, dataset.spec, dataset.classes)
    return None, recipe.normalisation


def _network_names(networks: Sequence[further.Further]) -> dict[str, Any]:
    """The part of the provenance that names the method's further networks; empty without any."""
    names = [{"recipe": each.recipe, "network": each.ref.network, "digest": each.ref.digest} for each in networks]
    return {"backbones": names} if names else {}


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
        backbones=meta.get("backbones"),  # sets of an earlier version have none
    )
