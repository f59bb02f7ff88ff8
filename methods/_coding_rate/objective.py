"""The objective of greedy coding-rate selection: its constants, quotas and what input it accepts.

    R(X) = R_I(X) - alpha R_P(X) - beta sum over x in X of R_C(x)
    R_I  = 1/2 logdet(I + G / mu_n),                        G   = sum of z z^T over X
    R_P  = sum over classes c of n_c / (2 n) logdet(I + G_c / mu_c),  G_c the same over the class
    mu_n = n eps^2 / d,  mu_c = n_c eps^2 / d

Two readings of n and n_c, which are two algorithms:

* "budget": n and n_c are what they will be at the end, M = sum of the quotas and the quota of c. Only here is R one set
  function, is a gain a marginal gain, and does the submodularity proof of SCORE (its Lemma 2, a constant
  normaliser) hold for R_I. Gain of x in class c:
  1/2 log(1 + q) - alpha n_c / (2 M) log(1 + p) - beta R_C(x), q = z^T (mu I + G)^-1 z, p = z^T (mu_c I + G_c)^-1 z.
* "running": n = |X| + 1 and n_c the class's count so far, plus one, as eq. 5 is printed.

With alpha > 0 the objective is a difference of submodular functions in either reading: greedy has no (1 - 1/e) bound.
With a single class R_P equals R_I, so R = (1 - alpha) R_I - beta sum R_C: alpha = 1 leaves ties only and alpha > 1
prefers redundant rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

TIE = 1e-9  # scores closer than this are a tie, and the lowest index wins it

_CHUNK_ROWS = 65_536


@dataclass(frozen=True)
class Problem:
    """Checked input. Classes without rows are left out; `members` is in ascending order of the label."""

    features: np.ndarray  # [N, d] float16, float32 or float64, as given: never copied as a whole
    members: tuple[np.ndarray, ...]  # int64, ascending row indices of each class
    quotas: np.ndarray  # int64 [C]: min(ipc, rows of the class)
    cost: np.ndarray  # float64 [N]: beta R_C
    alpha: float
    eps2: float
    unit_norm: bool  # rows are divided by their norm as they are read; a zero row stays zero

    @property
    def dim(self) -> int:
        return int(self.features.shape[1])

    @property
    def picks(self) -> int:
        """M: how many rows will be picked."""
        return int(self.quotas.sum())

    def mu(self, n: int) -> float:
        """The ridge of a rate over n rows: n eps^2 / d."""
        return n * self.eps2 / self.dim

    def part_weight(self, c: int) -> float:
        """alpha n_c / (2 M): the weight of log(1 + p) under the budget normaliser."""
        return self.alpha * int(self.quotas[c]) / (2 * self.picks)

    def raw_rows(self, c: int) -> np.ndarray:
        """Rows of a class as given; a view where they stand together."""
        index = self.members[c]
        if index[-1] - index[0] + 1 == len(index):
            return self.features[index[0] : index[-1] + 1]
        return self.features[index]

    def rows(self, c: int) -> np.ndarray:
        """Rows of a class, float64 [N_c, d]; possibly a view of the features: read only."""
        return self._exact(self.raw_rows(c))

    def rows_at(self, index: np.ndarray | slice) -> np.ndarray:
        """Rows by index, float64 [n, d]."""
        return self._exact(self.features[index])

    def _exact(self, rows: np.ndarray) -> np.ndarray:
        rows = rows.astype(np.float64, copy=False)
        if not self.unit_norm:
            return rows
        norms = np.sqrt(squared_norms(rows))
        return rows / np.where(norms > 0, norms, 1.0)[:, None]


def squared_norms(rows: np.ndarray) -> np.ndarray:
    """|z|^2 of each row, in the dtype of the rows."""
    return np.einsum("ij,ij->i", rows, rows)


def budget_scores(q: np.ndarray, p: np.ndarray | None, part_weight: float, cost: np.ndarray) -> np.ndarray:
    """Gains under the budget normaliser. q and p are clamped at 0, below which only rounding can carry them."""
    scores = 0.5 * np.log1p(np.maximum(q, 0.0)) - cost
    if p is not None:
        scores -= part_weight * np.log1p(np.maximum(p, 0.0))
    return scores


def lowest_best(scores: np.ndarray) -> int:
    """The lowest position whose score ties with the best."""
    return int(np.argmax(scores >= scores.max() - TIE))


def make_problem(
    features: ArrayLike,
    labels: ArrayLike,
    ipc: int,
    *,
    num_classes: int | None,
    label_rate: ArrayLike | None,
    alpha: float,
    beta: float,
    eps: float,
    unit_norm: bool,
) -> Problem:
    """Check everything before the first pick: a NaN row would win every argmax and poison the state for good."""
    matrix = np.asarray(features)
    if matrix.ndim != 2 or matrix.shape[0] < 1 or matrix.shape[1] < 1:
        raise ValueError(f"features must be [N, d] with N >= 1 and d >= 1; got shape {matrix.shape}")
    if matrix.dtype not in (np.float16, np.float32, np.float64):
        if matrix.dtype.kind not in "iub":
            raise ValueError(f"features must be float16, float32 or float64; got {matrix.dtype}")
        matrix = matrix.astype(np.float64)
    if int(ipc) != ipc or ipc < 1:
        raise ValueError(f"ipc must be an integer >= 1; got {ipc}")
    for name, value, allowed in (("alpha", alpha, ">= 0"), ("beta", beta, ">= 0"), ("eps", eps, "> 0")):
        if not np.isfinite(value) or value < 0 or (name == "eps" and value == 0):
            raise ValueError(f"{name} must be finite and {allowed}; got {value}")
    _require_finite_rows(matrix)
    count = len(matrix)
    cost = np.zeros(count)
    if label_rate is not None:
        rate = np.asarray(label_rate, dtype=np.float64)
        if rate.shape != (count,):
            raise ValueError(f"label_rate must have one value per row, shape ({count},); got {rate.shape}")
        if not np.isfinite(rate).all():
            row = int(np.argmin(np.isfinite(rate)))
            raise ValueError(f"label_rate must be finite; row {row} is {rate[row]}")
        cost = beta * rate
    members = _members(labels, count, num_classes)
    quotas = np.array([min(int(ipc), len(index)) for index in members], dtype=np.int64)
    return Problem(matrix, members, quotas, cost, float(alpha), float(eps) ** 2, bool(unit_norm))


def _require_finite_rows(matrix: np.ndarray) -> None:
    for start in range(0, len(matrix), _CHUNK_ROWS):
        chunk = matrix[start : start + _CHUNK_ROWS]
        with np.errstate(over="ignore", invalid="ignore"):
            clean = bool(np.isfinite(chunk.sum()))  # a finite sum has no NaN and no infinity in it
        if clean:
            continue
        bad = ~np.isfinite(chunk).all(axis=1)
        if bad.any():
            row = start + int(np.argmax(bad))
            raise ValueError(f"features must be finite; row {row} holds NaN or infinity")


def _members(labels: ArrayLike, count: int, num_classes: int | None) -> tuple[np.ndarray, ...]:
    given = np.asarray(labels)
    if given.shape != (count,):
        raise ValueError(f"labels must have one value per row, shape ({count},); got {given.shape}")
    whole = given.astype(np.int64)
    if given.dtype.kind not in "iub" and not np.array_equal(whole, given):
        raise ValueError("labels must be whole numbers")
    low, high = int(whole.min()), int(whole.max())
    if low < 0 or (num_classes is not None and high >= num_classes):
        allowed = ">= 0" if num_classes is None else f"in 0..{num_classes - 1}"
        raise ValueError(f"labels must be {allowed}; got {low if low < 0 else high}")
    order = np.argsort(whole, kind="stable")
    starts = np.flatnonzero(np.diff(whole[order])) + 1
    return tuple(np.split(order, starts))
