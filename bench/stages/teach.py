"""The stage that makes a teacher."""

from __future__ import annotations

from bench.artifacts.refs import DatasetRef, Workspace
from bench.teachers import weights
from bench.teachers.teacher_files import TeacherRef, load_recipe


def teach(ws: Workspace, recipe: str, dataset: DatasetRef, download: bool = False) -> TeacherRef:
    """A teacher of a data set: shipped with the project, else trained here, or given its weights, once. A run downloads
    nothing; `download` says that weights may be fetched. Where it was given several GPUs, they train it together."""
    resolved = load_recipe(ws.registry, recipe, dataset.spec, dataset.classes)
    data, processes = ws.described(dataset), max(1, int(ws.gpu_share))
    return weights.make(
        ws.store, data, resolved, dataset.digest, device=ws.device, download=download, processes=processes
    )
