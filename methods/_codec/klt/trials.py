"""Coding some or all of a source at steps, and what that says of its size at others."""

from __future__ import annotations

import math

import numpy as np

from methods._codec.klt import head as heads
from methods._codec.klt.codec import Coded, Source
from methods._codec.klt.plan import Plan
from methods._codec.klt.steps import OFFSETS_KEPT, PER_OCTAVE, STEPS, step_units
from methods._codec.klt.tables import rate

_NEAR = PER_OCTAVE // 3  # low-rank parts planned at a step serve steps so near
_LEAST_GROWTH = 0.2  # of ln(bytes) by octave
_SLOPE_OVER = PER_OCTAVE // 8
_REACH = 0.2  # sizes so near are easily reached: ln(weight of bits) need not change by more
_YIELD = 0.45  # ln(bytes of coefficients) falls so much with ln(weight) at one bit a coefficient
_YIELDS_LESS = 1.25  # and with more bits by so great a power of them less


class Trials:
    """Codes some images and views of a source at steps, with plans made anew only where the step has moved."""

    def __init__(self, source: Source, images: np.ndarray, views: np.ndarray, least: int) -> None:
        """`least`: the least grade of likely classes that is refined, see `refine`."""
        self._source, self._images, self._views, self._least = source, images, views, least
        self._plans, self._planned, self.frozen = list[Plan](), -PER_OCTAVE, False
        self._known: dict[int, Coded] = {}  # the last
        self.refinement, self._refined_at = 0.0, -PER_OCTAVE  # bytes, and the index of the step at which they were told

    @property
    def images(self) -> int:
        """How many images are coded."""
        return len(self._images)

    def code(self, index: int) -> Coded:
        """All of it, with likely classes."""
        coded = self._coarse(index)
        self._source.refine(coded, self._least)
        return coded

    def bytes(self, index: int) -> tuple[float, float]:
        """Estimate of the size of all images and views, and by how much its logarithm grows with the index.

        Likely classes take about as much at one step as at another near it, and much time. What is certainly zero at
        one step and is not at the next is in the scales of the basis alone, what an image is like is in its code: the
        mean of both growths is nearer to the truth than either.
        """
        coded = self._coarse(index)
        if abs(index - self._refined_at) > _NEAR:
            self.refine(coded)
        size = max(self.bytes_of(coded), 1.0)
        growth = max(coded.growth() / size, _LEAST_GROWTH) / PER_OCTAVE
        return size, 0.5 * (growth + _growth(self._source, index))

    def bytes_of(self, coded: Coded) -> float:
        """Estimate of the size of all images and views; of likely classes as last told, where they are not coded."""
        return coded.bytes() + (0.0 if coded.fine else self.refinement)

    def refine(self, coded: Coded) -> None:
        """Code likely classes too, and keep in mind what they take."""
        self._source.refine(coded, self._least)
        self.refinement, self._refined_at = coded.refinement(), coded.index

    def reach(self, index: int) -> float:
        """Bytes by which a size is easily changed by the weight of bits."""
        return _REACH * falls(self._coarse(index))

    def taken(self, index: int) -> Coded:
        """Without likely classes, if not yet coded; to be changed at will: it is coded anew when asked for again."""
        coded = self._coarse(index)
        self._known.clear()
        return coded

    def weigh(self, coded: Coded, before: np.ndarray, after: np.ndarray) -> None:
        """Code those rows anew whose weight of bits, as its logarithm [images * views], is another one after."""
        other = (before != after).reshape(len(coded.images), -1)
        logs = after.reshape(other.shape)
        for place in np.flatnonzero(other.any(1)):
            for log in np.unique(logs[place, other[place]]):
                at = np.flatnonzero(other[place] & (logs[place] == log))
                self._source.weigh(coded, int(place), at, math.exp(log))

    @property
    def planned_at(self) -> int:
        """The step at which plans were made."""
        return self._planned

    def planned(self, plans: list[Plan], index: int) -> Trials:
        """With plans for the same images that were made at the step of this index; self."""
        self._plans, self._planned = plans, index
        return self

    def planned_as(self, other: Trials) -> Trials:
        """With the plans of others for the same images; self."""
        return self.planned(other._plans, other._planned)

    def refined_as(self, other: Trials) -> None:
        """Take likely classes to be as many bytes as others, that stand for these, say."""
        self.refinement, self._refined_at = other.refinement, other._refined_at

    def _coarse(self, index: int) -> Coded:
        if index not in self._known:
            moved = abs(index - self._planned) > _NEAR and not self.frozen
            if moved or (index >= OFFSETS_KEPT) != (self._planned >= OFFSETS_KEPT):
                self._plans, self._planned = self._source.plans(index, self._images), index
            self._known.clear()  # as large as the labels
            self._known[index] = self._source.code(index, self._images, self._plans, self._views)
        return self._known[index]


def falls(coded: Coded) -> float:
    """By about how many bytes the size falls with ln(weight of bits)."""
    bits = coded.density()
    return _YIELD * coded.of_rows() / (bits * max(bits, 1.0) ** _YIELDS_LESS)


def expected(source: Source, index: int) -> float:
    """Bytes that coefficients with the scales of the basis, and means, take at a step."""
    n, k, _ = source.shape
    return float(rate(source.basis.rows - step_units(index)).sum()) * n * k / 8 + of_means(source, index)


def of_means(source: Source, index: int) -> float:
    """Bytes that means take at a step, about."""
    return float(rate(source.basis.means - step_units(heads.mean_index(index))).sum()) * source.shape[0] / 8


def _growth(source: Source, index: int) -> float:
    """By how much the logarithm of what is expected grows with the index."""
    around = [expected(source, min(max(index + side, 0), STEPS)) for side in (-_SLOPE_OVER, _SLOPE_OVER)]
    return max(math.log(max(around[1], 1.0) / max(around[0], 1.0)) / (2 * _SLOPE_OVER), _LEAST_GROWTH / PER_OCTAVE)
