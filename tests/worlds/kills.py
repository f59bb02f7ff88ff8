"""Trainings that are killed at a place of the test's choice, as a machine kills them: by SIGKILL."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import NoReturn

import pytest

from bench.training import checkpoint, course
from bench.training.course import Course


def keep_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints after every epoch and a word after every batch, however short the training is."""
    for name in ("TELL_AFTER", "TELL_EVERY", "KEEP_EVERY", "KEEP_SHARE"):
        monkeypatch.setattr(course, name, 0.0)


def die(*_: object, **__: object) -> NoReturn:
    """Nothing of this process is left, nothing is put in order."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError  # never reached


def killed(train: Callable[[], object], *, prepare: Callable[[], object]) -> None:
    """Train in a child process that `prepare` has made mortal, and see it killed."""
    child = os.fork()
    if not child:
        try:
            prepare()
            train()
        finally:
            os._exit(1)  # it was to be killed
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


def die_after(saves: int, monkeypatch: pytest.MonkeyPatch, *, midway: bool = True) -> None:
    """Die after so many checkpoints: at once, or in the middle of the epoch that follows."""
    kept, save = [], checkpoint.save

    def count(*args: object) -> None:
        save(*args)  # type: ignore[arg-type]
        kept.append(args)
        if len(kept) == saves and not midway:
            die()

    def step(self: Course, images: int, original: Callable[..., None] = Course.step) -> None:
        original(self, images)
        if len(kept) == saves and midway:
            die()

    monkeypatch.setattr(checkpoint, "save", count)
    monkeypatch.setattr(Course, "step", step)
