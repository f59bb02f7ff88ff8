"""A context whose shared artifacts are given arrays, and a split to go with it: for tests of selection methods."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.worlds.fakes import FakeContext, FakeTrain, trained_teacher


class GivenContext(FakeContext):
    """What is given is lent as it is; what is not given comes from the small trained teacher."""

    def __init__(self, train: FakeTrain, *, replicate: int = 0, **arrays: np.ndarray):
        super().__init__(train, trained_teacher(), replicate=replicate)
        self._arrays = arrays
        self.epochs: list[int] = []

    def features(self) -> np.ndarray:
        return self._arrays["features"] if "features" in self._arrays else super().features()

    def logits(self) -> np.ndarray:
        return self._arrays["logits"] if "logits" in self._arrays else super().logits()

    def dynamics(self, epochs: int) -> np.ndarray:
        self.epochs.append(epochs)
        return self._arrays["dynamics"][:epochs] if "dynamics" in self._arrays else super().dynamics(epochs)


def labelled(labels: Any) -> FakeTrain:
    """A training split of blank images with these labels."""
    labels = np.asarray(labels)
    return FakeTrain(np.zeros((len(labels), 1, 8, 8), dtype=np.uint8), labels)


def given(labels: Any, *, replicate: int = 0, **arrays: np.ndarray) -> tuple[FakeTrain, GivenContext]:
    """(train, context) with these labels and artifacts."""
    train = labelled(labels)
    return train, GivenContext(train, replicate=replicate, **arrays)
