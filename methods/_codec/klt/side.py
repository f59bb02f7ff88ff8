"""What a decoder knows of each row without being told: which partner is mixed in, and how much of it.

All of it follows from the stored views by elementwise arithmetic, so it is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.augment import View


@dataclass(frozen=True)
class Side:
    """Of n images and K views. `partner` indexes the means of the n images, then `outside`; -1: not known.

    Means are in the basis, less that of all.
    """

    lam: np.ndarray  # float32 [n, K]: share of the view that is the image's own
    partner: np.ndarray  # int64 [n, K]
    outside: np.ndarray | None = None  # float32 [m, D]: means of images not among the n
    known: np.ndarray | None = None  # float32 [n, D]: what is known of the means of the n

    def at(self, views: np.ndarray) -> Side:
        """The same of some views only, int64."""
        return Side(self.lam[:, views], self.partner[:, views], self.outside, self.known)


def plain(n: int, k: int) -> Side:
    """Every view shows nothing but its own image."""
    return Side(np.ones((n, k), np.float32), np.full((n, k), -1))


def from_views(
    views: Sequence[View], images: np.ndarray, means_of: Callable[[np.ndarray], np.ndarray] | None = None
) -> Side:
    """The side information of these images (int64 [n], indices into the set that the views were drawn for).

    `means_of`: images, int64 [m], any of the set -> float32 [m, D], what is known of their means; None: nothing is.
    """
    return from_mixtures(*mixtures(views, images), images, means_of)


def from_mixtures(
    lam: np.ndarray,
    mixed_in: np.ndarray,
    images: np.ndarray,
    means_of: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Side:
    """The same from what `mixtures` told."""
    order = np.argsort(images, kind="stable")
    sorted_images = images[order]
    at = order[np.minimum(np.searchsorted(sorted_images, mixed_in), len(images) - 1)]
    partner = np.where(images[at] == mixed_in, at, -1)
    if means_of is None:
        return Side(lam, partner)
    strangers = (partner < 0) & (mixed_in >= 0)
    used, place = np.unique(mixed_in[strangers], return_inverse=True)
    partner[strangers] = len(images) + place
    return Side(lam, partner, means_of(used) if len(used) else None, means_of(images))


def mixtures(views: Sequence[View], images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """lambda (float32) and partner in the set (int64; -1: none) of these images in each view, [n, K] both."""
    shape = (len(images), len(views))
    lam, partner = np.ones(shape, np.float32), np.full(shape, -1)
    for k, view in enumerate(views):
        if view.partner is not None and view.lam is not None:
            lam[:, k], partner[:, k] = view.lam[images], view.partner[images]
    return lam, partner
