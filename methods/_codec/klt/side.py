"""What a decoder knows of each row without being told: the partner that CutMix pasted in, and how much of it."""

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
    outside: np.ndarray | None = None  # float32 [m, C]: means of images that are not among the n, relative to no scale

    def at(self, views: np.ndarray) -> Side:
        """The same, of some views."""
        return Side(self.lam[:, views], self.partner[:, views], self.outside)


def plain(n: int, k: int) -> Side:
    """Every view shows nothing but its own image."""
    return Side(np.ones((n, k), np.float32), np.full((n, k), -1))


def from_views(views: Sequence[View], images: np.ndarray) -> Side:
    """The side information of these images (int64 [n], indices into the set that the views were drawn for)."""
    if not len(views):
        raise ValueError("views: none were given")
    lam, partner = np.ones((len(images), len(views)), np.float32), np.full((len(images), len(views)), -1)
    order = np.argsort(images, kind="stable")
    for k, view in enumerate(views):
        if view.partner is None or view.lam is None:
            continue
        lam[:, k] = view.lam[images]
        other = view.partner[images]
        at = order[np.minimum(np.searchsorted(images[order], other), len(images) - 1)]
        partner[:, k] = np.where(images[at] == other, at, -1)
    return Side(lam, partner)
