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
from bench.artifacts.refs import CondensedRef, DatasetRef, LabelsRef, Workspace
from bench.errors import MachineError
from bench.stages.isolation import refuse_after_method_code
from bench.stages.train import student_course, train_student
from bench.teachers.teacher_files import TeacherRef
from bench.training import loop
from bench.training.loop import TrainingDiverged
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
    _keep_losses(ws, trial, condensed, labels, trained.log.losses)
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
        "environment": {**machine.environment(), "threads": str(torch.get_num_threads()), "device": _device(ws.device)},
        "seconds": {"train": max(seconds, trained.log.seconds), "test": time.perf_counter() - started - seconds},
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


def _device(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else device
