"""The stage that makes a teacher."""

from __future__ import annotations

from bench.artifacts.refs import DatasetRef, Workspace
from bench.teachers import weights
from bench.teachers.teacher_files import TeacherRef, load_recipe


def teach(ws: Workspace, recipe: str, dataset: DatasetRef, download: bool = False) -> TeacherRef:
    """A teacher of a data set: shipped with the project, else trained here, or given its weights, once. A run downloads
    nothing; `download` says that weights may be fetched."""
    resolved = load_recipe(ws.registry, recipe, dataset.spec, dataset.classes)
    return weights.make(ws.store, ws.described(dataset), resolved, dataset.digest, device=ws.device, download=download)
