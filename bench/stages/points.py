"""The students that a trial trains: one, or under protocols of continual learning and network slimming several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from bench.protocol.recipe import Recipe
from bench.seeds import Coordinate, seed
from bench.views.parameters import permutation


@dataclass(frozen=True)
class Point:
    """One student of a trial: what it is trained and tested on, and what it begins from."""

    name: tuple[Coordinate, ...] = ()  # its part of the coordinates that seed its training
    classes: np.ndarray | None = None  # int64, ascending: those that it has seen; None: all
    kept: float | None = None  # share of the channels of the protocol's last teacher; None: a fresh network

    def rows(self, labels: np.ndarray) -> np.ndarray:
        """int64, ascending: where labels are of its classes."""
        return np.arange(len(labels)) if self.classes is None else np.flatnonzero(np.isin(labels, self.classes))

    def tested(self, student: nn.Module) -> nn.Module:
        """The student as it is tested: it chooses among its classes."""
        return student if self.classes is None else _Among(student, self.classes)

    def targets(self, labels: torch.Tensor) -> torch.Tensor:
        """Labels of its classes as places among them, int64."""
        return labels if self.classes is None else torch.from_numpy(np.searchsorted(self.classes, labels.numpy()))


class _Among(nn.Module):
    """A student whose logits are those of some classes."""

    def __init__(self, student: nn.Module, classes: np.ndarray) -> None:
        super().__init__()
        self._student, self._classes = student, torch.from_numpy(classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._student(x)
        return logits[:, self._classes.to(logits.device)]


def points(recipe: Recipe, classes: int, coordinates: Sequence[Coordinate]) -> list[Point]:
    """The students of a trial in their order.

    Args:
        recipe: of the trial's cell.
        classes: of the data set.
        coordinates: name the trial's training (protocol and replicate): the order in which classes come hangs on them,
            not on the method.
    """
    if recipe.class_steps:
        order = permutation(seed("classes", *coordinates), classes)
        return [
            Point(("step", number), np.sort(order[:count]).astype(np.int64))
            for number, count in enumerate(recipe.trainings(classes), 1)
        ]
    return [Point(("kept", repr(share)), kept=share) for share in recipe.kept_channels] or [Point()]
