"""Budget normaliser, one pick per class and round: a class catches up with all rank-1 updates since its last visit.

Catching up is one matrix product with the pending vectors u (see `sequential` for the update), 2 N_c d min(C, d) flops
a pick; with more pending than dimensions q is computed anew from B = (mu I + G)^-1.
"""

from __future__ import annotations

import numpy as np

from methods._coding_rate.objective import Problem, budget_scores, lowest_best, squared_norms

CACHE_BYTES = (
    2 << 30
)  # a float64 copy of the features up to this size is kept; above, a class is converted at each visit
_FLUSH = 64  # updates gathered before they are subtracted from B


def select_round_robin(problem: Problem) -> tuple[list[int], list[float]]:
    """Indices and gains in pick order."""
    rows = _Rows(problem)
    inverse = GrowingInverse(problem)
    classes: list[_Class] = []
    indices: list[int] = []
    gains: list[float] = []
    for turn in range(int(problem.quotas.max())):
        for c in np.flatnonzero(problem.quotas > turn).tolist():
            z = rows.of(c)
            if turn == 0:
                classes.append(_Class(problem, c, z))
            state = classes[c]
            state.catch_up(z, inverse)
            scores = state.scores()
            j = lowest_best(scores)
            indices.append(int(problem.members[c][j]))
            gains.append(float(scores[j]))
            inverse.add(z[j], float(state.q[j]))
            state.take(z, j)
    return indices, gains


class GrowingInverse:
    """B = (mu I + G)^-1 as a matrix and the updates not yet subtracted from it. float64."""

    def __init__(self, problem: Problem) -> None:
        self.matrix = np.eye(problem.dim) / problem.mu(problem.picks)
        self.updates = np.empty((problem.picks, problem.dim))  # u of every pick
        self.count = 0
        self._flushed = 0

    def add(self, z: np.ndarray, q: float) -> None:
        """Pick z, whose q is z^T B z."""
        pending = self.updates[self._flushed : self.count]
        image = self.matrix @ z - (pending @ z) @ pending
        self.updates[self.count] = image / np.sqrt(1.0 + max(q, 0.0))
        self.count += 1
        if self.count - self._flushed >= _FLUSH:
            self.flush()

    def flush(self) -> None:
        """Bring `matrix` up to date."""
        pending = self.updates[self._flushed : self.count]
        self.matrix -= pending.T @ pending
        self._flushed = self.count


class PartState:
    """p = z^T (mu_c I + G_c)^-1 z of every row of a class; only its own picks change it."""

    def __init__(self, problem: Problem, c: int, norms2: np.ndarray) -> None:
        quota = int(problem.quotas[c])
        self.mu_c = problem.mu(quota)
        self.p = norms2 / self.mu_c
        self._updates = np.empty((quota, problem.dim))
        self._count = 0

    def add(self, rows: np.ndarray, j: int) -> None:
        """Pick row j of `rows` [N_c, d]."""
        z, done = rows[j], self._updates[: self._count]
        v = (z / self.mu_c - (done @ z) @ done) / np.sqrt(1.0 + max(float(self.p[j]), 0.0))
        self._updates[self._count] = v
        self._count += 1
        if self._count < len(self._updates):
            self.p -= np.square(rows @ v)


class _Class:
    def __init__(self, problem: Problem, c: int, rows: np.ndarray) -> None:
        norms2 = squared_norms(rows)
        self.cost = problem.cost[problem.members[c]]
        self.part_weight = problem.part_weight(c)
        self.part = PartState(problem, c, norms2) if self.part_weight > 0 else None
        self.q = norms2 / problem.mu(problem.picks)
        self.taken = np.zeros(len(rows), dtype=bool)
        self._seen = 0  # updates that q has in it

    def catch_up(self, rows: np.ndarray, inverse: GrowingInverse) -> None:
        pending = inverse.updates[self._seen : inverse.count]
        if len(pending) > rows.shape[1]:
            inverse.flush()
            self.q = np.einsum("ij,ij->i", rows @ inverse.matrix, rows)
        elif len(pending):
            self.q -= squared_norms(rows @ pending.T)
        self._seen = inverse.count

    def scores(self) -> np.ndarray:
        scores = budget_scores(self.q, None if self.part is None else self.part.p, self.part_weight, self.cost)
        scores[self.taken] = -np.inf
        return scores

    def take(self, rows: np.ndarray, j: int) -> None:
        self.taken[j] = True
        if self.part is not None:
            self.part.add(rows, j)


class _Rows:
    """float64 rows of a class, kept between visits where they fit."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._keep = problem.features.size * 8 <= CACHE_BYTES
        self._kept: dict[int, np.ndarray] = {}

    def of(self, c: int) -> np.ndarray:
        rows = self._kept.get(c)
        if rows is None:
            rows = self._problem.rows(c)
            if self._keep:
                self._kept[c] = rows
        return rows
