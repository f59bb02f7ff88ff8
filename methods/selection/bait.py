"""BAIT: images of each class that leave least of its Fisher information unexplained (forward, then backward greedy)."""

from __future__ import annotations

import numpy as np

from bench.api import Context, Train
from methods._lastlayer import residuals
from methods._order import finite_rows
from methods._quota import class_members

CITATION = (
    "Ash et al., Gone Fishing: Neural Active Learning with Fisher Embeddings, NeurIPS 2021; binary form: Huseljic et "
    "al., Fast Fishing: Approximating BAIT for Efficient and Scalable Deep Active Image Classification, ECML-PKDD 2024."
)
PUBLISHED = {"all data sets": {"ridge": 1.0, "oversample": 2.0}}

_REFRESH = 64  # changes of M by updates before it is inverted anew
_TIE = 1e-9  # changes closer than this share of the largest one count as equal


class _Trace:
    """tr(M^-1 F) with M = ridge + the sum of x x' over the picks, kept up to date for all candidates x.

    For row i it keeps q_i = x_i' M^-1 x_i and t_i = x_i' M^-1 F M^-1 x_i. Adding x_i lowers the trace by
    t_i / (1 + q_i), taking it away raises it by t_i / (1 - q_i). A change of M by one x changes M^-1 by a multiple of
    u u', u = M^-1 x. Where the ridge is small, the first picks take most of the figures away with them, so everything
    is worked out anew after every 64 changes.
    """

    def __init__(self, rows: np.ndarray, ridge: float) -> None:
        self.rows = rows
        self.fisher = rows.T @ rows / len(rows)
        self.information = ridge * np.eye(rows.shape[1])
        self.changes = 0
        self._afresh()

    def _afresh(self) -> None:
        self.inverse = np.linalg.inv(self.information)
        solved = self.rows @ self.inverse
        self.own = np.einsum("nd,nd->n", solved, self.rows)
        self.target = np.einsum("nd,nd->n", solved @ self.fisher, solved)

    def change(self, row: int, sign: float) -> None:
        """Add (sign 1) or take away (-1) a row: M += sign x x'."""
        self.information += sign * np.outer(self.rows[row], self.rows[row])
        self.changes += 1
        if self.changes % _REFRESH == 0:
            self._afresh()
            return
        toward = self.inverse @ self.rows[row]
        factor = sign / (1.0 + sign * float(toward @ self.rows[row]))
        seen = self.fisher @ toward
        along, across = self.rows @ toward, self.rows @ (self.inverse @ seen)
        self.target += factor * along * (factor * float(toward @ seen) * along - 2.0 * across)
        self.own -= factor * along * along
        self.inverse -= factor * np.outer(toward, toward)


def forward_backward(rows: np.ndarray, count: int, ridge: float, oversample: float) -> np.ndarray:
    """Picks that make tr(M^-1 F) small: greedy addition of too many rows, then greedy removal.

    Args:
        rows: float64 [n, d]: x with x x' the Fisher information of an image; F is its mean over all rows.
        count: rows to pick, at most n; none is picked twice.
        ridge: of M; > 0.
        oversample: rows that are added, as a multiple of count (at most n); >= 1.

    Returns:
        int64 [count], in the order of addition; among equally good rows the lowest index wins. Time n d + d^2 for each
        addition and removal, once n d^2 + d^3 and again after every 64 of them; memory n d + d^2.
    """
    trace = _Trace(rows, ridge)
    free = np.ones(len(rows), dtype=bool)
    added: list[int] = []
    for _ in range(min(len(rows), max(count, round(oversample * count)))):
        gain = np.where(free, trace.target / (1.0 + trace.own), -np.inf)
        pick = int(np.argmax(gain >= gain.max() - _TIE * abs(gain.max())))
        trace.change(pick, 1.0)
        free[pick] = False
        added.append(pick)
    while len(added) > count:
        held = np.array(added)
        loss = trace.target[held] / (1.0 - trace.own[held])
        # Among equally dispensable rows the last one goes, so that the first of equal rows stays.
        drop = int(np.flatnonzero(loss <= loss.min() + _TIE * abs(loss.min()))[-1])
        trace.change(added.pop(drop), -1.0)
    return np.array(added, dtype=np.int64)


def select(train: Train, ipc: int, ctx: Context, *, ridge: float = 1.0, oversample: float = 2.0) -> np.ndarray:
    """Forward and backward greedy on the Fisher information of each class's own logit. Deterministic.

    The information of the whole last layer is a matrix of C (d + 1) squared numbers, out of reach from some thousand
    on. Here it is that of the binary question "this class or another": p (1 - p) (h, 1) (h, 1)', p the teacher's
    probability of the class: a matrix of (d + 1)^2 numbers for each class. For two classes that is the whole
    information, at twice the ridge; for more it is approximate. The greedy on it is exact, by rank-one updates.

    Deviations: the pool, and the mean information F that is to be explained, are those of the class; nothing is
    labelled beforehand; features are divided by their root mean square length over the class, so that `ridge` means the
    same for every teacher.

    Cost on ImageNet's size (1.28M images, 512 features, 1,000 classes), extrapolated from one class on one core: 95 s
    at 10 images per class, 300 s at 50.

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives the teacher's features and logits.
        ridge: added to the information of the picks; > 0.
        oversample: the first pass adds this multiple of ipc, the second takes the surplus away; >= 1.

    Returns:
        int64 [num_classes * ipc], unique, class after class, in the order of addition.

    Raises:
        ValueError: an argument is out of range, a class has too few images, or a feature or logit is not finite.
    """
    if not 0.0 < ridge < np.inf:
        raise ValueError(f"ridge is {ridge}; it must be a number above 0")
    if not 1.0 <= oversample < np.inf:
        raise ValueError(f"oversample is {oversample}; it must be at least 1")
    groups = list(class_members(train, ipc))
    features, logits = ctx.features(), ctx.logits()
    picks = []
    for label, own in groups:
        rows = finite_rows(features[own], own, "the feature")
        other = -residuals(finite_rows(logits[own], own, "a logit"), np.full(len(own), label))[:, label]
        information = np.sqrt(other * (1.0 - other))
        length = np.sqrt(np.einsum("nd,nd->", rows, rows) / len(rows))
        scaled = np.concatenate([rows / (length if length > 0 else 1.0), np.ones((len(rows), 1))], axis=1)
        picks.append(own[forward_backward(information[:, None] * scaled, ipc, ridge, oversample)])
    return np.concatenate(picks)
