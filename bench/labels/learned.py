"""Labels that a method hands in with its images (bench.api.Condensed.soft_labels), as the training loop reads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bench.protocol.recipe import Recipe
from bench.seeds import Coordinate, seed
from bench.views.parameters import Views


class LearnedLabels:
    """The reader that the training loop is given: a row of logits for each image, the same in every view.

    The views are those that students of class labels are shown, one an epoch.

    Args:
        labels: float32 or float16 [N, C].
        recipe: epochs, batch and augmentation are read.
        size: pixels, of the images.
        mirror: whether a mirrored image keeps its class.
        coordinates: name the training run, see bench.training.loop.train.
    """

    invalid = None  # nothing is approximated

    def __init__(
        self, labels: np.ndarray, recipe: Recipe, *, size: int, mirror: bool, coordinates: Sequence[Coordinate]
    ) -> None:
        self._labels = labels
        self.views = Views(
            recipe.augment,
            len(labels),
            size,
            mirror=mirror,
            batch=recipe.batch,
            seed=seed("view", *coordinates),
            count=recipe.epochs,
        )
        self.available = np.arange(recipe.epochs)

    def rows(self, views: Sequence[int]) -> torch.Tensor:
        """float32 [N, len(views), C]."""
        labels = torch.from_numpy(np.array(self._labels, np.float32))
        return labels[:, None].expand(-1, len(views), -1)

    def sizes(self) -> dict[str, int]:
        """Bytes, see bench.records.schema.LabelBytes: of the values as they were handed in."""
        return {"total": self._labels.nbytes, "shared": 0, "blobs": self._labels.nbytes, "views": 0}
