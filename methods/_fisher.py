"""Fisher information of the last layer in factored form, and the greedy of BAIT on it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

_REFRESH = 64  # changes of M by updates before it is inverted anew
_BLOCK_VALUES = 1 << 21  # entries of whole factors X that stand in memory at once (16 MiB)
_TIE = 1e-9  # changes closer than this share of the largest one count as equal


class Trace:
    """tr(M^-1 F), M = ridge + the sum of X' X over the picks and F the mean of X' X over all n images.

    X_i = left_i' (x) feature_i' [r, D], D = C k, with left float64 [n, C, r] and feature float64 [n, k], so that
    X_i' X_i is the information (left_i left_i') (x) (feature_i feature_i'). M^-1 and F [D, D] are held, no X is.

    Of every image it keeps Q = X M^-1 X' and T = X M^-1 F M^-1 X' [n, r, r]. Adding image i lowers the trace by
    tr((1 + Q_i)^-1 T_i), taking it away raises it by tr((1 - Q_i)^-1 T_i); either changes M^-1 by a matrix of rank r.
    Where the ridge is small, the first picks take most of the figures away with them, so everything is worked out anew
    after every 64 changes.
    """

    def __init__(self, left: np.ndarray, feature: np.ndarray, ridge: float) -> None:
        self.left, self.feature = left, feature
        count, self._outer, self._rank = left.shape
        self.size = self._outer * feature.shape[1]
        self.fisher = np.zeros((self.size, self.size))
        for _, whole in self._whole():
            flat = whole.reshape(-1, self.size)
            self.fisher += flat.T @ flat / count
        self.information = ridge * np.eye(self.size)
        self.changes = 0
        self.own, self.target = (np.empty((count, self._rank, self._rank)) for _ in range(2))
        self._afresh()

    def gains(self) -> np.ndarray:
        """float64 [n]: by how much the trace falls with each image that is added."""
        return self._weighted(slice(None), 1.0)

    def losses(self, rows: np.ndarray) -> np.ndarray:
        """float64 [b]: by how much the trace rises with each of these picks that is taken away."""
        return self._weighted(rows, -1.0)

    def change(self, row: int, sign: float) -> None:
        """Add (sign 1) or take away (-1) an image: M += sign X' X."""
        (_, whole), *_ = self._whole(np.array([row]))
        self.information += sign * whole[0].T @ whole[0]
        self.changes += 1
        if self.changes % _REFRESH == 0:
            self._afresh()
            return
        toward = self.inverse @ whole[0].T
        middle = sign * np.linalg.inv(np.eye(self._rank) + sign * whole[0] @ toward)
        seen = self.fisher @ toward
        along = self._applied(toward) @ middle
        across = along @ self._applied(self.inverse @ seen).transpose(0, 2, 1)
        self.target += along @ (toward.T @ seen) @ along.transpose(0, 2, 1) - across - across.transpose(0, 2, 1)
        self.own -= along @ np.linalg.inv(middle) @ along.transpose(0, 2, 1)
        self.inverse -= toward @ middle @ toward.T

    def _weighted(self, rows: np.ndarray | slice, sign: float) -> np.ndarray:
        if self._rank == 1:
            return self.target[rows, 0, 0] / (1.0 + sign * self.own[rows, 0, 0])
        solved = np.linalg.solve(np.eye(self._rank) + sign * self.own[rows], self.target[rows])
        return np.trace(solved, axis1=1, axis2=2)

    def _applied(self, matrix: np.ndarray) -> np.ndarray:
        """X matrix, float64 [n, r, m], of matrix [D, m], by way of its factors."""
        blocks = matrix.reshape(self._outer, -1, matrix.shape[1])
        return np.einsum("ncr,cnm->nrm", self.left, self.feature @ blocks, optimize=True)

    def _whole(self, rows: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(rows int64 [b], X float64 [b, r, D]), block by block."""
        rows = np.arange(len(self.left)) if rows is None else rows
        step = max(1, _BLOCK_VALUES // (self._rank * self.size))
        for start in range(0, len(rows), step):
            here = rows[start : start + step]
            whole = self.left[here].transpose(0, 2, 1)[..., None] * self.feature[here, None, None]
            yield here, whole.reshape(len(here), self._rank, self.size)

    def _afresh(self) -> None:
        self.inverse = np.linalg.inv(self.information)
        for here, whole in self._whole():
            solved = (whole.reshape(-1, self.size) @ self.inverse).reshape(whole.shape)
            self.own[here] = solved @ whole.transpose(0, 2, 1)
            seen = (solved.reshape(-1, self.size) @ self.fisher).reshape(whole.shape)
            self.target[here] = seen @ solved.transpose(0, 2, 1)


def forward_backward(trace: Trace, count: int, oversample: float) -> np.ndarray:
    """Picks that make the trace small: greedy addition of too many images, then greedy removal. Exact.

    Args:
        trace: of the n images, without picks; it is used up.
        count: images to pick, at most n; none is picked twice.
        oversample: images that are added, as a multiple of count (at most n); >= 1.

    Returns:
        int64 [count], in the order of addition; among equally good images the lowest index wins.
    """
    total = len(trace.left)
    free = np.ones(total, dtype=bool)
    added: list[int] = []
    for _ in range(min(total, max(count, round(oversample * count)))):
        gain = np.where(free, trace.gains(), -np.inf)
        pick = int(np.argmax(gain >= gain.max() - _TIE * abs(gain.max())))
        trace.change(pick, 1.0)
        free[pick] = False
        added.append(pick)
    while len(added) > count:
        loss = trace.losses(np.array(added))
        # Among equally dispensable images the last one goes, so that the first of equal ones stays.
        drop = int(np.flatnonzero(loss <= loss.min() + _TIE * abs(loss.min()))[-1])
        trace.change(added.pop(drop), -1.0)
    return np.array(added, dtype=np.int64)
