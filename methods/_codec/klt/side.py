"""What a decoder knows of each row without being told: which partner is mixed in, and how much of it.

All of it follows from the stored views by elementwise arithmetic, so it is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.augment import View


@dataclass(frozen=True)
class Side:
    """Of n images and K views. `partner` indexes the means of the n images, then `outside`; -1: not known."""

    lam: np.ndarray  # float32 [n, K]: share of the view that is the image's own
    partner: np.ndarray  # int64 [n, K]
    outside: np.ndarray | None = None  # float32 [m, D]: means of images not among the n, in the basis, less that of all

    def at(self, views: np.ndarray) -> Side:
        """The same of some views only, int64."""
        return Side(self.lam[:, views], self.partner[:, views], self.outside)


def plain(n: int, k: int) -> Side:
    """Every view shows nothing but its own image."""
    return Side(np.ones((n, k), np.float32), np.full((n, k), -1))


def from_views(views: Sequence[View], images: np.ndarray) -> Side:
    """The side information of these images (int64 [n], indices into the set that the views were drawn for)."""
    shape = (len(images), len(views))
    lam, partner = np.ones(shape, np.float32), np.full(shape, -1)
    order = np.argsort(images, kind="stable")
    sorted_images = images[order]
    for k, view in enumerate(views):
        if view.partner is not None and view.lam is not None:
            lam[:, k] = view.lam[images]
            other = view.partner[images]
            at = order[np.minimum(np.searchsorted(sorted_images, other), len(images) - 1)]
            partner[:, k] = np.where(images[at] == other, at, -1)
    return Side(lam, partner)
