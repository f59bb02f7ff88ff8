"""The finest step within a budget, and the weight of bits that fills what is left."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bench.errors import InfeasibleError
from methods._codec.klt import head as heads
from methods._codec.klt import refine
from methods._codec.klt.codec import Coded, Source
from methods._codec.klt.plan import Plan
from methods._codec.klt.steps import OFFSETS_KEPT, PER_OCTAVE, STEPS, step_units
from methods._codec.klt.tables import rate

# So near to this share of the budget below it, and to so many bytes below, is aimed after one, two, ... tries.
_CLOSE = (0.0002, 0.0002, 0.0005, 0.001, 0.002, 0.004)
_SPARE = 4
_NEAR = PER_OCTAVE // 3  # low-rank parts planned at a step serve steps so near
_ROUGH = PER_OCTAVE // 12  # steps: a sample of rows says no more, and what is left is soon corrected
_LEAST_GROWTH = 0.2  # of ln(bytes) by octave
_SLOPE_OVER = PER_OCTAVE // 8
_IMAGES = 16  # that stand for all in a first search,
_ROWS = 64  # and about so many rows in all, at least
_FEWEST = 12  # rows of an image
# So near the budget, as a share of it, after one, two, ... tries, not the step but the weight of bits is changed; ...
_NEARLY = (0.025, 0.03, 0.04, 0.05)
_REACH = 0.2  # ... and so near that ln(weight) need not change by more
_LEAST, _LEAST_OF_IMAGE = 200, 64  # bytes: the coarsest step takes less
_MOSTLY = 0.9  # of the budget: if less is filled, nothing is refined and all tried anew
_FULL = 0.995  # of the budget: if less is filled, another step is tried
_FEW_ROWS = 64
_LOG_STEP = 2 / 5  # in which rows' weights differ, as logarithms: finer, more rows are coded anew; KL20 .1 % less
_GOLDEN = 0.5 * (5**0.5 - 1)  # multiples of it, less whole numbers, are spread evenly, however many
_UNSURE = 20  # bytes, by which what blobs take besides the estimate may be guessed wrongly
_LOG_HEAVIEST = 0.5  # of the greatest weight, times the usual one; the least is as far below
_YIELD = 0.45  # ln(bytes of coefficients) falls so much with ln(weight) at one bit a coefficient
_GUESSED_FINER = PER_OCTAVE // 7  # a guess is too fine by so much: it knows of coefficients and means alone
_TRIES = 12
_REPLANNED = 3  # tries that plan anew where the step has moved far
_FAR_OVER = 1.1  # of the room: a size that was estimated may turn out so large, for a grade to be tried
_MUCH = 1 / 8  # of the budget: if likely classes take more, it is tried whether fewer of them do better


class _Trials:
    """Codes some images and views of a source at steps, with plans made anew only where the step has moved."""

    def __init__(self, source: Source, images: np.ndarray, views: np.ndarray, least: int) -> None:
        """`least`: the least grade of likely classes that is refined, see `refine`."""
        self._source, self._images, self._views, self._least = source, images, views, least
        self._plans, self._planned, self.frozen = list[Plan](), -PER_OCTAVE, False
        self._known: dict[int, Coded] = {}  # the last
        self.refinement, self._refined_at = 0.0, -PER_OCTAVE  # bytes, and the index of the step at which they were told

    @property
    def views(self) -> int:
        """K of the source."""
        return self._source.shape[1]

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
        coded, views = self._coarse(index), self._source.shape[1]
        if abs(index - self._refined_at) > _NEAR:
            self._source.refine(coded, self._least)
            self.refinement, self._refined_at = coded.refinement(views), index
        size = max(coded.bytes(views) - coded.refinement(views) + self.refinement, 1.0)
        growth = max(coded.growth(views) / size, _LEAST_GROWTH) / PER_OCTAVE
        return size, 0.5 * (growth + _growth(self._source, index))

    def reach(self, index: int) -> float:
        """Bytes by which a size is easily changed by the weight of bits."""
        return _REACH * _falls(self._coarse(index), self.views)

    def taken(self, index: int) -> Coded:
        """All of it, with likely classes, to be changed at will: it is coded anew when asked for again."""
        coded = self.code(index)
        self._known.clear()
        self.refinement, self._refined_at = coded.refinement(self.views), index
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

    def planned(self, plans: list[Plan], index: int) -> _Trials:
        """With plans for the same images that were made at the step of this index; self."""
        self._plans, self._planned = plans, index
        return self

    def planned_as(self, other: _Trials) -> _Trials:
        """With the plans of others for the same images; self."""
        return self.planned(other._plans, other._planned)

    def refined_as(self, other: _Trials) -> None:
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


def finest(source: Source, blob: Callable[[Coded], bytes], budget_bytes: int, overhead: int) -> bytes:
    """The blob of about the finest step within the budget, filled by the weight of bits.

    Args:
        source: what is coded.
        blob: serialises a coded source.
        budget_bytes: for the blob.
        overhead: bytes of the container, about.

    Raises:
        InfeasibleError: the coarsest step does not fit; it carries the size that this would take.
    """
    n = source.shape[0]
    if budget_bytes < _LEAST + _LEAST_OF_IMAGE * n:
        # Chance may find a step that takes a few bytes less: what is the least must not depend on the budget.
        _coarsest(source, blob, budget_bytes)
    images = _spread(n, _IMAGES)
    least, index, some = _likely_and_step(source, images, budget_bytes - overhead)
    best, coarser = b"", index
    # Where likely classes take the more the coarser a step is, only without them a budget is filled.
    for grade in dict.fromkeys((least, refine.NOTHING)):
        trials = _all(source, grade)
        if grade == least:
            trials.refined_as(some)
        if len(images) == n:
            trials.planned_as(some)
        found, step = _searched(trials, index, blob, budget_bytes, overhead)
        best, coarser = max(best, found, key=len), min(coarser, step)
        if len(best) >= _MOSTLY * budget_bytes or (best and step == STEPS):
            return best
    if best:
        return best
    trials = _all(source, least)
    for step in _descent(coarser):
        found = blob(trials.code(step))
        if len(found) <= budget_bytes:
            return found
    return _coarsest(source, blob, budget_bytes)


def _coarsest(source: Source, blob: Callable[[Coded], bytes], budget_bytes: int) -> bytes:
    """The blob of the coarsest step. Raises InfeasibleError if it is too large."""
    found = blob(_all(source, refine.NOTHING).code(0))
    if len(found) > budget_bytes:
        raise InfeasibleError(len(found), f"the coarsest step takes more than the {budget_bytes} bytes left")
    return found


def _all(source: Source, least: int) -> _Trials:
    n, k, _ = source.shape
    return _Trials(source, np.arange(n), np.arange(k), least)


def _searched(
    trials: _Trials, index: int, blob: Callable[[Coded], bytes], budget_bytes: int, overhead: int
) -> tuple[bytes, int]:
    """The blob that fills most of the budget, none if no step was found that keeps within it; and the finest step that
    is known to do, or not known not to."""
    bracket, best, besides = _Bracket(), b"", float(overhead)  # besides: corrected once a blob tells
    for tries in range(_TRIES):
        trials.frozen, planned = tries >= _REPLANNED, trials.planned_at
        size, growth = trials.bytes(index)
        if trials.planned_at != planned:
            bracket = _Bracket()  # what other plans led to says little
        size += besides
        bracket.tell(index, size, size <= budget_bytes)
        nearly = _NEARLY[min(tries, len(_NEARLY) - 1)]
        near = abs(size - budget_bytes) <= max(min(nearly * budget_bytes, trials.reach(index)), _SPARE)
        last = bracket.closed
        if near or last:
            index = index if near else bracket.finest
            found, size, besides = _filled(trials, index, blob, budget_bytes, besides)
            best = max(best, found, key=len)
            if len(best) >= _FULL * budget_bytes - _SPARE or (last and found):
                break
            bracket.tell(index, size, bool(found))
        if bracket.closed:
            break
        index = bracket.step(index, size, growth, budget_bytes)
    if not best and bracket.low >= 0:
        found = blob(trials.code(bracket.low))
        best = found if len(found) <= budget_bytes else best
    return best, bracket.finest


def _filled(
    trials: _Trials, index: int, blob: Callable[[Coded], bytes], budget_bytes: int, besides: float
) -> tuple[bytes, float, float]:
    """A blob with the step of this index that leaves little of the budget, by more or less weight of bits; none where
    that is not enough to keep within it. Also about the bytes that the step takes with the usual weight, and what blobs
    take besides the estimate."""
    best, weights, coded, usual = b"", _Weights(), trials.taken(index), 0.0
    mine = np.zeros(len(coded.images) * trials.views)
    for tries in range(_TRIES):
        before, mine = mine, weights.of(len(mine))
        trials.weigh(coded, before, mine)
        estimate = coded.bytes(trials.views)
        usual = usual or estimate
        size = estimate + besides
        spare = max(_CLOSE[min(tries, len(_CLOSE) - 1)] * budget_bytes, _SPARE)
        close = budget_bytes - 2 * spare <= size <= budget_bytes - spare / 2
        # The first blob tells what blobs take besides: where that is much, it cannot be too early.
        if close or (not tries and 0.01 * budget_bytes < _UNSURE) or (weights.settled and size <= budget_bytes + spare):
            found = blob(coded)
            besides += len(found) - size
            size = len(found)
            if len(best) < size <= budget_bytes:
                best = found
            if budget_bytes - 3 * spare <= size <= budget_bytes:
                break
        if weights.settled:
            break
        weights.tell(estimate, budget_bytes - spare - besides, _falls(coded, trials.views))
    return best, usual + besides, besides


def _falls(coded: Coded, views: int) -> float:
    """By about how many bytes the size falls with ln(weight)."""
    bits = coded.density()
    return _YIELD * coded.of_rows(views) / (bits * max(bits, 1.0))


class _Weights:
    """Weights of bits, times the usual one, and what sizes they led to.

    A mean logarithm is reached by some rows at a time: to code them anew takes less time than all, and neighbours on a
    scale of weights so fine are equally good.
    """

    def __init__(self) -> None:
        self._log, self._told = 0.0, list[tuple[float, float]]()
        self._low, self._high = -_LOG_HEAVIEST, _LOG_HEAVIEST  # the wanted one is between these

    def of(self, rows: int) -> np.ndarray:
        """float64 [rows]: logarithms of the weights to try, multiples of `_LOG_STEP` with about the mean wanted. Those
        that are raised first are spread evenly. A few rows all have the mean."""
        if rows <= _FEW_ROWS:
            return np.full(rows, self._log)
        rank = np.argsort(np.argsort(np.arange(rows) * _GOLDEN % 1, kind="stable"))
        mine: np.ndarray = _LOG_STEP * np.floor(self._log / _LOG_STEP + (rows - 1 - rank) / rows + 1e-9)
        return mine

    @property
    def settled(self) -> bool:
        """Whether no other is left."""
        return self._high - self._low < 1e-3 or abs(self._log) == _LOG_HEAVIEST

    def tell(self, size: float, target: float, falls: float) -> None:
        """A size that was found, the one that is wanted, and by how much it falls with ln(weight), as far as is known
        beforehand."""
        self._told.append((self._log, size))
        over = max(((at, size) for at, size in self._told if size > target), default=None)
        under = min(((at, size) for at, size in self._told if size <= target), default=None)
        self._low, self._high = over[0] if over else -_LOG_HEAVIEST, under[0] if under else _LOG_HEAVIEST
        if over and under:
            (low, large), (high, small) = over, under
            self._log = low + (high - low) * min(max((large - target) / max(large - small, 1.0), 0.05), 0.95)
            return
        if len(self._told) > 1 and self._told[-1][0] != self._told[-2][0]:
            (before, first), (after, last) = self._told[-2:]
            falls = max(falls / 4, (first - last) / (after - before))
        self._log = min(max(self._log + (size - target) / max(falls, 1.0), self._low), self._high)


def _likely_and_step(source: Source, images: np.ndarray, room: int) -> tuple[int, int, _Trials]:
    """The least grade of likely classes that pays, about the finest step that fits in `room` bytes with it, and the
    trials that told: of these images, and some views."""
    index = max(_guess(source, room) - _GUESSED_FINER, 0)
    plans = source.plans(index, images)
    views = _typical(plans, max(_FEWEST, _ROWS // len(images)))
    some = _Trials(source, images, views, source.least).planned(plans, index)
    index = _roughly(some, index, room)
    if some.refinement <= _MUCH * room:
        return source.least, index, some
    tried = []
    for least in range(source.least, refine.NOTHING + 1):
        others = _Trials(source, images, views, least).planned_as(some)
        index = _roughly(others, index, room)
        coded = others.code(index)
        fits = least == refine.NOTHING or coded.bytes(others.views) <= _FAR_OVER * room
        tried.append((source.divergence(coded) if fits else math.inf, least, index, others))
    return min(tried, key=lambda one: one[0])[1:]


def _roughly(trials: _Trials, index: int, room: int) -> int:
    """About the finest step whose estimate fits in `room` bytes."""
    bracket = _Bracket()
    for _ in range(_TRIES):
        size, growth = trials.bytes(index)
        bracket.tell(index, size, size <= room)
        before, index = index, bracket.step(index, size, growth, max(room, 1))
        if abs(index - before) <= _ROUGH or bracket.closed:
            break
    return index


class _Bracket:
    """What is known so far of sizes by step."""

    def __init__(self) -> None:
        self.low, self._low_size = -1, 0.0  # the finest step known to fit
        self._high, self._high_size = STEPS + 1, 0.0  # the coarsest known not to

    def tell(self, index: int, size: float, fits: bool) -> None:
        """A step that was tried; what was told before and does not go with it is forgotten."""
        if fits:
            self.low, self._low_size = index, size
            if self._high <= index:
                self._high, self._high_size = STEPS + 1, 0.0
        else:
            self._high, self._high_size = index, size
            if self.low >= index:
                self.low, self._low_size = -1, 0.0

    @property
    def finest(self) -> int:
        """The finest step that is known to fit, or else that is not known not to."""
        return self.low if self.low >= 0 else max(self._high - 1, 0)

    @property
    def closed(self) -> bool:
        """Whether no step is left to try."""
        return self._high - self.low <= 1

    def step(self, index: int, size: float, growth: float, target: float) -> int:
        """Where `target` bytes are expected, after `size` bytes at `index`, where ln(size) grows by `growth` a step."""
        if self._low_size and self._high_size > self._low_size:
            growth = math.log(self._high_size / self._low_size) / (self._high - self.low)
        index += math.floor(math.log(max(target, 1) / size) / growth)
        return min(max(min(index, self._high - 1), self.low + 1, 0), STEPS)


def _spread(count: int, most: int) -> np.ndarray:
    """int64: at most `most` of 0..count-1."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _typical(plans: list[Plan], most: int) -> np.ndarray:
    """int64, ascending: so many views that are as loud, and as different, as all: sizes of rows differ by a third."""
    loud = np.sum([np.log(np.maximum(plan.loud, 1e-30)) for plan in plans], axis=0)
    strata = np.arange(min(most, len(loud)))
    # The middle of each would leave out what is at both ends, but is never that of another.
    inside = strata * _GOLDEN % 1 if len(loud) >= 3 * len(strata) else 0.5
    places = ((strata + inside) * len(loud) / len(strata)).astype(np.int64)
    return np.sort(np.argsort(loud, kind="stable")[places])


def _descent(start: int) -> list[int]:
    """Steps to try from `start` on, in growing strides down to the coarsest."""
    strides = np.concatenate([np.arange(8), 8 * 2 ** np.arange(12)])
    return sorted({max(0, start - int(stride)) for stride in strides}, reverse=True)


def _guess(source: Source, room: int) -> int:
    """The step at which coefficients with the scales of the basis would fill the room."""
    low, high = 0, STEPS
    while low < high:
        index = (low + high + 1) // 2
        low, high = (index, high) if _expected(source, index) <= room else (low, index - 1)
    return low


def _expected(source: Source, index: int) -> float:
    """Bytes that coefficients with the scales of the basis, and means, take at a step."""
    n, k, _ = source.shape
    means = rate(source.basis.means - step_units(heads.mean_index(index)))
    return float(rate(source.basis.rows - step_units(index)).sum() * k + means.sum()) * n / 8


def _growth(source: Source, index: int) -> float:
    """By how much the logarithm of that grows with the index."""
    around = [_expected(source, min(max(index + side, 0), STEPS)) for side in (-_SLOPE_OVER, _SLOPE_OVER)]
    return max(math.log(max(around[1], 1.0) / max(around[0], 1.0)) / (2 * _SLOPE_OVER), _LEAST_GROWTH / PER_OCTAVE)
