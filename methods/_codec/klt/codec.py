"""A set of images at one step: from labels to levels.

Everything a decoder computes before an entropy-coded symbol is an integer, or sums and products taken element by
element, which IEEE arithmetic fixes to the last bit; matrix products are of integers (see `basis`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from methods._codec.klt import bands, plan, refine
from methods._codec.klt import head as heads
from methods._codec.klt.basis import Basis
from methods._codec.klt.fit import means
from methods._codec.klt.head import Head
from methods._codec.klt.plan import Plan
from methods._codec.klt.rebuild import Rebuilder, along_gain
from methods._codec.klt.side import Side
from methods._codec.klt.steps import OFFSETS_KEPT, step_of, step_units
from methods._codec.klt.stream import bits as cost
from methods._codec.klt.tables import FRACTION, STEP, UNITS

_LOUDEST = 120  # quarter octaves
_MOSTLY_LIKELY = 1 / 8  # where a larger share of classes is likely, all of them are told with the same step


@dataclass
class Coded:
    """Levels of m of n images with their buckets, K rows each."""

    images: np.ndarray  # int64 [m]
    head: Head  # of all n; what is not of the mean is filled in for the m
    lead: list[np.ndarray]  # int32 [K, 1 + f]: see Rebuilder.leading
    lead_buckets: list[np.ndarray]  # int16
    levels: np.ndarray  # int32 [m, K, D]
    buckets: np.ndarray  # int16 [m, K, D]
    grades: list[np.ndarray]  # int8 [K, C]; empty list: nothing is refined
    fine: list[np.ndarray]  # int32: levels of likely classes, row by row
    fine_buckets: list[np.ndarray]  # int16

    def bytes(self) -> float:
        """Estimate of what it takes to write all n images, if the m stand for them: good to a part in a thousand and
        some bytes."""
        total = self.head.own_bits(self.images) + cost(self.buckets.ravel(), self.levels.ravel())
        for buckets, levels in zip(self.lead_buckets + self.fine_buckets, self.lead + self.fine, strict=True):
            total += cost(buckets.ravel(), levels.ravel())
        return (self.head.mean_bits() + total * len(self.head.means) / len(self.images)) / 8

    def fine_bytes(self) -> float:
        """How much of `bytes` the likely classes take."""
        total = sum(cost(buckets, levels) for buckets, levels in zip(self.fine_buckets, self.fine, strict=True))
        if self.head.refined is not None:
            total += refine.numbers_bits(self.head.refined[self.images])
        return total * len(self.head.means) / len(self.images) / 8


class Source:
    """Labels made ready for coding at any step: projected once."""

    def __init__(self, values: np.ndarray, side: Side, basis: Basis) -> None:
        """values: float32 [n, K, C] in the basis' unit."""
        self.side, self.basis = side, basis
        self.shape = values.shape
        self._centred = values - basis.mean.astype(np.float32)
        self._projected: dict[bool, tuple[np.ndarray, np.ndarray]] = {}
        self._outside = None if side.outside is None else basis.project(side.outside)
        self.refined = bool(np.mean(refine.grades(self._natural(values[0])) > 0) < _MOSTLY_LIKELY)

    def plans(self, index: int, images: np.ndarray) -> list[Plan]:
        """The low-rank parts of these images, int64, that pay at this step."""
        rebuilder, rows = self._start(index)[0], self._at(index)[0]
        result = []
        for image in images:
            at = self._rows_of(image)
            rest = rows[image] - self._meaning(rebuilder.predicted(*at), index)
            partners = rebuilder.partners(*at).astype(np.float32)
            result.append(plan.make(rest, partners, self.side.features[image], self.basis, step_of(index)))
        return result

    def code(self, index: int, images: np.ndarray, plans: list[Plan], *, coarse: bool = False) -> Coded:
        """Levels of these images at this step, with low-rank parts that were planned for a step near it.

        `coarse`: without the likely classes, for an estimate of the size.
        """
        rows = self._at(index)[0]
        k, size = rows.shape[1:]
        rebuilder, head = self._start(index)
        levels, buckets = np.zeros((len(images), k, size), np.int32), np.zeros((len(images), k, size), np.int16)
        coded = Coded(images, head, [], [], levels, buckets, [], [], [])
        base = self.basis.rows - step_units(index)
        if self.refined and not coarse:
            head.refined = np.zeros((len(rows), refine.NUMBERS), np.int32)
        for place, (image, mine) in enumerate(zip(images, plans, strict=True)):
            at = self._rows_of(image)
            whole = rebuilder.predicted(*at)
            rest = rows[image] - self._meaning(whole, index)
            led = self._lead(image, rest, mine, rebuilder, coded)
            whole += led
            rest -= self._meaning(led, index)
            head.gains[image] = _gains(rest, self.basis.rows, base)
            rest /= np.float32(step_of(index))
            levels[place], buckets[place] = bands.run(
                (base + bands.widen(STEP * head.gains[image], len(base)))[None],
                k,
                lambda band, b, rest=rest: bands.quantise(rest[:, band], b),  # type: ignore[misc]
            )
            if head.refined is not None:
                whole += bands.restore(levels[place], buckets[place])
                head.refined[image] = self._refine(image, rebuilder.logits(whole), index, coded)
        return coded

    def _at(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows [n, K, D] and means [n, D], float32."""
        kept = index >= OFFSETS_KEPT
        if kept not in self._projected:
            values = self._true(slice(None), index)
            n, k, c = self.shape
            rows = self.basis.project(values.reshape(n * k, c)).reshape(n, k, -1)
            side = Side(self.side.lam, self.side.partner, self.side.features, self._outside)
            self._projected[kept] = rows, means(rows, side, self.basis)
        return self._projected[kept]

    def _true(self, image: int | slice, index: int) -> np.ndarray:
        """Logits less the mean of all. Softmax does not see a constant added to a row: a coarse code drops it."""
        values = self._centred[image]
        return values if index >= OFFSETS_KEPT else values - values.mean(-1, keepdims=True)

    def _rows_of(self, image: int) -> tuple[np.ndarray, np.ndarray]:
        k = self.shape[1]
        return np.full(k, image), np.arange(k)

    def _start(self, index: int) -> tuple[Rebuilder, Head]:
        """Means coded; everything else still empty."""
        own = self._at(index)[1]
        n, k, _ = self.shape
        base = heads.mean_base(self.basis, index)
        scaled = own / np.float32(heads.mean_step(index) * FRACTION)
        gains = np.stack([_gains(one[None], self.basis.means, base) for one in own])
        levels, buckets = bands.run(
            base + bands.widen(STEP * gains, len(base)), n, lambda band, b: bands.quantise(scaled[:, band], b)
        )
        table = heads.table(levels, buckets, self._outside, index)
        rebuilder = Rebuilder(index, table, self.side, self.basis, k)
        return rebuilder, Head(gains, levels, buckets, np.zeros_like(gains), rebuilder.along, rebuilder.ranked, None)

    def _lead(self, image: int, rest: np.ndarray, mine: Plan, rebuilder: Rebuilder, coded: Coded) -> np.ndarray:
        """Code the low-rank parts of an image; float64 integers [K, D]: what they say of its rows."""
        at, step = self._rows_of(image), step_of(rebuilder.index)
        features = self.side.features[image]
        along, numbers = 0, np.zeros(len(rest), np.float32)
        if mine.along:
            partners = rebuilder.partners(*at).astype(np.float32)
            numbers = np.einsum("kd,kd->k", rest, partners) / np.float32(step)
            along = along_gain(numbers)
            less = rest - (numbers * np.float32(step))[:, None] * partners
        else:
            less = rest
        ranked = plan.right_factors(less, mine, features, self.basis, step, step_units(rebuilder.index))
        rebuilder.tell(image, along, ranked)
        buckets = rebuilder.leading_buckets(*at)[:, : 1 + ranked.free]
        levels = np.zeros(buckets.shape, np.int32)
        levels[:, 0] = bands.quantise(numbers, buckets[:, 0])
        if ranked.free:
            less = rest - self._meaning(rebuilder.led(levels, *at), rebuilder.index)
            levels[:, 1:] = bands.quantise(plan.free_lefts(less, ranked, step), buckets[:, 1:])
        coded.lead.append(levels)
        coded.lead_buckets.append(buckets)
        return rebuilder.led(levels, *at)

    def _refine(self, image: int, logits: np.ndarray, index: int, coded: Coded) -> np.ndarray:
        """Code the likely classes of an image; int32: the numbers of its head."""
        true = self._natural(self._true(image, index) + self.basis.mean)
        found = self._natural(logits)
        grades = refine.grades(found)
        likely = grades > 0
        step, units = self._natural_step(index)
        numbers = refine.look(true - found, grades, units)
        grade = grades[likely]
        mine = np.broadcast_to(numbers, (len(grade), len(numbers)))
        buckets = refine.buckets(grade, mine)
        error = (true - found)[likely] - refine.biases(grade, mine)
        levels = bands.quantise((error / refine.steps_of(grade, step)).astype(np.float32), buckets)
        found[likely] += refine.corrections(levels, buckets, grade, mine, step)
        numbers[-1] = refine.best_raise(true, found, likely)
        coded.grades.append(grades)
        coded.fine.append(levels)
        coded.fine_buckets.append(buckets)
        return numbers

    def _natural(self, values: np.ndarray) -> np.ndarray:
        return np.ldexp(values.astype(np.float64), self.basis.exponent)

    def _natural_step(self, index: int) -> tuple[float, int]:
        return float(np.ldexp(step_of(index), self.basis.exponent)), step_units(index) + UNITS * self.basis.exponent

    @staticmethod
    def _meaning(whole: np.ndarray, index: int) -> np.ndarray:
        return (whole * (step_of(index) / FRACTION)).astype(np.float32)


def _gains(rows: np.ndarray, scales: np.ndarray, base: np.ndarray) -> np.ndarray:
    """int32 [bands]: how much louder than `scales` the rows [m, D] are in each band, 1/4 octave.

    Where nothing will be coded anyway the gain is what costs least.
    """
    starts = np.array([band.start for band in bands.split(len(scales))])
    found = np.add.reduceat(np.square(rows).mean(0, dtype=np.float64), starts)
    usual = np.add.reduceat(np.exp2(2.0 / UNITS * scales), starts)
    gains = np.rint(0.5 * UNITS / STEP * np.log2(np.maximum(found / usual, 2.0**-200)))
    gains = np.clip(gains, -_LOUDEST, _LOUDEST).astype(np.int32)
    loudest = np.maximum.reduceat(base, starts) + STEP * gains
    for band in np.flatnonzero(bands.buckets_of(loudest) < 0):
        gains[band] = min(gains[band - 1] if band else 0, gains[band])
    return gains
