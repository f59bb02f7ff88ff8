"""The stage that trains a student and tests it once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from bench import machine
from bench.artifacts import duplicates
from bench.artifacts.opened import TestSplit
from bench.artifacts.refs import CondensedRef, DatasetRef, LabelsRef, Workspace
from bench.errors import MachineError
from bench.stages.isolation import refuse_after_method_code
from bench.stages.points import Point, points
from bench.stages.train import Trained, coordinates_of, student_course, train_student
from bench.teachers.teacher_files import TeacherRef
from bench.training import loop
from bench.training.course import Course
from bench.training.loop import TrainingDiverged
from bench.training.peak_memory import PeakMemory
from bench.training.slimming import parameters_of
from bench.training.speed_ups import speed_ups
from bench.trials.cell import cell_recipe
from bench.trials.trial import Trial


def evaluate(
    ws: Workspace,
    trial: Trial,
    dataset: DatasetRef,
    condensed: CondensedRef,
    labels: Sequence[LabelsRef] = (),
    labellers: Sequence[TeacherRef] = (),
) -> dict[str, Any]:
    """Train the student (every student of the trial), then open the test split, once. Returns the measured fields of
    the record.

    Args:
        ws, trial, dataset, condensed: what is evaluated.
        labels: every shard of the encoded labels, for stored labels.
        labellers: the protocol's teachers, for online labels, and where the last one is slimmed.
    """
    started = time.perf_counter()
    _, recipe = cell_recipe(ws.registry, trial, dataset.classes)
    data = ws.described(dataset)
    opened_before = len(data.opened)
    students = points(recipe, dataset.classes, coordinates_of(trial))
    inputs = (ws, trial, dataset, condensed, labels, labellers, recipe)
    memory = PeakMemory(ws.device)
    every: list[Trained] = []
    courses: list[Course] = []
    for point in students:
        courses.append(student_course(*inputs, point=point))
        try:
            every.append(train_student(*inputs, course=courses[-1], point=point))
        except TrainingDiverged:
            for course in courses:
                course.end()
            raise
    trained, logs = every[-1], [each.log for each in every]
    seconds, peak = time.perf_counter() - started, memory.above()
    _keep_losses(ws, trial, condensed, labels, trained.log.losses)
    refuse_after_method_code()
    if ws.checks:
        ws.same(dataset, "test", data.dataset.test().digest(), dataset.test_digest)
    images, targets = data.test_images()
    results = [_tested(point, each, images, targets) for point, each in zip(students, every, strict=True)]
    measured = results[-1]
    for course in courses:
        course.end()
    return {
        "accuracy": measured.accuracy,
        "test_loss": measured.loss,
        "num_test": measured.n,
        "curve": _curve(students, every, results, dataset.classes) if len(students) > 1 else None,
        "test_opened": len(data.opened) - opened_before,
        "measured_after": len(trained.log.losses),
        "train_loss": trained.log.losses[-1],
        "steps": sum(log.steps for log in logs),
        "images_seen": sum(log.images_seen for log in logs),
        "epochs": recipe.epochs,
        "condensed": duplicates.condensed_facts(
            trained.images,
            trained.classes,
            images,
            classes=dataset.classes,
            train_in_test=dataset.train_in_test,
            soft_labels=trained.soft_labels,
        ),
        "bytes_labels": trained.bytes_labels,
        "invalid_labels": trained.invalid_labels,
        "conduct": trained.conduct,
        "environment": {**machine.environment(), **_environment(ws.device)},
        "seconds": {
            "train": max(seconds, sum(log.seconds for log in logs)),
            "test": time.perf_counter() - started - seconds,
        },
        "peak_bytes": {"train": peak} if memory.exact else None,
    }


def _keep_losses(
    ws: Workspace, trial: Trial, condensed: CondensedRef, labels: Sequence[LabelsRef], losses: Sequence[float]
) -> None:
    """Keep the training loss of every epoch in the store, for plots: records tell the last one alone. A store that has
    no room for it costs no result."""
    inputs = {
        "trial": trial.as_dict(),
        "condensed": condensed.address,
        "labels": [each.address for each in labels],
        "last": losses[-1],
    }
    with suppress(MachineError, OSError):
        ws.store.get("losses", inputs, lambda: ({"losses": np.array(losses, np.float64)}, {}))


def _tested(point: Point, trained: Trained, images: torch.Tensor | TestSplit, targets: torch.Tensor) -> loop.Evaluation:
    """A student on the test images of the classes that it has seen."""
    if point.classes is not None:
        rows = point.rows(targets.numpy())
        images = images.only(rows) if isinstance(images, TestSplit) else images[torch.from_numpy(rows)]
        targets = point.targets(targets[torch.from_numpy(rows)])
    return loop.evaluate(point.tested(trained.student), images, targets, mean=trained.mean, std=trained.std)


def _curve(
    students: Sequence[Point], every: Sequence[Trained], results: Sequence[loop.Evaluation], classes: int
) -> list[dict[str, Any]]:
    """The fields of bench.records.schema.Point, student by student."""
    return [
        {
            "classes": classes if point.classes is None else len(point.classes),
            "parameters": parameters_of(trained.student),
            "num_test": measured.n,
            "accuracy": measured.accuracy,
            "test_loss": measured.loss,
            "train_loss": trained.log.losses[-1],
        }
        for point, trained, measured in zip(students, every, results, strict=True)
    ]


def _environment(device: str) -> dict[str, str]:
    """Of the training: threads of torch, the device, and speed-ups where there were any."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else device
    faster = {"speed_ups": ", ".join(speed_ups())} if speed_ups() else {}
    return {"threads": str(torch.get_num_threads()), "device": name, **faster}
