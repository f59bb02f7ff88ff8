"""Budget normaliser, classes compete: blocks of picks from a pool of leaders, then one matrix product for all rows.

A rank-1 sweep over all rows per pick is bound by memory (N d numbers a pick). But q only falls, so a stale q is an
upper bound: picks are made within a pool whose q is exact as long as its best beats the bound of every row outside. A
falling p raises the score, so it is kept exact for the class just picked. (A bound with a stale p would be wrong.)
"""

from __future__ import annotations

import numpy as np

from methods._coding_rate.objective import TIE, Problem, lowest_best, squared_norms
from methods._coding_rate.round_robin import GrowingInverse, PartState

_BLOCK = 64  # picks between two passes over all rows
_SLICE = 4096  # rows handled at once in such a pass
_POOL_START, _POOL_MIN, _POOL_MAX = 1024, 256, 8192


def select_global(problem: Problem) -> tuple[list[int], list[float]]:
    """Indices and gains in pick order."""
    state = _State(problem)
    pool_size = _POOL_START
    while len(state.indices) < problem.picks:
        state.refresh()
        before = len(state.indices)
        state.pick_any()
        state.pick_from_pool(pool_size)
        made = len(state.indices) - before
        # A pool that ran dry early was too small; one that lasted could have been smaller.
        if made < _BLOCK // 2:
            pool_size = min(2 * pool_size, _POOL_MAX)
        elif made >= _BLOCK:
            pool_size = max(pool_size // 2, _POOL_MIN)
    return state.indices, state.gains


class _State:
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        count = len(problem.features)
        self.class_of = np.empty(count, dtype=np.int64)
        for c, members in enumerate(problem.members):
            self.class_of[members] = c
        norms2 = np.empty(count)
        for start in range(0, count, _SLICE):
            norms2[start : start + _SLICE] = squared_norms(self._slice(start))
        self.q = norms2 / problem.mu(problem.picks)  # exact after `refresh`, an upper bound between
        self.weights = np.array([problem.part_weight(c) for c in range(len(problem.members))])
        self.parts = [PartState(problem, c, norms2[m]) for c, m in enumerate(problem.members)] if problem.alpha else []
        self.p = np.zeros(count)
        for part, members in zip(self.parts, problem.members, strict=False):
            self.p[members] = part.p
        self.closed = np.zeros(count, dtype=bool)  # picked, or of a class whose quota is full
        self.open_quota = problem.quotas.copy()
        self.inverse = GrowingInverse(problem)
        self.bound = self._scores(slice(None))
        self.indices: list[int] = []
        self.gains: list[float] = []
        self._seen = 0  # updates that q has in it

    def _slice(self, start: int) -> np.ndarray:
        return self.problem.rows_at(slice(start, start + _SLICE))

    def _scores(self, index: np.ndarray | slice) -> np.ndarray:
        """Scores with q as it stands: exact after `refresh`, upper bounds between."""
        scores = 0.5 * np.log1p(np.maximum(self.q[index], 0.0)) - self.problem.cost[index]
        if self.parts:
            scores -= self.weights[self.class_of[index]] * np.log1p(np.maximum(self.p[index], 0.0))
        scores[self.closed[index]] = -np.inf
        return scores

    def refresh(self) -> None:
        """Make q and every score exact."""
        pending = self.inverse.updates[self._seen : self.inverse.count]
        if len(pending):
            for start in range(0, len(self.q), _SLICE):
                self.q[start : start + _SLICE] -= squared_norms(self._slice(start) @ pending.T)
        self._seen = self.inverse.count
        self.bound = self._scores(slice(None))

    def pick_any(self) -> None:
        """Pick among all rows; only right after `refresh`."""
        i = lowest_best(self.bound)
        self._pick(i, float(self.q[i]), float(self.bound[i]))

    def pick_from_pool(self, size: int) -> None:
        """Pick from the leaders while none outside can win or tie."""
        size = min(size, len(self.bound))
        pool = np.sort(np.argpartition(-self.bound, size - 1)[:size])
        outside = np.ones(len(self.bound), dtype=bool)
        outside[pool] = False
        rows = self.problem.rows_at(pool)
        q = self.q[pool] - squared_norms(rows @ self.inverse.updates[self._seen : self.inverse.count].T)
        rest = float(self.bound[outside].max(initial=-np.inf))
        weights = self.weights[self.class_of[pool]]
        cost = self.problem.cost[pool]
        for _ in range(_BLOCK - 1):
            if len(self.indices) == self.problem.picks:
                return
            scores = 0.5 * np.log1p(np.maximum(q, 0.0)) - cost
            if self.parts:
                scores -= weights * np.log1p(np.maximum(self.p[pool], 0.0))
            scores[self.closed[pool]] = -np.inf
            k = lowest_best(scores)
            if not scores.max() - TIE > rest:
                return
            self._pick(int(pool[k]), float(q[k]), float(scores[k]))
            q -= np.square(rows @ self.inverse.updates[self.inverse.count - 1])
            if self.parts:
                members = self.problem.members[self.class_of[pool[k]]]
                members = members[outside[members]]
                rest = max(rest, float(self.bound[members].max(initial=-np.inf)))

    def _pick(self, i: int, q: float, gain: float) -> None:
        problem, c = self.problem, int(self.class_of[i])
        members = problem.members[c]
        self.indices.append(i)
        self.gains.append(gain)
        self.inverse.add(problem.rows_at(slice(i, i + 1))[0], q)
        self.closed[i] = True
        self.open_quota[c] -= 1
        if self.open_quota[c] == 0:
            self.closed[members] = True
        elif self.parts:
            part = self.parts[c]
            part.add(problem.rows(c), int(np.searchsorted(members, i)))
            self.p[members] = part.p
        self.bound[members] = self._scores(members)
