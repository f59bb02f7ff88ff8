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
_NEAR = PER_OCTAVE // 3  # low-rank parts planned at a step serve steps so near
_SLOPE = 0.7 / PER_OCTAVE  # of ln(bytes) by index, before two are known
_SAMPLE = 16  # images that a first search is made with, where there are many more
_CLIMB = 8  # finer steps tried in turn when more than so little is left:
_SPARE = 16  # bytes
_SMALL = 4000  # bytes: below, every step is tried that the bracket leaves


class _Trials:
    """Codes images of a source at steps, with plans made anew only where the step has moved."""

    def __init__(self, source: Source, images: np.ndarray) -> None:
        self._source, self._images, self._plans, self._planned = source, images, list[Plan](), -PER_OCTAVE
        self.frozen = False
        self._known: dict[int, Coded] = {}  # the last
        self._fine: float | None = None

    def code(self, index: int) -> Coded:
        """All of it."""
        if index not in self._known:
            self._plan(index)
            self._known = {index: self._source.code(index, self._images, self._plans)}
        return self._known[index]

    def bytes(self, index: int) -> float:
        """Estimate of the size. Likely classes take about as much at one step as at another, and much time."""
        self._plan(index)
        if self._fine is None:
            coded = self._source.code(index, self._images, self._plans)
            self._fine = coded.fine_bytes()
            return coded.bytes()
        return self._source.code(index, self._images, self._plans, coarse=True).bytes() + self._fine

    def _plan(self, index: int) -> None:
        if abs(index - self._planned) > _NEAR and not self.frozen:
            self._plans, self._planned = self._source.plans(index, self._images), index


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
    n = source.shape[0]
    room, index = budget_bytes - overhead, _guess(source, budget_bytes - overhead)
    if n > 2 * _SAMPLE:
        some = np.unique(np.linspace(0, n - 1, _SAMPLE).astype(int))
        index = _approach(_Trials(source, some), index, room, _NEAR)
    trials = _Trials(source, np.arange(n))
    index = _approach(trials, index, room, _NEAR)
    trials.frozen = True
    index = _approach(trials, index, room, 1)
    for step in _descent(index):
        index, found = step, blob(trials.code(step), step)
        if len(found) <= budget_bytes:
            break
    else:
        raise InfeasibleError(len(found), f"the coarsest step takes more than the {budget_bytes} bytes left")
    for step in range(index + 1, min(index + _CLIMB, STEPS) + 1):
        if budget_bytes - len(found) < max(_SPARE, 2 * _CLOSE * budget_bytes):
            break
        finer = blob(trials.code(step), step)
        if len(finer) > budget_bytes:
            break
        found = finer
    return found


def _approach(trials: _Trials, index: int, room: int, apart: int) -> int:
    """The finest step whose estimate fits in `room` bytes, to within `apart`; 0 if none does."""
    low, high = -1, STEPS + 1  # the finest known to fit, the coarsest known not to
    seen: dict[int, float] = {}
    while high - low > apart:
        index = min(max(index, low + 1, 0), high - 1, STEPS)
        size = max(trials.bytes(index), 1.0)
        seen[index] = float(np.log(size))
        low, high = (index, high) if size <= room else (low, index)
        if size <= room and (index == STEPS or (size >= room * (1 - _CLOSE) and room > _SMALL)):
            break
        slope = _SLOPE
        for other in sorted(seen, key=lambda at: abs(at - index))[1:2]:
            slope = float(np.clip((seen[index] - seen[other]) / (index - other), 0.3 * _SLOPE, 3 * _SLOPE))
        index += round((float(np.log(max(room, 1))) - seen[index]) / slope)
    return max(low, 0)


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
