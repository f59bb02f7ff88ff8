"""Teachers, training dynamics and students that are killed at three places each: the same bits, and nothing is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.artifacts import store as artifacts
from bench.artifacts.describe import describe
from bench.artifacts.refs import DatasetRef, Workspace
from bench.plugins.registry import discover
from bench.stages.condense import condense
from bench.stages.evaluate import evaluate
from bench.stages.teach import teach
from bench.teachers import dynamics_recipes
from bench.teachers.dynamics import dynamics
from bench.teachers.teacher_files import UnusedTeacher
from bench.training import loop
from bench.training.course import Course
from bench.trials.trial import Trial
from tests.worlds.kills import die, die_after, keep_every_epoch, killed
from tests.worlds.run import PROTOCOL, make_world

pytestmark = pytest.mark.trains
EPOCHS = 4
TEACHER = """
network = "convnet:width=4"
[recipe]
epochs = 4
batch = 16
optimizer = { name = "sgd", momentum = 0.9 }
"""


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch):
    keep_every_epoch(monkeypatch)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def world(tmp_path: Path) -> Callable[[str], tuple[Workspace, DatasetRef]]:
    """A workspace in a store of its own, with the small data set described."""
    made = make_world(tmp_path)
    long = PROTOCOL.format(labels="hard", views=0, loss="ce").replace("epochs = 2", f"epochs = {EPOCHS}")
    made.add("long-hard.toml", long)
    made.add("own.toml", TEACHER)

    def opened(store: str) -> tuple[Workspace, DatasetRef]:
        ws = Workspace(tmp_path / store, discover(made.plugins))
        return ws, describe(ws, "tiny")

    return opened


def a_teacher(ws: Workspace, dataset: DatasetRef) -> Any:
    return teach(ws, "own", dataset)


def its_dynamics(ws: Workspace, dataset: DatasetRef) -> Any:
    artifact = dynamics(ws.store, ws.registry, ws.described(dataset), dataset.digest, EPOCHS)
    return np.array(artifact.arrays["probabilities"]).tobytes()


def a_student(ws: Workspace, dataset: DatasetRef) -> Any:
    trial = Trial("tiny", "long-hard", "first", 2, None, None, "convnet:width=4", 0)
    condensed = condense(ws, trial.method, dataset, UnusedTeacher("small-teacher-v1"), trial.ipc, 0)
    measured = evaluate(ws, trial, dataset, condensed)
    return {name: measured[name] for name in ("accuracy", "test_loss", "train_loss", "steps", "images_seen")}


PLACES = {
    "early": lambda patch: die_after(1, patch),
    "in the middle": lambda patch: die_after(EPOCHS - 1, patch),
    "between the last epoch and the write": lambda patch: (
        patch.setattr(artifacts, "write", die),
        patch.setattr(loop, "evaluate", die),
    ),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("training", [a_teacher, its_dynamics, a_student])
def test_the_same_bits_after_a_kill_and_no_checkpoint_is_left(world, monkeypatch, training, place):
    monkeypatch.setattr(dynamics_recipes, "EMBEDDED", "own")
    expected = training(*world("whole"))
    ws, dataset = world("cut")
    condense(ws, "first", dataset, UnusedTeacher("small-teacher-v1"), 2, 0)  # in no child of a child
    killed(lambda: training(ws, dataset), prepare=lambda: PLACES[place](monkeypatch))
    assert list((ws.store.root / "checkpoints").glob("*/state.safetensors"))

    trained: list[int] = []
    monkeypatch.setattr(Course, "step", lambda _, images: trained.append(images))
    assert training(ws, dataset) == expected
    an_epoch = 6 if training is a_student else 48  # images
    done = {"early": 1, "in the middle": EPOCHS - 1}.get(place, EPOCHS)
    assert sum(trained) == an_epoch * (EPOCHS - done)
    assert not list((ws.store.root / "checkpoints").iterdir())
