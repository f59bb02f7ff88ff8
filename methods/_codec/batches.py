"""Stored batches: in a protocol that mixes batch by batch, every view has an order of visit and is cut into batches.

A batch of a view is one number: view * (batches of a view) + its place in the view.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from bench.augment import Views, batch_bounds

if TYPE_CHECKING:
    from bench.api import SoftLabels


@dataclass(frozen=True)
class Batches:
    """The batches of a label set, as far as some of its images stand in them."""

    views: Views  # of the whole set
    numbers: np.ndarray  # int64 [n]: which of the set's images these are

    @property
    def per_view(self) -> int:
        """Batches of a view."""
        return len(batch_bounds(self.views.n, self.views.batch))

    def places(self, view: int) -> np.ndarray:
        """int64 [n]: in which batch of this view each of these images stands, 0..per_view-1."""
        order = self.views[view].order
        assert order is not None  # of_labels has looked
        bounds = batch_bounds(self.views.n, self.views.batch)
        place = np.empty(self.views.n, np.int64)
        place[order] = np.repeat(np.arange(len(bounds)), [stop - start for start, stop in bounds])
        return place[self.numbers]

    def sizes(self) -> np.ndarray:
        """int64 [K * per_view]: how many of these images stand in each batch."""
        per_view = self.per_view
        return np.concatenate([np.bincount(self.places(view), minlength=per_view) for view in range(len(self.views))])


def of_labels(labels: SoftLabels) -> Batches:
    """The batches that the labels were stored in.

    Raises:
        ValueError: the views are not known, or were not made batch by batch.
    """
    views = labels.views
    if not isinstance(views, Views) or views[0].order is None:
        told = "are not known here" if not isinstance(views, Views) else "were made image by image"
        raise ValueError(
            f"unit: 'batch' needs views that were stored batch by batch (mix_unit = 'batch', as in lpld-v1); the "
            f"views of these labels {told}. Use unit=row"
        )
    numbers = np.arange(labels.shape[0]) if labels.images is None else np.asarray(labels.images, np.int64)
    return Batches(views, numbers)


@lru_cache(maxsize=2)
def views_of(stored: bytes) -> Views:
    """The views that `Views.to_bytes` wrote down; those read last are kept, with what they have drawn."""
    return Views.from_bytes(stored)
