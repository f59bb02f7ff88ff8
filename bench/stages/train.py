"""The training of a trial's student, from what the stages before it made; the test split stays closed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bench.artifacts.refs import CondensedRef, DatasetRef, LabelsRef, Workspace, read_condensed
from bench.artifacts.store import read
from bench.engine import ENGINE_VERSION
from bench.labels.label_file import LabelFile
from bench.labels.reader import EncodedLabels
from bench.plugins.spec import parse
from bench.protocol.options import seeded_as
from bench.protocol.recipe import Recipe
from bench.seeds import seed
from bench.teachers import loaded, teacher_files
from bench.teachers.ensemble import ensemble_of
from bench.training.course import Course, kept_course
from bench.training.loop import TrainLog, train
from bench.training.networks import build_network
from bench.training.normalisation import statistics
from bench.trials.trial import Trial


@dataclass(frozen=True)
class Trained:
    """A student after its training, and what it was trained on."""

    student: torch.nn.Module
    log: TrainLog
    mean: tuple[float, ...]  # per channel: what its images are normalised with
    std: tuple[float, ...]
    images: np.ndarray  # uint8 or float [n, channels, size, size]
    classes: np.ndarray  # int64 [n]
    bytes_labels: dict[str, int] | None
    invalid_labels: dict[str, int] | None  # see bench.records.schema.InvalidLabels


def student_course(
    ws: Workspace,
    trial: Trial,
    dataset: DatasetRef,
    condensed: CondensedRef,
    labels: Sequence[LabelsRef],
    labellers: Sequence[teacher_files.TeacherRef],
    recipe: Recipe,
) -> Course:
    """The course of the training of a trial's student. Arguments as of `train_student`."""
    decides = {
        "engine": ENGINE_VERSION,
        "student": trial.as_dict(),
        "network": parse(ws.registry, "network", trial.student).plugin.digest,
        "recipe": recipe.model_dump(mode="json"),
        "dataset": dataset.digest,
        "condensed": condensed.address,
        "labels": [each.address for each in labels],
        "teachers": [each.identity for each in labellers],
    }
    return kept_course(ws.store, f"student {trial}", decides, ws.device)


def train_student(
    ws: Workspace,
    trial: Trial,
    dataset: DatasetRef,
    condensed: CondensedRef,
    labels: Sequence[LabelsRef],
    labellers: Sequence[teacher_files.TeacherRef],
    recipe: Recipe,
    on_epoch_end: Callable[[int, torch.nn.Module], None] | None = None,
    course: Course | None = None,
) -> Trained:
    """The student of a trial, trained by `recipe`. Arguments as of bench.stages.evaluate.evaluate; `course`: see
    `student_course`."""
    data = ws.described(dataset)
    mean, std = statistics(recipe.normalisation, data.dataset)
    train_set = read_condensed(ws, condensed)
    images, classes = (np.array(train_set.arrays[name]) for name in ("images", "labels"))
    reader, teacher = None, None
    if trial.compressor is not None:
        reader = _reader(ws, trial.compressor, condensed, labels)
    if recipe.labels == "online":
        members = [loaded.member(ref, ws.store, ws.registry, data, device=ws.device) for ref in labellers]
        teacher = ensemble_of(members, recipe).online(mean, std)
    coordinates = ("student", seeded_as(trial.protocol), trial.dataset, trial.ipc, trial.student, trial.replicate)
    student = build_network(
        parse(ws.registry, "network", trial.student),
        channels=dataset.channels,
        size=dataset.size,
        classes=dataset.classes,
        seed=seed(*coordinates, "init"),
    ).to(ws.device)
    log = train(
        student,
        torch.from_numpy(images),
        torch.from_numpy(classes),
        recipe,
        coordinates=coordinates,
        mean=mean,
        std=std,
        mirror=dataset.mirror,
        device=ws.device,
        reader=reader,
        teacher=teacher,
        on_epoch_end=on_epoch_end,
        course=course,
    )
    sizes, invalid = (None, None) if reader is None else (reader.sizes(), reader.invalid)
    return Trained(student, log, mean, std, images, classes, sizes, invalid)


def _reader(ws: Workspace, compressor: str, condensed: CondensedRef, labels: Sequence[LabelsRef]) -> EncodedLabels:
    parts = [read(ws.store.root / ref.address) for ref in labels]
    file = LabelFile(
        parts[0].arrays["views"].tobytes(),
        parts[0].arrays["shared"].tobytes(),
        tuple(part.arrays["blob"].tobytes() for part in parts),
    )
    return EncodedLabels(file, parse(ws.registry, "compressor", compressor).plugin.module, condensed.images, compressor)
