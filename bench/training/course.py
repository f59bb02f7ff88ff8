"""The course of a long training: how far it is, when it will end, and checkpoints from which it goes on after a kill.

A method that learns in steps has one as well (bench/stages/steps.py): its steps are epochs of one image.

A training of seconds is told to nobody and keeps nothing. Both begin with the time that has passed, never with a number
of epochs, so that neither costs more than a hundredth of the training.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from bench.artifacts.store import Store
from bench.fingerprint import digest
from bench.training import checkpoint
from bench.training.speed_ups import speed_ups
from bench.training.standing import Standing, Watch, watch_of_this_process

TELL_AFTER = 10.0  # seconds of training, and
TELL_EVERY = 2.0  # seconds between two words of it
KEEP_EVERY = 60.0  # seconds between two checkpoints, but
KEEP_SHARE = 100  # times as long as writing one takes


class Moving(Protocol):
    """The moving parts of a training (bench.training.checkpoint.Parts), or of a method."""

    def tensors(self) -> dict[str, torch.Tensor]:
        """Copies of everything that changes, by name, on the CPU."""
        ...

    def restore(self, kept: dict[str, torch.Tensor]) -> None:
        """The inverse of `tensors`, in place."""
        ...


class Kept(Protocol):
    """What grows beside the network."""

    def keep(self, folder: Path) -> None:
        """Write what is new into the folder of the checkpoint."""
        ...

    def restore(self, folder: Path, epochs: int) -> None:
        """Read back what belongs to so many epochs."""
        ...


class Course:
    """The course of one training run.

    Args:
        name: what is trained, for people.
        folder: of its checkpoints, of nobody else's: everything that decides the training must be in the folder's name.
            None: nothing is kept.
        watch: is told how far it is.
        also: what grows beside the network and is kept with it.
        unit: what the watch is told of: "epoch" or "step".
    """

    def __init__(
        self,
        name: str = "",
        folder: Path | None = None,
        watch: Watch | None = None,
        also: Kept | None = None,
        unit: str = "epoch",
    ) -> None:
        self.name, self.folder, self._watch, self.also, self._unit = name, folder, watch, also, unit
        self._began = self._told = self._kept = time.monotonic()
        self._took = 0.0  # seconds that the last checkpoint took
        self._epoch, self._epochs, self._per_epoch = 0, 1, 1
        self._first, self._seen = 0, 0

    def loop(self, number: int) -> Course:
        """The course of one loop of a method that has several: its steps are told, its checkpoints lie below."""
        folder = None if self.folder is None else self.folder / str(number)
        return Course(self.name, folder, self._watch, unit="step")

    def begin(self, epochs: int, images: int, parts: Moving) -> dict[str, Any] | None:
        """Go on where a run before was stopped: the parts are restored, and the facts that were kept are returned; None
        at the beginning. `epochs` of `images` images are to come in all."""
        self._epochs, self._per_epoch = epochs, images
        self._began = self._told = self._kept = time.monotonic()
        found = checkpoint.load(self.folder) if self.folder is not None else None
        if found is None:
            return None
        tensors, facts = found
        parts.restore(tensors)
        if self.also is not None and self.folder is not None:
            self.also.restore(self.folder, facts["epochs_done"])
        self._epoch = self._first = facts["epochs_done"]
        return facts

    def step(self, images: int) -> None:
        """So many images more were seen."""
        self._seen += images
        now = time.monotonic()
        if self._watch is not None and now - self._began >= TELL_AFTER and now - self._told >= TELL_EVERY:
            self._told = now
            done = self._first + self._seen / self._per_epoch
            rate = self._seen / (now - self._began)
            left = max(0.0, (self._epochs - done) * self._per_epoch / rate)
            self.tell(Standing(self.name, min(done, self._epochs), self._epochs, rate, left, self._unit))

    def epoch_ends(self, parts: Moving, facts: dict[str, Any]) -> None:
        """An epoch is over: keep a checkpoint where it is time. The last epoch is kept as well: what comes after the
        training can be cut short too."""
        self._epoch += 1
        now = time.monotonic()
        long_enough = now - self._kept >= max(KEEP_EVERY, KEEP_SHARE * self._took)
        last = self._epoch == self._epochs and now - self._began >= KEEP_EVERY
        if self.folder is not None and (long_enough or last):
            if self.also is not None:
                self.also.keep(self.folder)
            self.save(self.folder, parts.tensors(), {**facts, "epochs_done": self._epoch})
            self._kept = time.monotonic()
            self._took = self._kept - now

    def save(self, folder: Path, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        """Write a checkpoint into its folder."""
        checkpoint.save(folder, tensors, facts)

    def end(self) -> None:
        """What was trained lies in its place: the checkpoint goes, and nothing more is told."""
        if self.folder is not None:
            checkpoint.remove(self.folder)
        self.tell(None)

    def tell(self, standing: Standing | None) -> None:
        """Tell the watch, if there is one; None: it is over."""
        if self._watch is not None:
            self._watch(standing)


def kept_course(store: Store, name: str, decides: Mapping[str, Any], device: str, also: Kept | None = None) -> Course:
    """A course that keeps its checkpoints in the store.

    Args:
        store: the artifacts' store; the checkpoints lie beside them.
        name: what is trained, for people.
        decides: everything that decides the training, but the machine's arithmetic.
        device: where it runs.
        also: what grows beside the network.
    """
    here = {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": device}
    here |= {"speed_ups": speed_ups()} if speed_ups() else {}
    address = digest({**decides, **here, "arithmetic": store.arithmetic})[:32]
    return Course(name, store.root / "checkpoints" / address, watch_of_this_process(), also)
