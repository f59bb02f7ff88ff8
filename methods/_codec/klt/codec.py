"""A set of images at one step: from labels to levels.

Everything a decoder computes before an entropy-coded symbol is an integer, or sums and products taken element by
element, which IEEE arithmetic fixes to the last bit; matrix products are of integers (see `basis`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax

from methods._codec.klt import bands, meanrows, plan, prices, refine
from methods._codec.klt import head as heads
from methods._codec.klt.basis import Basis
from methods._codec.klt.fit import means
from methods._codec.klt.head import Head
from methods._codec.klt.meanrows import MeanRows
from methods._codec.klt.plan import Plan
from methods._codec.klt.rebuild import Rebuilder, along_gain
from methods._codec.klt.refine import Likely
from methods._codec.klt.side import Side
from methods._codec.klt.steps import OFFSETS_KEPT, step_of, step_units
from methods._codec.klt.tables import FRACTION
from methods._codec.klt.trellis import CODER, Paths

_LOOKED_AT = 32  # rows, to see how large that share is
_TEMPERATURES = (1.0, 20.0)
_LOUDER = 4  # quarter octaves above what was planned: a sample of rows differs by less
_MOSTLY_LIKELY = 1 / 8  # where a larger share of classes is likely, all of them are told with the same step


class Led(NamedTuple):
    """Leading levels of an image's rows, see `Rebuilder`."""

    paths: Paths  # [v, 1 + f]: one path for all views that share a stream
    points: np.ndarray  # float64 [v, 1 + f]: what they stand for, 1/FRACTION steps


class Refined(NamedTuple):
    """Likely classes of an image's rows."""

    likely: Likely
    errors: np.ndarray  # float64 [m]: what coefficients leave of them, natural unit
    paths: Paths  # [m]: one path for all views that share a stream
    points: np.ndarray  # float64 [m]: what they stand for, 1/FRACTION of their steps


@dataclass
class Coded:
    """Levels of some images, v views of each, with what is stored once for each of all n images."""

    index: int  # of the step
    images: np.ndarray  # int64 [m]
    views: np.ndarray  # int64 [v]
    edges: np.ndarray  # int64: where among the views those of a stream begin, and the last one ends
    head: Head  # what is not of the mean is filled in for the m
    rebuilder: Rebuilder
    counts: list[np.ndarray] = field(default_factory=list)  # float64 [v]: how many rows of its image one stands for
    lead: list[Led] = field(default_factory=list)
    rows: list[Paths] = field(default_factory=list)  # [v, D]
    fine: list[Refined] = field(default_factory=list)  # see Source.refine; empty: nothing is refined

    def bytes(self) -> float:
        """Estimate of what it takes to write all K views of all n images, if what is here stands for them: good to a
        part in a thousand and some bytes."""
        own = self.head.own_bits(self.images)
        rows = self._views(sum(float(led.paths.bits.sum()) for led in self.lead)) + self._of_rows()
        return (self.head.means.bits() + self._images(own + rows)) / 8 + self.refinement()

    def refinement(self) -> float:
        """How much of `bytes` the likely classes take."""
        own = 0.0
        if self.head.refined is not None:
            own = refine.numbers_bits(self.head.refined[self.images], self.head.least)
        return self._images(own + self._views(sum(float(fine.paths.bits.sum()) for fine in self.fine))) / 8

    def of_rows(self) -> float:
        """How much of `bytes` the coefficients take."""
        return self._images(self._of_rows()) / 8

    def density(self) -> float:
        """Bits that a coefficient takes which is not certainly zero; at least a quarter."""
        count = sum(int(np.count_nonzero(rows.cells >= 0)) for rows in self.rows)
        return max(sum(float(rows.bits.sum()) for rows in self.rows) / max(count, 1), 0.25)

    def growth(self) -> float:
        """Estimate of how many bytes `bytes` grows by for each octave that the step gets finer."""
        rows = sum(led.paths.growth for led in self.lead) + sum(rows.growth for rows in self.rows)
        own = sum(self.head.ranked[image].growth for image in self.images)
        return (self.head.means.growth + self._images(own + self._views(rows))) / 8

    def _of_rows(self) -> float:
        return sum(float(count @ rows.bits) for count, rows in zip(self.counts, self.rows, strict=True))

    def _views(self, of_these: float) -> float:
        """What all K views take, of some bits that those here take."""
        return of_these * self.rebuilder.views / len(self.views)

    def _images(self, of_these: float) -> float:
        """What all n images take, of some bits that those here take."""
        return of_these * len(self.head.gains) / len(self.images)


class _Errors(NamedTuple):
    """What the coefficients leave of the likely classes of some rows."""

    true: np.ndarray  # float64 [v, C], natural unit: the rows
    found: np.ndarray  # float64 [v, C]: as their coefficients say
    likely: Likely
    values: np.ndarray  # float64 [m]: true less found, of the likely classes


class Scaled:
    """Logits [n, K, C] relative to 2^exponent, scaled where they are read: a set is held once, as it was given."""

    def __init__(self, logits: np.ndarray, exponent: int) -> None:
        self.shape, self._logits, self._exponent = logits.shape, logits, exponent

    def __getitem__(self, index: int | slice | tuple[int | slice, ...]) -> np.ndarray:
        """float32, new: the scale is exact, and float64 on the way holds a magnitude that float32 may not."""
        some = self._logits[index]
        scaled = np.empty(some.shape, np.float32)
        pairs = zip(scaled, some, strict=True) if some.ndim == 3 else [(scaled, some)]
        for out, image in pairs:  # one by one, since float64 takes four times the room
            out[...] = np.ldexp(image.astype(np.float64), -self._exponent)
        return scaled


class Source:
    """Labels made ready for coding at any step: projected once."""

    def __init__(self, values: np.ndarray | Scaled, side: Side, basis: Basis, group: int) -> None:
        """values: float32 [n, K, C] in the basis' unit; `group`: how many consecutive views share a stream."""
        self.side, self.basis, self.group = side, basis, group
        self.shape = values.shape
        self._projected: dict[bool, tuple[np.ndarray, np.ndarray]] = {}
        self._started: tuple[int, MeanRows, np.ndarray] | None = None
        first = values[0, :: -(-values.shape[1] // _LOOKED_AT)]
        share = len(refine.likely(self._natural(first)).row) / max(first.size, 1)
        self.least = 1 if share < _MOSTLY_LIKELY else refine.NOTHING  # the least grade that may pay
        self._values, self._mean = values, basis.mean.astype(np.float32)

    def plans(self, index: int, images: np.ndarray) -> list[Plan]:
        """The low-rank parts of these images, int64, that pay at this step."""
        rebuilder, rows = self._start(index)[0], self._at(index)[0]
        result = []
        for image in images:
            at = self._rows_of(image, np.arange(self.shape[1]))
            rest = rows[image] - self._meaning(rebuilder.predicted(*at), index)
            result.append(plan.make(rest, rebuilder.partners(*at), self.basis, step_of(index)))
        return result

    def code(self, index: int, images: np.ndarray, plans: list[Plan], views: np.ndarray) -> Coded:
        """Levels of these views (int64) of these images at this step; low-rank parts were planned for one near it.
        Likely classes are left to `refine`."""
        rows = self._at(index)[0]
        rebuilder, head = self._start(index)
        coded = Coded(index, images, views, self._edges(views), head, rebuilder)
        step = np.float32(step_of(index))
        for image, mine in zip(images, plans, strict=True):
            at = self._rows_of(image, views)
            lead, rest = self._lead(rows[image, views], at, mine, mine.left, coded)
            found = np.square(rest).mean(0)
            if (self._gains(found, index) > head.gains[image] + _LOUDER).any():
                # The plan counts on factors that got lost, or is of another step: coefficients have to tell the rest.
                lead, rest = self._lead(rows[image, views], at, mine, np.maximum(mine.left, found), coded)
            head.along[image], head.ranked[image] = rebuilder.along[image], rebuilder.ranked[image]
            rest /= step
            coded.counts.append(mine.counts(views))
            coded.lead.append(lead)
            coded.rows.append(CODER.rows(rest, self._base(coded, image)))
        return coded

    def weigh(self, coded: Coded, place: int, at: np.ndarray, weight: float) -> None:
        """Code some rows of an image anew, with so many times the usual weight of bits for coefficients.

        Args:
            coded: changed in place; likely classes of these rows too, where they are refined: with the numbers that
                the image has.
            place: of the image among `coded.images`.
            at: int64, places of the rows' views among `coded.views`, ascending.
            weight: see `Coder.rows`.
        """
        image, views = int(coded.images[place]), coded.views[at]
        whole = coded.rebuilder.led_by(*self._rows_of(image, views), coded.lead[place].points[at])
        rest = self._at(coded.index)[0][image, views] / np.float32(step_of(coded.index))
        rest -= (whole / FRACTION).astype(np.float32)
        rows = CODER.rows(rest, self._base(coded, image), weight)
        coded.rows[place] = coded.rows[place].with_rows(at, rows)
        if coded.head.refined is not None:
            CODER.restore(rows, whole)
            errors = self._errors(image, views, coded.rebuilder.logits(whole), coded)
            before = coded.fine[place]
            after = refine.spliced(before.likely, before.errors, at, errors.likely, errors.values)
            coded.fine[place] = self._fine(*after, coded.head.refined[image], coded)

    def refine(self, coded: Coded, least: int) -> None:
        """Code the likely classes too, of this grade and more likely; nothing happens the second time."""
        head = coded.head
        if least == refine.NOTHING or head.refined is not None:
            return
        head.refined, head.least = np.zeros((self.shape[0], refine.NUMBERS), np.int32), least
        for place, image in enumerate(coded.images):
            errors = self._errors(image, coded.views, self._decoded(coded, place), coded)
            numbers = refine.look(errors.values, errors.likely.grade, self._units(coded.index))
            fine = self._fine(errors.likely, errors.values, numbers, coded)
            numbers[-1] = self._raise(errors, fine, numbers, coded.index)
            head.refined[image] = numbers
            coded.fine.append(fine)

    def divergence(self, coded: Coded) -> float:
        """Logarithm of the KL divergence at T = 1 times that at T = 20, means over the rows that are coded: a student's
        temperature is not known here."""
        total = np.zeros(len(_TEMPERATURES))
        step = refine.step_of(coded.index, self.basis.exponent)
        for place, image in enumerate(coded.images):
            found = self._decoded(coded, place)
            if coded.head.refined is not None:
                fine, numbers = coded.fine[place], np.tile(coded.head.refined[image], (len(found), 1))
                refine.correct(found, fine.likely, fine.points, numbers, step)
            true = self._natural(self._true(image, coded.index)[coded.views] + self._mean)
            for at, temperature in enumerate(_TEMPERATURES):
                p, q = log_softmax(true / temperature, axis=1), log_softmax(found / temperature, axis=1)
                total[at] += float((np.exp(p) * (p - q)).sum(1).mean())
        return float(np.log(np.maximum(total, 1e-300)).sum())

    def _base(self, coded: Coded, image: int) -> np.ndarray:
        """int32 [D]: log-scales of an image's coefficients, before the gains of rows."""
        return heads.scales(coded.head.gains[image], self.basis, coded.index)

    def _decoded(self, coded: Coded, place: int) -> np.ndarray:
        """float64 [v, C], natural unit: rows of the image at this place, likely classes not yet refined."""
        at = self._rows_of(coded.images[place], coded.views)
        whole = coded.rebuilder.led_by(*at, coded.lead[place].points)
        CODER.restore(coded.rows[place], whole)
        return coded.rebuilder.logits(whole)

    def _at(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows [n, K, D] and means [n, D], float32."""
        kept = index >= OFFSETS_KEPT
        if kept not in self._projected:
            values = self._true(slice(None), index)
            n, k, c = self.shape
            rows = self.basis.project(values.reshape(n * k, c)).reshape(n, k, -1)
            del values
            self._projected[kept] = rows, means(rows, self.side, self.basis)
        return self._projected[kept]

    def _true(self, image: int | slice, index: int) -> np.ndarray:
        """Logits less the mean of all. Softmax does not see a constant added to a row: a coarse code drops it."""
        values = self._values[image]
        values = np.subtract(values, self._mean, out=values if isinstance(self._values, Scaled) else None)
        if index < OFFSETS_KEPT:
            values -= values.mean(-1, keepdims=True)
        return values

    @staticmethod
    def _rows_of(image: int, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(views), image), views

    def _start(self, index: int) -> tuple[Rebuilder, Head]:
        """Means coded; everything else still empty."""
        n, k, _ = self.shape
        if self._started is None or self._started[0] != index:
            own = self._at(index)[1]
            if self.side.known is not None:
                own = own - self.side.known
            coded = meanrows.code(own, self.basis.means, heads.mean_index(index))
            self._started = index, coded, heads.table(coded, self.side, index)
        _, coded, table = self._started
        rebuilder = Rebuilder(index, table, self.side, self.basis, k)
        return rebuilder, Head(coded, np.zeros_like(coded.gains), np.zeros(n, np.int32), list(rebuilder.ranked))

    def _edges(self, views: np.ndarray) -> np.ndarray:
        """int64: where among these views those of a stream begin, and the last one ends."""
        return np.append(np.flatnonzero(np.diff(views // self.group, prepend=-1)), len(views))

    def _gains(self, squares: np.ndarray, index: int) -> np.ndarray:
        return bands.gains_of(squares, self.basis.rows, self.basis.rows - step_units(index))

    def _lead(
        self, rows: np.ndarray, at: tuple[np.ndarray, np.ndarray], mine: Plan, left: np.ndarray, coded: Coded
    ) -> tuple[Led, np.ndarray]:
        """Leading levels of rows of an image (float32 [v, D], at `at`), and float32 [v, D]: what they leave.

        `left` [D]: mean squares of that, about, of all views; how finely factors are told depends on it.
        """
        image, index, rebuilder = int(at[0][0]), coded.index, coded.rebuilder
        coded.head.gains[image] = self._gains(left, index)
        step = step_of(index)
        scales = self._base(coded, image)
        ranked = plan.right_factors(mine, scales, self.basis, step, step_units(index))
        along, values = 0, np.zeros((len(rows), 1 + ranked.rank), np.float32)
        rest = rows - self._meaning(rebuilder.predicted(*at), index)
        if mine.along:
            partners = rebuilder.partners(*at)
            numbers = np.einsum("kd,kd->k", rest, partners)
            rest -= numbers[:, None] * partners
            values[:, 0] = numbers / np.float32(step * prices.size_of(np.array(rebuilder.coarser(scales))))
            along = along_gain(values[:, 0])
        rebuilder.tell(image, along, ranked, scales)
        if ranked.rank:
            values[:, 1:] = plan.left_factors(rest, ranked, step)
        units = np.ascontiguousarray(rebuilder.leading_units(*at)[:, : values.shape[1]])
        paths = CODER.along(values, units.reshape(-1), coded.edges * values.shape[1])
        led = Led(paths, CODER.restored(paths))
        return led, rows - self._meaning(rebuilder.led_by(*at, led.points), index)

    def _errors(self, image: int, views: np.ndarray, found: np.ndarray, coded: Coded) -> _Errors:
        """Of rows that decode to `found` so far."""
        true = self._natural(self._true(image, coded.index)[views] + self._mean)
        if coded.index >= OFFSETS_KEPT:
            # A fitted basis may have no room for a constant. What is lost of it must not be made good for some classes.
            true -= (true - found).mean(1, keepdims=True)
        likely = refine.likely(found, coded.head.least)
        at = likely.row, likely.column
        return _Errors(true, found, likely, true[at] - found[at])

    def _fine(self, likely: Likely, errors: np.ndarray, numbers: np.ndarray, coded: Coded) -> Refined:
        """Levels of the likely classes of an image with these numbers, int32 [NUMBERS]."""
        grade, step = likely.grade, refine.step_of(coded.index, self.basis.exponent)
        mine = np.broadcast_to(numbers, (len(grade), len(numbers)))
        rest = (errors - refine.biases(grade, mine)) / refine.steps_of(grade, step)
        bounds = np.searchsorted(likely.row, coded.edges)
        paths = CODER.along(rest.astype(np.float32), refine.units(grade, mine, step), bounds)
        return Refined(likely, errors, paths, CODER.restored(paths))

    def _raise(self, errors: _Errors, fine: Refined, numbers: np.ndarray, index: int) -> int:
        """What unlikely classes of an image are best raised by."""
        likely, step = errors.likely, refine.step_of(index, self.basis.exponent)
        mine = np.broadcast_to(numbers, (len(likely.grade), len(numbers)))
        errors.found[likely.row, likely.column] += refine.corrections(fine.points, likely.grade, mine, step)
        return refine.best_raise(errors.true, errors.found, likely)

    def _units(self, index: int) -> int:
        return refine.natural_units(index, self.basis.exponent)

    def _natural(self, values: np.ndarray) -> np.ndarray:
        return np.ldexp(values, self.basis.exponent, dtype=np.float64)

    @staticmethod
    def _meaning(whole: np.ndarray | float, index: int) -> np.ndarray:
        return np.multiply(whole, step_of(index) / FRACTION, dtype=np.float32, casting="same_kind")
