"""Another data set's training split with a fifth held out as the test split: to choose recipes without a test split.

Nothing of the other data set's test split is opened. Selection of recipes, parameters and defaults belongs here.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from bench.api import Dataset, ImageSource
from bench.errors import UserError, unknown
from bench.seeds import numpy_generator
from protocols.datasets import digits, glyphs, mnist5k
from protocols.datasets._arrays import array_digest

EMBEDDED = {"digits": digits, "glyphs": glyphs, "mnist5k": mnist5k}
ARITHMETIC = "portable"
SHARE = 5  # one in five images of a class is held out


class Part:
    """A subset of another source, by index."""

    def __init__(self, source: ImageSource, indices: np.ndarray) -> None:
        self._source, self._indices = source, indices
        self.labels = np.array(source.labels[indices], dtype=np.int64)
        self.labels.flags.writeable = False

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [n, channels, height, width]."""
        return self._source.read(self._indices[indices])

    def digest(self) -> str:
        """Hex sha256 of shape, labels and pixels, in index order."""
        return array_digest(self.read(np.arange(len(self))), self.labels)


def load(root: Path, *, of: str = "digits") -> Dataset:
    """The held-out version of a data set.

    Args:
        of: name of the other data set, with its default parameters.

    Raises:
        UserError: there is no such data set.
    """
    if of not in EMBEDDED:
        raise UserError(f"dataset 'heldout', parameter 'of': {unknown('data set', of, EMBEDDED)}")
    whole: Dataset = EMBEDDED[of].load(root)

    def held_out(source: ImageSource) -> np.ndarray:
        rng = numpy_generator("heldout", of)
        classes = [np.flatnonzero(source.labels == label) for label in range(whole.num_classes)]
        return np.sort(np.concatenate([rng.permutation(c)[: len(c) // SHARE] for c in classes]))

    def train() -> ImageSource:
        source = whole.train()
        return Part(source, np.setdiff1d(np.arange(len(source)), held_out(source)))

    def test() -> ImageSource:
        source = whole.train()
        return Part(source, held_out(source))

    return dataclasses.replace(whole, train=train, test=test)
