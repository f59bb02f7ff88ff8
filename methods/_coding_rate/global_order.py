"""Budget normaliser, classes compete: picks from a few leaders, catching up with the others by matrix products.

A rank-1 sweep over all rows per pick is bound by memory (N d numbers a pick). But q only falls, so a stale q is an
upper bound. The rows stand in nested levels: all, some thousands of leaders, some hundred of theirs. The innermost is
brought up to date at every pick; if its best does not beat the bound of everything outside, the next level catches up
with all updates that it missed, in one product. A falling p raises the score, so p is kept exact for the class just
picked. (A bound with a stale p would be wrong.)
"""

from __future__ import annotations

import numpy as np

from methods._coding_rate.objective import TIE, Problem, lowest_best, squared_norms
from methods._coding_rate.round_robin import CACHE_BYTES, GrowingInverse, PartState

_SHARE, _LEADERS_MIN, _LEADERS_MAX = 8, 1024, 8192  # the middle level: an eighth of the rows, within limits
_INNERMOST = 128
_SLICE = 4096  # rows handled at once in a pass over all


def select_global(problem: Problem) -> tuple[list[int], list[float]]:
    """Indices and gains in pick order."""
    state = _State(problem)
    for _ in range(problem.picks):
        state.pick()
    return state.indices, state.gains


class _Level:
    """Some rows, whose q is exact up to the update `seen`."""

    def __init__(self, index: np.ndarray, rows: np.ndarray | None, q: np.ndarray, seen: int, outside: float) -> None:
        self.index = index  # int64, ascending
        self.rows = rows  # float64 [n, d]; None: read in slices
        self.q = q
        self.seen = seen
        self.outside = outside  # no row outside this level has a score above it


class _State:
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        count = len(problem.features)
        self.class_of = np.empty(count, dtype=np.int64)
        for c, members in enumerate(problem.members):
            self.class_of[members] = c
        self.cached = problem.rows_at(slice(None)) if problem.features.size * 8 <= CACHE_BYTES else None
        norms2 = np.empty(count)
        for start in range(0, count, _SLICE):
            norms2[start : start + _SLICE] = squared_norms(self._rows(slice(start, start + _SLICE)))
        self.q = norms2 / problem.mu(problem.picks)  # the tightest upper bound known of every row
        self.weights = np.array([problem.part_weight(c) for c in range(len(problem.members))])
        self.parts = [PartState(problem, c, norms2[m]) for c, m in enumerate(problem.members)] if problem.alpha else []
        self.p = np.zeros(count)
        for part, members in zip(self.parts, problem.members, strict=False):
            self.p[members] = part.p
        self.closed = np.zeros(count, dtype=bool)  # picked, or of a class whose quota is full
        self.open_quota = problem.quotas.copy()
        self.inverse = GrowingInverse(problem)
        self.levels = [_Level(np.arange(count), self.cached, self.q.copy(), 0, -np.inf)]
        self.indices: list[int] = []
        self.gains: list[float] = []

    def pick(self) -> None:
        """Pick one row: from the innermost level whose best nothing outside can beat or tie."""
        for depth in reversed(range(len(self.levels))):
            level = self.levels[depth]
            self._catch_up(level)
            scores = self._scores(level.index)
            if depth == 0 or scores.max() - TIE > level.outside:
                break
        k = lowest_best(scores)
        if depth < 2:
            self._nest(depth, scores)
        self._take(int(level.index[k]), float(level.q[k]), float(scores[k]))

    def _rows(self, index: np.ndarray | slice) -> np.ndarray:
        return self.problem.rows_at(index) if self.cached is None else self.cached[index]

    def _scores(self, index: np.ndarray) -> np.ndarray:
        """Exact scores of rows whose q is exact, upper bounds of the others."""
        scores = 0.5 * np.log1p(np.maximum(self.q[index], 0.0)) - self.problem.cost[index]
        if self.parts:
            scores -= self.weights[self.class_of[index]] * np.log1p(np.maximum(self.p[index], 0.0))
        scores[self.closed[index]] = -np.inf
        return scores

    def _catch_up(self, level: _Level) -> None:
        pending = self.inverse.updates[level.seen : self.inverse.count].T
        if pending.shape[1] == 1 and level.rows is not None:
            level.q -= np.square(level.rows @ pending[:, 0])
        elif pending.shape[1]:
            for start in range(0, len(level.q), _SLICE):
                part = slice(start, start + _SLICE)
                rows = self._rows(part) if level.rows is None else level.rows[part]
                level.q[part] -= squared_norms(rows @ pending)
        level.seen = self.inverse.count
        self.q[level.index] = level.q

    def _nest(self, depth: int, scores: np.ndarray) -> None:
        """Choose the leaders of the level at `depth`, whose exact scores these are, and theirs."""
        del self.levels[depth + 1 :]
        while len(self.levels) < 3:
            level = self.levels[-1]
            wide = min(max(len(level.q) // _SHARE, _LEADERS_MIN), _LEADERS_MAX) if len(self.levels) == 1 else _INNERMOST
            size = min(wide, len(level.q))
            order = np.argpartition(-scores, size - 1)
            inside = np.sort(order[:size])
            outside = max(level.outside, float(scores[order[size:]].max(initial=-np.inf)))
            index = level.index[inside]
            rows = self._rows(index) if level.rows is None else level.rows[inside]
            self.levels.append(_Level(index, rows, level.q[inside], level.seen, outside))
            scores = scores[inside]

    def _take(self, i: int, q: float, gain: float) -> None:
        c = int(self.class_of[i])
        members = self.problem.members[c]
        self.indices.append(i)
        self.gains.append(gain)
        self.inverse.add(self._rows(slice(i, i + 1))[0], q)
        self.closed[i] = True
        self.open_quota[c] -= 1
        if self.open_quota[c] == 0:
            self.closed[members] = True
        elif self.parts:
            part = self.parts[c]
            part.add(self._rows(members), int(np.searchsorted(members, i)))
            self.p[members] = part.p
            bounds = self._scores(members)
            for level in self.levels[1:]:
                risen = bounds[~np.isin(members, level.index, assume_unique=True)]
                level.outside = max(level.outside, float(risen.max(initial=-np.inf)))
