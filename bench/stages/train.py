"""The training of a trial's student, from what the stages before it made; the test split stays closed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from bench.artifacts.opened import Data
from bench.artifacts.pixels import mapped_tensor
from bench.artifacts.refs import CondensedRef, DatasetRef, LabelsRef, Workspace, read_condensed
from bench.artifacts.store import Artifact, read
from bench.confinement.process import PluginProcess
from bench.engine import ENGINE_VERSION
from bench.errors import UserError
from bench.labels.label_file import LabelFile
from bench.labels.learned import LearnedLabels
from bench.labels.reader import EncodedLabels
from bench.plugins.spec import parse
from bench.protocol.options import seeded_as
from bench.protocol.recipe import Recipe
from bench.seeds import Coordinate, seed
from bench.stages.foreign_codec import codec_of
from bench.stages.points import Point
from bench.teachers import loaded, teacher_files
from bench.teachers.ensemble import ensemble_of
from bench.training.course import Course, kept_course
from bench.training.loop import TrainLog, train
from bench.training.networks import build_network
from bench.training.normalisation import statistics
from bench.training.slimming import slimmed
from bench.trials.trial import Trial

WHOLE = Point()


@dataclass(frozen=True)
class Trained:
    """A student after its training, and what it was trained on."""

    student: torch.nn.Module
    log: TrainLog
    mean: tuple[float, ...]  # per channel: what its images are normalised with
    std: tuple[float, ...]
    images: np.ndarray  # uint8 or float [n, channels, size, size], mapped
    classes: np.ndarray  # int64 [n]
    soft_labels: np.ndarray | None  # float [n, C]: those of the method, where the protocol trains on them
    bytes_labels: dict[str, int] | None
    invalid_labels: dict[str, int] | None  # see bench.records.schema.InvalidLabels
    conduct: tuple[str, ...] | None = (
        None  # what a compressor that a plugin gives did beside its task, while it decoded
    )


def student_course(
    ws: Workspace,
    trial: Trial,
    dataset: DatasetRef,
    condensed: CondensedRef,
    labels: Sequence[LabelsRef],
    labellers: Sequence[teacher_files.TeacherRef],
    recipe: Recipe,
    point: Point = WHOLE,
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
    if point.name:
        decides["point"] = list(point.name)
    return kept_course(ws.store, " ".join(map(str, ("student", trial, *point.name))), decides, ws.device)


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
    point: Point = WHOLE,
) -> Trained:
    """The student of a trial, trained by `recipe`. Arguments as of bench.stages.evaluate.evaluate; `course`: see
    `student_course`; `point`: which student, where the trial trains several."""
    data = ws.described(dataset)
    mean, std = statistics(recipe.normalisation, data.dataset)
    train_set = read_condensed(ws, condensed)
    rows = point.rows(train_set.arrays["labels"])
    images, classes = train_set.arrays["images"], np.array(train_set.arrays["labels"])[rows]
    if len(rows) < len(images):
        images = images[rows]  # else they stay mapped
    teacher = None
    if recipe.labels == "online":
        members = [loaded.member(ref, ws.store, ws.registry, data, device=ws.device) for ref in labellers]
        teacher = ensemble_of(members, recipe).online(mean, std)
    coordinates = (*coordinates_of(trial), *point.name)
    if point.kept is None:
        student = build_network(
            parse(ws.registry, "network", trial.student),
            channels=dataset.channels,
            size=dataset.size,
            classes=dataset.classes,
            seed=seed(*coordinates, "init"),
        ).to(ws.device)
    else:
        student = slimmed(_whole_network(ws, trial, data, labellers[-1]), point.kept)
    soft_labels = _soft_labels(trial, train_set)[rows] if recipe.labels == "learned" else None
    learned = None
    if soft_labels is not None:
        learned = LearnedLabels(soft_labels, recipe, size=dataset.size, mirror=dataset.mirror, coordinates=coordinates)
    with _reader(ws, trial, dataset, condensed, labels) as (stored, process):
        reader = stored or learned
        log = train(
            student,
            mapped_tensor(images),
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
    conduct = None if process is None else process.conduct
    return Trained(student, log, mean, std, images, classes, soft_labels, sizes, invalid, conduct)


def coordinates_of(trial: Trial) -> tuple[Coordinate, ...]:
    """What seeds a trial's students: all that the protocol fixes for them, and the replicate; not the method."""
    return ("student", seeded_as(trial.protocol), trial.dataset, trial.ipc, trial.student, trial.replicate)


def _whole_network(ws: Workspace, trial: Trial, data: Data, ref: teacher_files.TeacherRef) -> torch.nn.Module:
    """The network that is slimmed, with its weights. Raises UserError where it is not the trial's student."""
    if ref.network != trial.student:
        raise UserError(
            f"--student {trial.student}: protocol '{trial.protocol}' slims its teacher {ref.recipe}, which is the "
            f"network {ref.network}. Leave --student out."
        )
    return loaded.load(ref, ws.store, ws.registry, data, device=ws.device)


def _soft_labels(trial: Trial, condensed: Artifact) -> np.ndarray:
    """The labels that the method handed in. Raises UserError where it handed in none."""
    if "soft_labels" not in condensed.arrays:
        raise UserError(
            f"method '{trial.method}' hands in no labels (Condensed.soft_labels), and protocol '{trial.protocol}' "
            "trains on those of the method. Name a method that has some, or a protocol with labels of its own."
        )
    return np.array(condensed.arrays["soft_labels"])


@contextmanager
def _reader(
    ws: Workspace, trial: Trial, dataset: DatasetRef, condensed: CondensedRef, labels: Sequence[LabelsRef]
) -> Iterator[tuple[EncodedLabels | None, PluginProcess | None]]:
    """(the reader of the encoded labels, if there are any; the process of a compressor that a plugin gives)."""
    if trial.compressor is None:
        yield None, None
        return
    spec = parse(ws.registry, "compressor", trial.compressor)
    parts = [read(ws.store.root / ref.address).arrays for ref in labels]
    blobs = tuple(part["blob"].data for part in parts)  # mapped: the students of one machine share them
    file = LabelFile(parts[0]["views"].tobytes(), parts[0]["shared"].tobytes(), blobs)
    with codec_of(ws, spec, dataset, None, ("decode", str(spec))) as (module, process):
        yield EncodedLabels(file, module, condensed.images, trial.compressor), process
