"""The finest step within a budget, and the weight of bits that fills what is left."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.errors import InfeasibleError
from methods._codec.klt import refine
from methods._codec.klt.codec import Coded, Source
from methods._codec.klt.narrowing import Bracket, Weights
from methods._codec.klt.sample import likely_and_step
from methods._codec.klt.steps import STEPS
from methods._codec.klt.trials import Trials, falls

_SPARE, _SPARE_BYTES = 0.0003, 4  # share of the budget, and bytes, that are not aimed at: estimates are not exact
# After one, two, ... tries a blob is written where no more than so many times that is left.
_CLOSE = (2, 3, 4, 6, 8, 12)
# So near the budget, as a share of it, after one, two, ... tries, not the step but the weight of bits is changed.
_NEARLY = (0.025, 0.03, 0.04, 0.05)
_LEAST, _LEAST_OF_IMAGE = 200, 64  # bytes: the coarsest step takes less
_MOSTLY = 0.9  # of the budget: if less is filled, nothing is refined and all tried anew
_FULL = 0.995  # of the budget: if less is filled, another step is tried
_UNSURE = 20  # bytes, by which what blobs take besides the estimate may be guessed wrongly
_TRIES = 12
_REPLANNED = 3  # tries that plan anew where the step has moved far


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
    least, index, some = likely_and_step(source, budget_bytes - overhead)
    best, coarser = b"", index
    # Where likely classes take the more the coarser a step is, only without them a budget is filled.
    for grade in dict.fromkeys((least, refine.NOTHING)):
        trials = _all(source, grade)
        if grade == least:
            trials.refined_as(some)
        if some.images == n:
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


def _all(source: Source, least: int) -> Trials:
    n, k, _ = source.shape
    return Trials(source, np.arange(n), np.arange(k), least)


def _searched(
    trials: Trials, index: int, blob: Callable[[Coded], bytes], budget_bytes: int, overhead: int
) -> tuple[bytes, int]:
    """The blob that fills most of the budget, none if no step was found that keeps within it; and the finest step that
    is known to do, or not known not to."""
    bracket, best, besides = Bracket(), b"", float(overhead)  # besides: corrected once a blob tells
    full, filled = _FULL * budget_bytes - _SPARE_BYTES, set[int]()
    for tries in range(_TRIES):
        trials.frozen, planned = tries >= _REPLANNED, trials.planned_at
        size, growth = trials.bytes(index)
        if trials.planned_at != planned:
            bracket = Bracket()  # what other plans led to says little
        size += besides
        bracket.tell(index, size, size <= budget_bytes)
        nearly = _NEARLY[min(tries, len(_NEARLY) - 1)]
        near = abs(size - budget_bytes) <= max(min(nearly * budget_bytes, trials.reach(index)), _SPARE_BYTES)
        last = bracket.closed
        if near or last:
            index = index if near else bracket.finest
            filled.add(index)
            found, size, besides = _filled(trials, index, blob, budget_bytes, besides)
            best = max(best, found, key=len)
            if len(best) >= full or (last and found):
                break
            bracket.tell(index, size, bool(found) or size <= budget_bytes)
        if bracket.closed:
            break
        index = bracket.step(index, size, growth, budget_bytes)
    if len(best) < full and bracket.low >= 0 and bracket.low not in filled:
        best = max(best, _filled(trials, bracket.low, blob, budget_bytes, besides)[0], key=len)
    return best, bracket.finest


def _filled(
    trials: Trials, index: int, blob: Callable[[Coded], bytes], budget_bytes: int, besides: float
) -> tuple[bytes, float, float]:
    """A blob with the step of this index that leaves little of the budget, by more or less weight of bits; none where
    that is not enough to keep within it. Also about the bytes that the step takes with the usual weight, and what blobs
    take besides the estimate."""
    coded, weights, best = trials.taken(index), Weights(), b""
    usual, mine = trials.bytes_of(coded), np.zeros(sum(len(rows.bits) for rows in coded.rows))
    spare = max(_SPARE * budget_bytes, _SPARE_BYTES)
    if not budget_bytes - 2 * spare <= usual + besides <= budget_bytes - spare / 2:
        weights.tell(usual, budget_bytes - spare - besides, falls(coded))
    trials.weigh(coded, mine, weights.of(len(mine)))
    if not coded.fine:
        # Only now, so that those of rows that are weighed anew are coded once.
        thought = trials.refinement
        trials.refine(coded)
        if coded.fine:
            usual += trials.refinement - thought
            weights.forget()
    mine = weights.of(len(mine))
    for tries in range(_TRIES):
        before, mine = mine, weights.of(len(mine))
        trials.weigh(coded, before, mine)
        estimate = coded.bytes()
        size = estimate + besides
        enough = budget_bytes - _CLOSE[min(tries, len(_CLOSE) - 1)] * spare
        # The first blob tells what blobs take besides: where that is much, it cannot be too early.
        early = not tries and 0.01 * budget_bytes < _UNSURE
        last = weights.settled and size <= budget_bytes + spare
        if early or last or enough <= size <= budget_bytes - spare / 2:
            found = blob(coded)
            besides += len(found) - size
            size = len(found)
            if len(best) < size <= budget_bytes:
                best = found
            if enough - spare <= size <= budget_bytes:
                break
        if weights.settled:
            break
        weights.tell(estimate, budget_bytes - spare - besides, falls(coded))
    if not best and weights.back(usual, budget_bytes - besides):
        trials.weigh(coded, mine, weights.of(len(mine)))
        found = blob(coded)
        best = found if len(found) <= budget_bytes else best
    return best, usual + besides, besides


def _descent(start: int) -> list[int]:
    """Steps to try from `start` on, in growing strides down to the coarsest."""
    strides = np.concatenate([np.arange(8), 8 * 2 ** np.arange(12)])
    return sorted({max(0, start - int(stride)) for stride in strides}, reverse=True)
