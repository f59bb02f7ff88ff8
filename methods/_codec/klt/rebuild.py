"""From levels to logits: what encoder and decoder both compute, to the last bit."""

from __future__ import annotations

import numpy as np

from methods._codec.klt import prices, rank
from methods._codec.klt.basis import Basis
from methods._codec.klt.rank import Ranked
from methods._codec.klt.side import Side
from methods._codec.klt.steps import MEAN_OCTAVES, step_of
from methods._codec.klt.tables import FRACTION, LOWEST, STEP, UNITS

ALONG_ZERO = 40
_SILENT = LOWEST - STEP * 64  # a log-scale: only zeros


class Rebuilder:
    """Turns levels of rows into logits.

    A row belongs to an image, 0..n-1, and to one of the views that `side` is of, by its place among them. Ahead of its
    coefficients it has leading levels: a number along its partner's mean, and its left factors in the low-rank part.
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
        self.index, self.side, self.basis, self.views = index, side, basis, views
        self._table = table.astype(np.float32)
        norms = rank.norms_of(table)
        # What 1/FRACTION step along each mean makes of it; a mean of zeros has no direction.
        self._along = np.where(norms > 1, 1 / norms, 0.0)
        self._per_step = 2.0**-MEAN_OCTAVES  # the step of means in steps of rows
        n = len(side.lam)
        # How the squares of a mean are spread over components, about: as those of rows are.
        self._spread = prices.weights(basis.rows.max() - basis.rows)[None]
        self.along = np.zeros(n, np.int32)
        self._coarser = np.zeros(n, np.int32)
        self.ranked = [rank.nothing(basis.size)] * n
        self._rights: dict[int, np.ndarray] = {}
        self._units: dict[int, np.ndarray] = {}
        self.leading_of = np.ones(n, np.int64)  # how many leading levels a row of each image has

    def coarser(self, scales: np.ndarray) -> int:
        """Units by which numbers along partners' means have a coarser step than coefficients of these log-scales."""
        return int(prices.coarser_along(self._spread, scales)[0])

    def tell(self, image: int, along: int, ranked: Ranked, scales: np.ndarray) -> None:
        """The low-rank part of an image, see `head.Head`, with coefficients of these log-scales, int32 [D]."""
        self.along[image], self.ranked[image], self._coarser[image] = along, ranked, self.coarser(scales)
        self.leading_of[image] = 1 + ranked.rank
        if ranked.rank:
            self._units[image] = rank.left_units(ranked, self.views)
            self._rights[image] = rank.narrow(rank.scaled_rights(ranked))

    @property
    def leading(self) -> int:
        """The most leading levels that a row has."""
        return int(self.leading_of.max())

    def leading_units(self, images: np.ndarray, views: np.ndarray) -> np.ndarray:
        """int32 [m, leading]: log-scales of leading levels, of rows that belong to these images and views, int64 [m]
        each; those that an image has not, too."""
        units = np.full((len(self.along), self.leading), _SILENT, np.int32)
        told = self.along > 0
        units[told, 0] = STEP * (self.along[told] - ALONG_ZERO)
        for image, mine in self._units.items():
            units[image, 1 : 1 + len(mine)] = mine
        found: np.ndarray = units[images]
        found[self._partner_along(images, views) == 0, 0] = _SILENT
        return found

    def predicted(self, images: np.ndarray, views: np.ndarray, numbers: np.ndarray | None = None) -> np.ndarray:
        """float32 integers [m, D], in 1/FRACTION steps: what means say of these rows, and `numbers` [m], along
        partners' means, in 1/FRACTION of their steps."""
        lam, partner = self.side.lam[images, views], np.maximum(self.side.partner[images, views], 0)
        own = self.basis.shares(lam) * self._per_step
        other = np.where(self.side.partner[images, views] >= 0, self.basis.shares(1 - lam) * self._per_step, 0.0)
        if numbers is not None:
            other += numbers * self._partner_along(images, views) * prices.size_of(self._coarser[images])
        one = len(images) and images[0] == images[-1] and (images == images[0]).all()
        mine = self._table[images[:1]] if one else self._table[images]
        whole = own.astype(np.float32)[:, None] * mine
        if other.any():
            theirs = self._table[partner]
            theirs *= other.astype(np.float32)[:, None]
            whole += theirs
        return np.rint(whole, out=whole)

    def partners(self, images: np.ndarray, views: np.ndarray) -> np.ndarray:
        """float32 [m, D]: unit vectors along partners' means; zero where there is none."""
        scale = self._partner_along(images, views).astype(np.float32)
        return self._table[np.maximum(self.side.partner[images, views], 0)] * scale[:, None]

    def led(self, lefts: np.ndarray, images: np.ndarray) -> np.ndarray | float:
        """float64 integers [m, D], in 1/FRACTION steps: what left factors [m, leading - 1], in the same, say. Zero if
        nobody has a low-rank part."""
        if not self._rights:
            return 0.0
        result = np.zeros((len(lefts), self.basis.size))
        order = np.argsort(images, kind="stable")
        ends = np.searchsorted(images[order], np.arange(len(self.ranked)), side="right")
        for image, rights in self._rights.items():
            rows = order[ends[image - 1] if image else 0 : ends[image]]
            if len(rows):
                result[rows] = rank.product(lefts[rows, : len(rights)], rights)
        return result

    def led_by(self, images: np.ndarray, views: np.ndarray, lead: np.ndarray) -> np.ndarray:
        """float64 integers [m, D], in 1/FRACTION steps: rows but for their coefficients, from what leading levels
        [m, leading] stand for, in the same."""
        return np.add(self.predicted(images, views, lead[:, 0]), self.led(lead[:, 1:], images), dtype=np.float64)

    def logits(self, whole: np.ndarray) -> np.ndarray:
        """float64 [m, C], natural unit, from integers [m, D], in 1/FRACTION steps, which may be overwritten."""
        found = self.basis.expand(whole)
        found *= np.ldexp(step_of(self.index) / FRACTION, self.basis.exponent - self.basis.precision)
        found += np.ldexp(self.basis.mean, self.basis.exponent)
        return found

    def _partner_along(self, images: np.ndarray, views: np.ndarray) -> np.ndarray:
        """float64 [m]: how much of its partner's mean, as in the table, 1/FRACTION step along it is; 0: no partner."""
        partner = self.side.partner[images, views]
        return np.where(partner >= 0, self._along[np.maximum(partner, 0)], 0.0)


def along_gain(numbers: np.ndarray) -> int:
    """`Head.along` of an image with these numbers along its partners' means, in steps."""
    loud = 0.5 * UNITS / STEP * np.log2(max(float(np.square(numbers).mean()), 2.0**-20))
    return max(1, ALONG_ZERO + round(loud))
