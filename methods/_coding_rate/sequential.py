"""Budget normaliser, class after class: one product with B = (mu I + G)^-1 per class, then two mat-vecs per pick.

Picking z turns B into B - u u^T with u = B z / sqrt(1 + q_z), so q_i falls by (z_i . u)^2: no candidate is ever
evaluated again. p is the same recurrence from I / mu_c.

For float32 features the scan is certified: q and p of all candidates in float32, each with an interval that holds
the true value, and a float64 evaluation of every candidate whose interval reaches the best lower end. The interval must
be absolute (in |z|^2 / mu): q is a difference of terms of that size, so an error relative to q has no bound.
"""

from __future__ import annotations

import numpy as np

from methods._coding_rate.objective import TIE, Problem, budget_scores, lowest_best, squared_norms

_UNIT_ROUNDOFF = 2.0**-24  # of float32


def select_sequential(problem: Problem) -> tuple[list[int], list[float]]:
    """Indices and gains in pick order."""
    indices: list[int] = []
    gains: list[float] = []
    inverse = np.eye(problem.dim) / problem.mu(problem.picks)
    for c, members in enumerate(problem.members):
        scan = _certified_scan(problem, c, inverse) or _ExactScan(problem, c, inverse, problem.rows(c))
        for _ in range(int(problem.quotas[c])):
            j, gain = scan.pick()
            indices.append(int(members[j]))
            gains.append(gain)
        inverse -= scan.updates.T @ scan.updates
    return indices, gains


class _ExactScan:
    """q and p of all rows of one class, kept up to date, in the dtype of `rows`: float64 here."""

    def __init__(self, problem: Problem, c: int, inverse: np.ndarray, rows: np.ndarray) -> None:
        self.rows = rows
        self.cost = problem.cost[problem.members[c]]
        self.mu_c = problem.mu(int(problem.quotas[c]))
        self.part_weight = problem.part_weight(c)
        self.norms2 = squared_norms(rows).astype(np.float64)
        self.images = rows @ inverse.astype(rows.dtype, copy=False)  # B z of every row, B as the class found it
        self.q = np.einsum("ij,ij->i", rows, self.images).astype(np.float64)
        self.p = self.norms2 / self.mu_c if self.part_weight > 0 else None
        self.taken = np.zeros(len(rows), dtype=bool)
        self.updates = np.empty((int(problem.quotas[c]), problem.dim))  # u of every pick
        self.part_updates = np.empty_like(self.updates)
        self.count = 0

    def pick(self) -> tuple[int, float]:
        """Position and gain of the next pick."""
        j, gain, q, p = self._best()
        z, image = self._row(j)
        t = self.count
        u, v = self.updates[:t], self.part_updates[:t]
        self.updates[t] = (image - (u @ z) @ u) / np.sqrt(1.0 + max(q, 0.0))
        if self.p is not None:
            self.part_updates[t] = (z / self.mu_c - (v @ z) @ v) / np.sqrt(1.0 + max(p, 0.0))
        self.taken[j] = True
        self.count += 1
        if self.count < len(self.updates):
            self.q -= np.square(self.rows @ self.updates[t].astype(self.rows.dtype, copy=False))
            if self.p is not None:
                self.p -= np.square(self.rows @ self.part_updates[t].astype(self.rows.dtype, copy=False))
        return j, gain

    def _scores(self) -> np.ndarray:
        scores = budget_scores(self.q, self.p, self.part_weight, self.cost)
        scores[self.taken] = -np.inf
        return scores

    def _best(self) -> tuple[int, float, float, float]:
        """Position, gain, q and p of the pick."""
        scores = self._scores()
        j = lowest_best(scores)
        return j, float(scores[j]), float(self.q[j]), 0.0 if self.p is None else float(self.p[j])

    def _row(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        """z and B z in float64."""
        return self.rows[j], self.images[j]


class _CertifiedScan(_ExactScan):
    """float32 for all, float64 for those that can win."""

    def __init__(self, problem: Problem, c: int, inverse: np.ndarray, rows: np.ndarray) -> None:
        super().__init__(problem, c, inverse, rows)
        self.problem, self.members, self.inverse = problem, problem.members[c], inverse
        self.mu = problem.mu(problem.picks)
        self.slot = np.full(len(rows), -1)  # where a row stands among those evaluated exactly
        self.exact_rows = np.empty((0, problem.dim))
        self.exact_images = np.empty((0, problem.dim))

    def _best(self) -> tuple[int, float, float, float]:
        # Rounding of a dot product of length d is below sqrt(d) roundoffs (the sums run in lanes); 8 of them cover the
        # first product, 2 sqrt(t) the t downdates, whose |u|^2 are each at most 1/mu.
        roundoffs = (8.0 + 2.0 * np.sqrt(self.count)) * np.sqrt(self.rows.shape[1])
        reach = roundoffs * _UNIT_ROUNDOFF * self.norms2
        scores = self._scores()
        dq = reach / self.mu
        margin = 0.5 * dq / (1.0 + np.maximum(self.q - dq, 0.0))
        if self.p is not None:
            dp = reach / self.mu_c
            margin += self.part_weight * dp / (1.0 + np.maximum(self.p - dp, 0.0))
        candidates = np.flatnonzero(scores + margin >= (scores - margin).max() - TIE)
        q, p = self._evaluate(candidates)
        exact = budget_scores(q, p, self.part_weight, self.cost[candidates])
        k = lowest_best(exact)
        return int(candidates[k]), float(exact[k]), float(q[k]), 0.0 if p is None else float(p[k])

    def _row(self, j: int) -> tuple[np.ndarray, np.ndarray]:
        return self.exact_rows[self.slot[j]], self.exact_images[self.slot[j]]

    def _evaluate(self, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """q and p in float64."""
        fresh = candidates[self.slot[candidates] < 0]
        if len(fresh):
            self.slot[fresh] = len(self.exact_rows) + np.arange(len(fresh))
            rows = self.problem.rows_at(self.members[fresh])
            self.exact_rows = np.concatenate([self.exact_rows, rows])
            self.exact_images = np.concatenate([self.exact_images, rows @ self.inverse])
        slots, t = self.slot[candidates], self.count
        rows = self.exact_rows[slots]
        q = np.einsum("ij,ij->i", rows, self.exact_images[slots]) - squared_norms(rows @ self.updates[:t].T)
        if self.p is None:
            return q, None
        return q, squared_norms(rows) / self.mu_c - squared_norms(rows @ self.part_updates[:t].T)


def _certified_scan(problem: Problem, c: int, inverse: np.ndarray) -> _CertifiedScan | None:
    """None where the features are float64, or so large or small that squares leave the range of float32."""
    if problem.features.dtype == np.float64:
        return None
    rows = problem.raw_rows(c).astype(np.float32, copy=False)
    norms2 = squared_norms(rows)
    top, mu_c = float(norms2.max()), problem.mu(int(problem.quotas[c]))
    if problem.unit_norm:
        low = float(norms2.min(initial=np.inf, where=norms2 > 0))
        if not (top < 1e24 and low > 1e-24):
            return None
        rows = rows / np.sqrt(np.where(norms2 > 0, norms2, 1.0)).astype(np.float32)[:, None]
        top = 1.0
    if not (mu_c > 1e-12 and problem.mu(problem.picks) < 1e12 and top < 1e24 * min(mu_c, 1.0)):
        return None
    return _CertifiedScan(problem, c, inverse, rows)
