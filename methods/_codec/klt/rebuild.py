"""From levels to logits: what encoder and decoder both compute, to the last bit."""

from __future__ import annotations

import numpy as np

from methods._codec.klt import bands, rank
from methods._codec.klt.basis import Basis
from methods._codec.klt.head import mean_step
from methods._codec.klt.rank import Ranked
from methods._codec.klt.side import Side
from methods._codec.klt.steps import step_of
from methods._codec.klt.tables import FRACTION, LOWEST, STEP, UNITS

ALONG_ZERO = 40


class Rebuilder:
    """Turns levels of rows into logits.

    A row belongs to an image, 0..n-1, and to one of the views that `side` is of, by its place among them.
    """

    def __init__(self, index: int, table: np.ndarray, side: Side, basis: Basis, views: int) -> None:
        """Low-rank parts are told later, image by image.

        Args:
            index: of the step.
            table: from `head.table`.
            side: of some views.
            basis: what is shared.
            views: K of the label set.
        """
        self.index, self.side, self.basis, self.views, self.table = index, side, basis, views, table
        self._norms = rank.norms_of(table)
        self._per_step = mean_step(index) / step_of(index) * FRACTION
        n = len(side.lam)
        self.along = np.zeros(n, np.int32)
        self.ranked = [rank.nothing(side.width, basis.size)] * n
        self._rights: dict[int, np.ndarray] = {}
        self._seen: dict[int, np.ndarray] = {}
        self._units: dict[int, np.ndarray] = {}
        self.leading = 1  # levels that a row has before its coefficients: along its partner, and the free lefts

    def tell(self, image: int, along: int, ranked: Ranked) -> None:
        """The low-rank parts of an image, see `head.Head`."""
        self.along[image], self.ranked[image] = along, ranked
        self.leading = max(self.leading, 1 + ranked.free)
        self._units[image] = rank.left_units(ranked, self.views)
        self._rights[image] = rank.scaled_rights(ranked)
        self._seen[image] = rank.seen_lefts(ranked.mix, ranked.shifts, self.side.features[image])

    def leading_buckets(self, images: np.ndarray, views: np.ndarray) -> np.ndarray:
        """int16 [m, leading]: of rows that belong to these images and views, int64 [m] each."""
        units = np.full((len(images), self.leading), LOWEST - STEP * 64, np.int32)
        for image in np.unique(images):
            rows = images == image
            if self.along[image]:
                units[rows, 0] = STEP * (self.along[image] - ALONG_ZERO)
            units[rows, 1 : 1 + self.ranked[image].free] = self._units[image]
        buckets = bands.buckets_of(units)
        buckets[self._partner_norm(images, views) == 0, 0] = -1
        return buckets

    def predicted(self, images: np.ndarray, views: np.ndarray) -> np.ndarray:
        """float64 integers [m, D], in 1/FRACTION steps: what means say of these rows."""
        lam, partner = self.side.lam[images, views], self.side.partner[images, views]
        own = self.basis.shares(lam)[:, None] * self.table[images]
        other = np.where(partner >= 0, self.basis.shares(1 - lam), 0.0)[:, None]
        return np.rint((own + other * self.table[np.maximum(partner, 0)]) * self._per_step)

    def partners(self, images: np.ndarray, views: np.ndarray) -> np.ndarray:
        """float64 [m, D]: unit vectors along partners' means; zero where there is none."""
        norm = self._partner_norm(images, views)
        return (
            self.table[np.maximum(self.side.partner[images, views], 0)]
            * np.where(norm > 0, 1 / np.maximum(norm, 1), 0)[:, None]
        )

    def led(self, levels: np.ndarray, images: np.ndarray, views: np.ndarray) -> np.ndarray:
        """float64 integers [m, D], in 1/FRACTION steps: what leading levels [m, leading] and the seen part say."""
        result = np.zeros((len(levels), self.basis.size))
        if levels[:, 0].any():
            result += np.rint(self.partners(images, views) * (FRACTION * levels[:, :1]))
        for image in np.unique(images):
            ranked = self.ranked[image]
            if ranked.seen + ranked.free:
                rows = np.flatnonzero(images == image)
                lefts = np.concatenate([self._seen[image][views[rows]], levels[rows, 1 : 1 + ranked.free]], 1)
                result[rows] += rank.product(lefts, self._rights[image])
        return result

    def logits(self, whole: np.ndarray) -> np.ndarray:
        """float64 [m, C] in the basis' unit, from integer coefficients [m, D] in 1/FRACTION steps."""
        unit = np.ldexp(step_of(self.index) / FRACTION, -self.basis.precision)
        return self.basis.expand(whole) * unit + self.basis.mean

    def _partner_norm(self, images: np.ndarray, views: np.ndarray) -> np.ndarray:
        partner = self.side.partner[images, views]
        norm = np.where(partner >= 0, self._norms[np.maximum(partner, 0)], 0.0)
        return np.where(norm > 1, norm, 0.0)  # a mean of zeros has no direction


def along_gain(numbers: np.ndarray) -> int:
    """`Head.along` of an image with these numbers along its partners' means, in steps."""
    loud = 0.5 * UNITS / STEP * np.log2(max(float(np.square(numbers).mean()), 2.0**-20))
    return max(1, ALONG_ZERO + round(loud))
