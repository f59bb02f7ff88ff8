"""The stage that trains a student and tests it once."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from bench import machine
from bench.artifacts import duplicates
from bench.artifacts.refs import CondensedRef, DatasetRef, LabelsRef, Workspace
from bench.stages.isolation import refuse_after_method_code
from bench.stages.train import student_course, train_student
from bench.teachers.teacher_files import TeacherRef
from bench.training import loop
from bench.training.loop import TrainingDiverged
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
    course = student_course(ws, trial, dataset, condensed, labels, labellers, recipe)
    try:
        trained = train_student(ws, trial, dataset, condensed, labels, labellers, recipe, course=course)
    except TrainingDiverged:
        course.end()
        raise
    seconds = time.perf_counter() - started
    refuse_after_method_code()
    if ws.checks:
        ws.same(dataset, "test", data.dataset.test().digest(), dataset.test_digest)
    images, targets = data.test_images()
    measured = loop.evaluate(trained.student, images, targets, mean=trained.mean, std=trained.std)
    course.end()
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
            images,
            classes=dataset.classes,
            train_in_test=dataset.train_in_test,
        ),
        "bytes_labels": trained.bytes_labels,
        "invalid_labels": trained.invalid_labels,
        "conduct": trained.conduct,
        "environment": {**machine.environment(), **_environment(ws.device)},
        "seconds": {"train": max(seconds, trained.log.seconds), "test": time.perf_counter() - started - seconds},
    }


def _environment(device: str) -> dict[str, str]:
    """Of the training: threads of torch, the device, and speed-ups where there were any."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else device
    faster = {"speed_ups": ", ".join(speed_ups())} if speed_ups() else {}
    return {"threads": str(torch.get_num_threads()), "device": name, **faster}
