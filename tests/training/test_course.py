"""A training that is killed goes on to the same bits; a short one keeps nothing; a long one says how far it is."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bench.protocol.recipe import Optimizer, Schedule
from bench.training import checkpoint, course
from bench.training.course import Course
from bench.training.loop import TrainLog
from bench.training.standing import Standing
from tests.worlds.kills import die_after, keep_every_epoch, killed
from tests.worlds.lessons import CLASSES, hard, network, online, run, same, soft, stored, weights

pytestmark = pytest.mark.trains
EPOCHS = 6
SGD = Optimizer(name="sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
RESTARTS = Schedule(name="multistep", milestones=(2, 4), restart=True)
BY_LOSS = Schedule(name="loss-driven", gamma=0.5, loss_fall=10.0, loss_fall_share=0.99)  # falls in the first epochs
WAYS = {  # recipe, and what goes with it
    "adamw, an average of the parameters": lambda: (hard(EPOCHS, ema=0.9), {}),
    "sgd with restarts": lambda: (hard(EPOCHS, optimizer=SGD, schedule=RESTARTS), {}),
    "a rate by the losses of past epochs": lambda: (hard(EPOCHS, schedule=BY_LOSS), {}),
    "stored labels": lambda: (soft(EPOCHS), {"reader": stored()}),
    "a teacher online": lambda: (online(EPOCHS), {"teacher": lambda x: x.flatten(1)[:, :CLASSES] * 3}),
}


@pytest.fixture(autouse=True)
def _every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_every_epoch(monkeypatch)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("saves", "midway"), [(1, True), (3, True), (EPOCHS, False)])
@pytest.mark.parametrize("way", WAYS)
def test_after_a_kill_it_goes_on_to_the_same_bits(tmp_path, monkeypatch, way, saves, midway):
    recipe, more = WAYS[way]()
    whole = network(dropout=0.5)
    log = run(whole, recipe, **more)

    def train() -> tuple[nn.Module, TrainLog, list[Standing]]:
        student, told = network(dropout=0.5), []
        again = run(student, recipe, course=Course("a student", tmp_path / "kept", told.append), **more)
        return student, again, told

    killed(train, prepare=lambda: die_after(saves, monkeypatch, midway=midway))
    student, again, told = train()
    assert same(weights(student), weights(whole))
    assert (again.losses, again.steps, again.images_seen) == (log.losses, log.steps, log.images_seen)
    assert len(told) == (EPOCHS - saves) * log.steps // EPOCHS  # only what was left was trained


def test_a_training_of_seconds_keeps_nothing_and_tells_nothing(tmp_path, monkeypatch):
    for name, seconds in (("TELL_AFTER", 10.0), ("KEEP_EVERY", 60.0)):
        monkeypatch.setattr(course, name, seconds)
    told: list[Standing] = []
    run(network(), hard(EPOCHS), course=Course("a student", tmp_path / "kept", told.append))
    assert not told
    assert not (tmp_path / "kept").exists()


def test_checkpoints_take_no_larger_share_of_the_time_than_they_may(tmp_path, monkeypatch):
    """On a clock of its own: an epoch takes a second, a checkpoint ten; a hundredth of the time is for checkpoints."""
    clock, saves = [0.0], []
    monkeypatch.setattr(course.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(course, "KEEP_SHARE", 100)

    def save(*_: object) -> None:
        clock[0] += 10.0
        saves.append(clock[0])

    monkeypatch.setattr(checkpoint, "save", save)
    long = Course("a teacher", tmp_path)
    parts = SimpleNamespace(tensors=dict)
    long.begin(5000, 10, parts)
    for _ in range(4999):
        clock[0] += 1.0
        long.epoch_ends(parts, {})
    assert 10 * len(saves) <= 0.02 * clock[0]
    assert len(saves) >= 4


def test_a_damaged_checkpoint_is_none(tmp_path):
    folder = tmp_path / "kept"
    run(network(), hard(EPOCHS), course=Course("a student", folder))
    (folder / checkpoint.FILE).write_bytes(b"cut")
    assert checkpoint.load(folder) is None
    again, whole = network(), network()
    run(again, hard(EPOCHS), course=Course("a student", folder))
    run(whole, hard(EPOCHS))
    assert same(weights(again), weights(whole))


def test_a_course_says_epochs_rate_and_time_left_and_goes_when_it_ends(tmp_path, monkeypatch):
    clock, told = [0.0], []
    monkeypatch.setattr(course.time, "monotonic", lambda: clock[0])
    long = Course("teacher x on y", tmp_path / "kept", told.append)
    long.begin(200, 1000, None)
    for _ in range(30):
        clock[0] += 1.0
        long.step(100)
    assert str(told[-1]) == "teacher x on y: epoch 3.0 of 200, 100 images/s, 32 min 50 s left"
    (tmp_path / "kept").mkdir()
    long.end()
    assert not (tmp_path / "kept").exists()


def test_a_longer_recipe_may_be_stopped_and_its_first_epochs_are_the_same():
    recipe = hard(EPOCHS, schedule=Schedule(name="cosine"))
    whole, part = network(), network()
    after: list[list[torch.Tensor]] = []
    run(whole, recipe, on_epoch_end=lambda _, student: after.append(weights(student)))
    log = run(part, recipe, stop_after=2)
    assert len(log.losses) == 2
    assert same(weights(part), after[1])
