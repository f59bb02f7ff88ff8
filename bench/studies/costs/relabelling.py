"""Where the time of relabelling goes: reading images, drawing and rendering views, the teachers, storing the labels.

Rethinking Large-scale Dataset Compression, table 26. The labels are made by the code of a run, with clocks in it. On a
GPU a clock waits until the device has done its work; then nothing overlaps, and a run may be faster than the sum.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bench.artifacts.artifact_file import write
from bench.artifacts.pixels import mapped_tensor
from bench.artifacts.refs import read_condensed
from bench.labels.making import teacher_logits
from bench.stages.label import Labelling
from bench.teachers.ensemble import Ensemble, Member, teacher_batches
from bench.views.parameters import View

STAGES = ("reading", "augmentation", "teacher", "storing", "other")


@dataclass(frozen=True)
class Profile:
    """Of one label set."""

    images: int
    views: int
    classes: int
    teachers: int
    label_bytes: int  # float16 logits
    seconds: dict[str, float]  # of each of STAGES, by the clock on the wall
    device: str

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())


class Clock:
    """Seconds by stage. Work inside a stage counts for the innermost one."""

    def __init__(self, device: torch.device | str) -> None:
        self.seconds = defaultdict[str, float](float)
        self._cuda = torch.device(device).type == "cuda"
        self._stages, self._since = ["other"], 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """The time of a block."""
        self._stop()
        self._stages.append(name)
        try:
            yield
        finally:
            self._stop()
            self._stages.pop()

    def start(self) -> None:
        """Begin to count, for "other"."""
        self._wait()
        self.seconds.clear()
        self._since = time.perf_counter()

    def _stop(self) -> None:
        self._wait()
        now = time.perf_counter()
        self.seconds[self._stages[-1]] += now - self._since
        self._since = now

    def end(self) -> dict[str, float]:
        """Seconds of each of STAGES, until now."""
        self._stop()
        return {name: self.seconds[name] for name in STAGES}

    def _wait(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()


class TimedEnsemble(Ensemble):
    """Teachers whose images and answers are timed."""

    def __init__(self, ensemble: Ensemble, clock: Clock) -> None:
        super().__init__(ensemble.members, norm_mean=ensemble.norm_mean, train_mode=ensemble.train_mode)
        self._clock = clock

    def shown(self, images: torch.Tensor, view: View, rows: np.ndarray, member: Member) -> torch.Tensor:
        """As Ensemble.shown."""
        with self._clock.stage("augmentation"):
            return super().shown(images, view, rows, member)

    def answer(self, member: Member, shown: torch.Tensor) -> torch.Tensor:
        """As Ensemble.answer."""
        with self._clock.stage("teacher"):
            return super().answer(member, shown)


def profile(labelling: Labelling) -> Profile:
    """Make the labels of a condensed set once more, and see where the time goes.

    One batch is labelled before the clocks start: what libraries prepare on first use is not counted. The file of the
    images is put out of the system's cache first, where the system does that.
    """
    ws, recipe, condensed = labelling.ws, labelling.recipe, labelling.condensed
    clock = Clock(ws.device)
    ensemble = TimedEnsemble(labelling.ensemble, clock)
    norms = labelling.norms()
    first = teacher_batches(labelling.shards[0])[0]
    if not ensemble.train_mode:  # where batches are whole ones, one is all of them
        ensemble.say(labelling.images, labelling.views[0], first)
    _forget(ws.store.root / condensed.address)
    stored = 0
    with ws.store.scratch() as scratch:
        clock.start()
        with clock.stage("reading"):
            images = mapped_tensor(read_condensed(ws, condensed).arrays["images"]).clone().to(ws.device)
        for number, indices in enumerate(labelling.shards):
            logits = teacher_logits(ensemble, images, labelling.views, indices, norms).numpy()
            stored += logits.nbytes
            with clock.stage("storing"):
                write(scratch / f"{number}.safetensors", {"logits": logits}, {})
        seconds = clock.end()
    return Profile(
        images=condensed.images,
        views=recipe.views,
        classes=labelling.dataset.classes,
        teachers=len(ensemble.members),
        label_bytes=stored,
        seconds=seconds,
        device=ws.device,
    )


def _forget(file: Path) -> None:
    """Put a file out of the system's cache, so that it is read from the disk again; a wish that it may ignore."""
    if hasattr(os, "posix_fadvise"):
        with file.open("rb") as handle:
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
