"""Running normaliser, any order: one Cholesky factor of mu_n I + G per pick, and only the candidates that can win.

mu_n and G both only grow, so a stale q is an upper bound, and one that is exact in mu: with h = |A^-1 z|^2 at the same
mu, q(mu + s) <= q - s h / (1 + s / mu) (an equality while G = 0). p changes only for the class just picked and is kept
exact, so evaluating in order of the bound until it falls below the best gives the true argmax, although the objective
is not submodular.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.linalg import lapack

from methods._coding_rate.objective import TIE, Problem, squared_norms

_FIRST_BATCH = 16
_SLICE = 4096  # candidates evaluated at once, at most


def select_running(problem: Problem, order: str) -> tuple[list[int], list[float]]:
    """Indices and gains in pick order."""
    state = _State(problem)
    indices: list[int] = []
    gains: list[float] = []
    for classes in _turns(problem.quotas, order, state):
        i, gain = state.best(classes)
        state.take(i)
        indices.append(i)
        gains.append(gain)
    return indices, gains


def _turns(quotas: np.ndarray, order: str, state: _State) -> Iterator[np.ndarray]:
    """The classes that may be picked from, pick by pick."""
    if order == "sequential":
        for c, quota in enumerate(quotas.tolist()):
            for _ in range(quota):
                yield np.array([c])
            state.parts[c] = None  # its products are not needed again
    elif order == "round_robin":
        for turn in range(int(quotas.max())):
            for c in np.flatnonzero(quotas > turn).tolist():
                yield np.array([c])
    else:
        for _ in range(int(quotas.sum())):
            yield np.flatnonzero(state.counts < quotas)


class _State:
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        classes = len(problem.members)
        self.counts = np.zeros(classes, dtype=np.int64)
        self.class_of = np.empty(len(problem.features), dtype=np.int64)
        self.norms2 = np.empty(len(problem.features))
        for c, members in enumerate(problem.members):
            self.class_of[members] = c
            self.norms2[members] = squared_norms(problem.rows(c))
        self.gram = np.zeros((problem.dim, problem.dim), order="F")  # G
        self.work = np.empty_like(self.gram)  # kept: fresh memory of this size costs as much as what is done in it
        self.n = 0
        # q and h = |A^-1 z|^2 of each row as last evaluated, and the mu of that moment
        self.mu_at = np.full(len(self.norms2), problem.mu(1))
        self.q = self.norms2 / problem.mu(1)
        self.h = self.norms2 / problem.mu(1) ** 2
        self.parts: list[_Part | None] = [None] * classes
        self.log_p = np.zeros(len(self.norms2))  # log(1 + p) at mu_c of one more pick
        self.jump = np.zeros(classes)  # D_c: what one more pick of the class costs even if p is 0
        self.taken = np.zeros(len(self.norms2), dtype=bool)
        if problem.alpha:
            for members in problem.members:
                self.log_p[members] = np.log1p(self.norms2[members] / problem.mu(1))

    def best(self, classes: np.ndarray) -> tuple[int, float]:
        """Row and score of the next pick, among the classes given."""
        problem, n = self.problem, self.n + 1
        if len(classes) == 1:
            rows = problem.members[classes[0]]
        elif len(classes) == len(problem.members):
            rows = np.arange(len(self.norms2))
        else:
            rows = np.flatnonzero(np.isin(self.class_of, classes))
        rows = rows[~self.taken[rows]]
        mu = problem.mu(n)
        offset = problem.cost[rows]
        if problem.alpha:
            share = problem.alpha * (self.counts + 1) / (2 * n)
            own = self.class_of[rows]
            offset = offset + share[own] * self.log_p[rows] + (problem.alpha / (2 * n) * self.jump)[own]
        s = mu - self.mu_at[rows]
        bound = self.q[rows] - s * self.h[rows] / (1.0 + s / self.mu_at[rows])
        bound = 0.5 * np.log1p(np.maximum(bound, 0.0)) - offset
        scores = np.full(len(rows), -np.inf)
        best, batch = -np.inf, _FIRST_BATCH
        factor = self._factor(mu)
        while True:
            batch = min(batch, len(rows), _SLICE)
            leaders = np.argpartition(-bound, batch - 1)[:batch]
            leaders = leaders[(bound[leaders] >= best - TIE) & (bound[leaders] > -np.inf)]
            if len(leaders) == 0:
                break
            self._evaluate(rows[leaders], factor, mu)
            scores[leaders] = 0.5 * np.log1p(np.maximum(self.q[rows[leaders]], 0.0)) - offset[leaders]
            best = max(best, float(scores[leaders].max()))
            bound[leaders] = -np.inf
            batch *= 2
        k = int(np.argmax(scores >= best - TIE))
        return int(rows[k]), float(scores[k])

    def _factor(self, mu: float) -> np.ndarray:
        """The lower Cholesky factor of mu I + G, in Fortran order; what stands above its diagonal is not part of it."""
        np.copyto(self.work, self.gram)
        self.work[np.diag_indices_from(self.work)] += mu
        factor, info = lapack.dpotrf(self.work, lower=1, clean=0, overwrite_a=1)
        if info:
            raise np.linalg.LinAlgError(f"mu I + G is not positive definite at mu = {mu}")
        return factor

    def _evaluate(self, rows: np.ndarray, factor: np.ndarray, mu: float) -> None:
        half, _ = lapack.dtrtrs(factor, self.problem.rows_at(rows).T, lower=1, trans=0)
        self.q[rows] = np.einsum("ij,ij->j", half, half)
        full, _ = lapack.dtrtrs(factor, half, lower=1, trans=1)
        self.h[rows] = np.einsum("ij,ij->j", full, full)
        self.mu_at[rows] = mu

    def take(self, i: int) -> None:
        """Pick row i."""
        problem, c = self.problem, int(self.class_of[i])
        z = problem.rows_at(np.array([i]))[0]
        self.gram += np.multiply(z[:, None], z, out=self.work)
        self.n += 1
        self.counts[c] += 1
        self.taken[i] = True
        if problem.alpha and self.counts[c] < problem.quotas[c]:
            part = self.parts[c]
            if part is None:
                part = self.parts[c] = _Part(problem, c, self.norms2[problem.members[c]])
            part.add(z, int(np.searchsorted(problem.members[c], i)))
            self.log_p[problem.members[c]] = part.log_p()
            self.jump[c] = part.jump()


class _Part:
    """Products of a class's rows with its picks: all that p needs at any mu_c."""

    def __init__(self, problem: Problem, c: int, norms2: np.ndarray) -> None:
        self.problem, self.c, self.norms2 = problem, c, norms2
        self.products = np.empty((len(norms2), int(problem.quotas[c])))
        self.picked: list[int] = []

    def add(self, z: np.ndarray, j: int) -> None:
        self.products[:, len(self.picked)] = self.problem.rows(self.c) @ z
        self.picked.append(j)

    def log_p(self) -> np.ndarray:
        """log(1 + p), p = z^T (mu_c I + G_c)^-1 z with mu_c of one more pick."""
        count = len(self.picked)
        products, mu = self.products[:, :count], self.problem.mu(count + 1)
        factor = np.linalg.cholesky(products[self.picked] + mu * np.eye(count))
        half, _ = lapack.dtrtrs(factor.T, products.T, lower=0, trans=1)
        p = (self.norms2 - np.einsum("ij,ij->j", half, half)) / mu
        return np.log1p(np.maximum(p, 0.0))

    def jump(self) -> float:
        """(n_c + 1) logdet(I + G_c / mu_{n_c + 1}) - n_c logdet(I + G_c / mu_{n_c})."""
        count = len(self.picked)
        eigenvalues = np.maximum(np.linalg.eigvalsh(self.products[self.picked, :count]), 0.0)
        now, then = (n * np.log1p(eigenvalues / self.problem.mu(n)).sum() for n in (count, count + 1))
        return float(then - now)
