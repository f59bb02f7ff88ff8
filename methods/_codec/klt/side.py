"""What a decoder knows of each row without being told: partner, lambda, and which regions of the picture it shows.

All of it follows from the stored views by elementwise arithmetic, so it is the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.augment import View

GRID = 3  # regions a side
FEATURES = GRID * GRID + 5
_ONE = 4096


@dataclass(frozen=True)
class Side:
    """Of n images and K views. `partner` indexes the means of the n images, then `outside`; -1: not known."""

    lam: np.ndarray  # float32 [n, K]: share of the view that is the image's own
    partner: np.ndarray  # int64 [n, K]
    features: np.ndarray  # int32 [n, K, F]: shares of a view that each region takes, and more, in 1/4096; F may be 0
    outside: np.ndarray | None = None  # float32 [m, C]: means of images that are not among the n, less that of all

    def at(self, views: np.ndarray) -> Side:
        """The same of some views only, int64."""
        return Side(self.lam[:, views], self.partner[:, views], self.features[:, views], self.outside)

    @property
    def width(self) -> int:
        """F."""
        return self.features.shape[2]


def plain(n: int, k: int) -> Side:
    """Every view shows nothing but its own image, who knows where."""
    return Side(np.ones((n, k), np.float32), np.full((n, k), -1), np.zeros((n, k, 0), np.int32))


def from_views(views: Sequence[View], images: np.ndarray) -> Side:
    """The side information of these images (int64 [n], indices into the set that the views were drawn for)."""
    shape = (len(images), len(views))
    lam, partner = np.ones(shape, np.float32), np.full(shape, -1)
    boxed = all(view.box is not None and view.grid == 1 for view in views)
    seen = np.zeros((*shape, FEATURES if boxed else 0), np.int32)
    order = np.argsort(images, kind="stable")
    for k, view in enumerate(views):
        if view.partner is not None and view.lam is not None:
            lam[:, k] = view.lam[images]
            other = view.partner[images]
            at = order[np.minimum(np.searchsorted(images[order], other), len(images) - 1)]
            partner[:, k] = np.where(images[at] == other, at, -1)
        if boxed:
            seen[:, k] = features(view, images, lam[:, k].astype(np.float64))
    return Side(lam, partner, seen)


def features(view: View, images: np.ndarray, lam: np.ndarray) -> np.ndarray:
    """int32 [n, FEATURES]: one, the share of the view that shows each region, area of the crop, lambda (1 - lambda),
    area times lambda, whether it is mirrored."""
    assert view.box is not None
    top, left, height, width = (side.astype(np.float64) / view.size for side in view.box[images].T)
    flip = np.zeros(len(images), bool) if view.flip is None else view.flip[images]
    area = height * width
    seen = _overlaps(top, height)[:, :, None] * _overlaps(left, width)[:, None]
    if view.mix_box is not None:
        y, x, tall, wide = (side.astype(np.float64) / view.size for side in view.mix_box[images].T)
        x = np.where(flip, 1 - x - wide, x)
        hidden = _overlaps(top + y * height, tall * height)[:, :, None]
        seen -= hidden * _overlaps(left + x * width, wide * width)[:, None]
    else:
        seen *= lam[:, None, None]
    regions = (seen / area[:, None, None]).reshape(len(images), -1)
    more = np.stack([np.ones(len(images)), area, lam * (1 - lam), area * lam, flip], 1)
    return np.rint(_ONE * np.concatenate([more, regions], 1)).astype(np.int32)


def _overlaps(start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """float64 [n, GRID]: how long the piece is that an interval of [0, 1] shares with each third of it."""
    edges = np.arange(GRID + 1) / GRID
    low, high = np.maximum(start[:, None], edges[:-1]), np.minimum((start + length)[:, None], edges[1:])
    return np.maximum(high - low, 0)
