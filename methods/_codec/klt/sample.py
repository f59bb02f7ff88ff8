"""What some rows of some images say of all: about the finest step that fits, and which likely classes pay."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from methods._codec.klt import refine
from methods._codec.klt.codec import Source
from methods._codec.klt.narrowing import GOLDEN, Bracket
from methods._codec.klt.plan import Plan
from methods._codec.klt.prices import units_of
from methods._codec.klt.steps import PER_OCTAVE, STEPS, step_units
from methods._codec.klt.tables import rate
from methods._codec.klt.trials import Trials, expected, of_means

_IMAGES = 16  # that stand for all,
_ROWS = 64  # and about so many rows in all, at least
_FEWEST = 12  # rows of an image
_ROUGH = PER_OCTAVE // 12  # steps: a sample of rows says no more, and what is left is soon corrected
_TRIES = 12
_PLANNED_FINER = PER_OCTAVE // 10  # what plans say knows nothing of likely classes: it is too fine by so much
_GAINED = 0.045  # of the bits of coefficients, about, by what their scales are told from those before in a row
_FAR_OVER = 1.1  # of the room: a size that was estimated may turn out so large, for a grade to be tried
_MUCH = 1 / 8  # of the budget: if likely classes take more, it is tried whether fewer of them do better


def likely_and_step(source: Source, room: int) -> tuple[int, int, Trials]:
    """The least grade of likely classes that pays, about the finest step that fits in `room` bytes with it, and the
    trials that told: of some images, and some of their views."""
    images = _spread(source.shape[0], _IMAGES)
    # Right for photographs, to an eighth of an octave. Plans of a coarser step have a component too few.
    index = _finest(lambda step: expected(source, step), room)
    plans = source.plans(index, images)
    views = _typical(plans, max(_FEWEST, _ROWS // len(images)))
    some = Trials(source, images, views, source.least).planned(plans, index)
    planned = _finest(lambda step: _planned(source, plans, step), room) - _PLANNED_FINER
    # Low-rank parts would be others far away.
    index = _roughly(some, max(min(planned, index + PER_OCTAVE), index - PER_OCTAVE, 0), room)
    if some.refinement <= _MUCH * room:
        return source.least, index, some
    tried = []
    for least in range(source.least, refine.NOTHING + 1):
        others = Trials(source, images, views, least).planned_as(some)
        index = _roughly(others, index, room)
        coded = others.code(index)
        fits = least == refine.NOTHING or coded.bytes() <= _FAR_OVER * room
        tried.append((source.divergence(coded) if fits else math.inf, least, index, others))
    return min(tried, key=lambda one: one[0])[1:]


def _roughly(trials: Trials, index: int, room: int) -> int:
    """About the finest step whose estimate fits in `room` bytes."""
    bracket = Bracket()
    for _ in range(_TRIES):
        size, growth = trials.bytes(index)
        bracket.tell(index, size, size <= room)
        before, index = index, bracket.step(index, size, growth, max(room, 1))
        if abs(index - before) <= _ROUGH or bracket.closed:
            break
    return index


def _finest(bytes_at: Callable[[int], float], room: int) -> int:
    """The finest step that takes no more, where what is taken grows with its index."""
    low, high = 0, STEPS
    while low < high:
        index = (low + high + 1) // 2
        low, high = (index, high) if bytes_at(index) <= room else (low, index - 1)
    return low


def _planned(source: Source, plans: list[Plan], index: int) -> float:
    """Bytes that low-rank parts of these plans, coefficients of the variances that they leave, and means take at a
    step near that of the plans."""
    n, k, _ = source.shape
    scales = [units_of(plan.left) for plan in plans]
    rows = (1 - _GAINED) * k * float(rate(np.stack(scales) - step_units(index)).sum())
    return (rows + sum(plan.lead for plan in plans)) * n / len(plans) / 8 + of_means(source, index)


def _spread(count: int, most: int) -> np.ndarray:
    """int64: at most `most` of 0..count-1."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _typical(plans: list[Plan], most: int) -> np.ndarray:
    """int64, ascending: so many views, of small and of large rows as many as among all."""
    bits = np.sum([plan.bits for plan in plans], axis=0)
    strata = np.arange(min(most, len(bits)))
    # The middle of each would leave out what is at both ends, but is never that of another.
    inside = strata * GOLDEN % 1 if len(bits) >= 3 * len(strata) else 0.5
    places = ((strata + inside) * len(bits) / len(strata)).astype(np.int64)
    return np.sort(np.argsort(bits, kind="stable")[places])
