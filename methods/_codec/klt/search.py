"""The finest step within a budget."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.errors import InfeasibleError
from methods._codec.klt.codec import Coded, Source
from methods._codec.klt.fit import water_level
from methods._codec.klt.plan import Plan
from methods._codec.klt.steps import COARSEST, PER_OCTAVE, STEPS
from methods._codec.klt.tables import UNITS

_CLOSE = 0.0015  # of the budget: what may stay unused when a finer step would probably not fit
_NEAR = PER_OCTAVE // 4  # low-rank parts planned at a step serve steps so near
_CLIMB = 16  # finer steps tried in turn when more than so little is left:
_SPARE = 16  # bytes
_SMALL = 4000  # bytes: below, every step is tried that the bracket leaves


class _Trials:
    """Codes a source at steps, with plans made anew only where the step has moved."""

    def __init__(self, source: Source) -> None:
        self._source, self._plans, self._planned = source, list[Plan](), -PER_OCTAVE

    def code(self, index: int) -> Coded:
        if abs(index - self._planned) > _NEAR:
            self._plans, self._planned = self._source.plans(index), index
        return self._source.code(index, self._plans)


def finest(source: Source, blob: Callable[[Coded, int], bytes], budget_bytes: int, overhead: int) -> bytes:
    """The blob of the finest step within the budget, as far as an estimate of sizes tells.

    Args:
        source: what is coded.
        blob: serialises a coded source, given the index of its step.
        budget_bytes: for the blob.
        overhead: bytes of the container, about.

    Raises:
        InfeasibleError: the coarsest step does not fit; it carries the size that this would take.
    """
    trials = _Trials(source)
    guess = _guess(source, budget_bytes - overhead)
    low, high = -1, STEPS + 1  # the finest known to fit, the coarsest known not to
    index, room = guess, budget_bytes - overhead
    while high - low > 1:
        index = min(max(index, low + 1, 0), high - 1, STEPS)
        coded = trials.code(index)
        size = coded.bytes()
        if size <= room:
            low = index
            if size >= room * (1 - _CLOSE) and room > _SMALL:
                break
        else:
            high = index
        if index == STEPS:
            break
        slope = max(1.3 * int(np.count_nonzero(coded.levels)) / (8 * PER_OCTAVE), size / (8 * PER_OCTAVE), 1e-3)
        move = int(np.floor((room - size) / slope))
        index += move if move else (1 if size <= room else -1)
        if not low < index < high or abs(move) > 2 * PER_OCTAVE:
            index = (max(low, 0) + min(high, STEPS)) // 2 if high <= STEPS and low >= 0 else index
    for index in _descent(max(low, 0)):
        found = blob(trials.code(index), index)
        if len(found) <= budget_bytes:
            break
    else:
        raise InfeasibleError(len(found), f"the coarsest step takes more than the {budget_bytes} bytes left")
    for index in range(index + 1, min(index + 1 + _CLIMB, STEPS + 1)):
        if budget_bytes - len(found) < max(_SPARE, 2 * _CLOSE * budget_bytes):
            break
        finer = blob(trials.code(index), index)
        if len(finer) > budget_bytes:
            break
        found = finer
    return found


def _descent(start: int) -> list[int]:
    """Steps to try from `start` on, in growing strides down to the coarsest."""
    strides = np.concatenate([np.arange(8), 8 * 2 ** np.arange(12)])
    return sorted({max(0, start - int(stride)) for stride in strides}, reverse=True)


def _guess(source: Source, room: int) -> int:
    """The step at which normal coefficients with the scales of the basis would fill the room."""
    n, k, _ = source.shape
    level, _ = water_level(np.exp2(2.0 / UNITS * source.basis.rows), max(8 * room / (n * k), 0.1))
    octaves = 0.5 * np.log2(max(level, 2.0**-60) * 6)
    return int(np.clip((COARSEST - octaves) * PER_OCTAVE, 0, STEPS))
