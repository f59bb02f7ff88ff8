"""Do the classes of a condensed set stand in the data set's order? The teacher tells.

A set whose classes are numbered otherwise trains students to chance, and looks like a bad method. The teacher's
predictions give the one-to-one assignment of classes that agrees best (scipy's linear_sum_assignment); it is held
against the order as given by the logarithm of a likelihood ratio, less the number of orders it was chosen from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

_ODDS = math.log(1000)  # what another order must be more likely by, once it was chosen among all


@dataclass(frozen=True)
class Order:
    """What the teacher makes of the classes of a set."""

    assignment: np.ndarray  # int64 [C]: the class that the teacher sees in the images labelled c
    agreement: float  # share of images whose label is the teacher's prediction
    best_agreement: float  # the same under the assignment
    permuted: bool  # the assignment is clearly better than the order as given

    @property
    def moved(self) -> list[int]:
        """The classes that the assignment moves."""
        return np.flatnonzero(self.assignment != np.arange(len(self.assignment))).tolist()


def class_order(labels: np.ndarray, predicted: np.ndarray, classes: int) -> Order:
    """Compare labels int64 [M] with the teacher's predictions int64 [M], both in 0..classes-1.

    An order that moves m of C classes counts as found where, over the images of these classes,

    * it agrees with at least half of them, and with twice as many as the order as given; and
    * it is more likely than the order as given by more than the number of its rivals: the difference of the
      log-likelihoods exceeds the logarithm of the C! / (C - m)! ways to move m classes by log 1000. Under either order
      a prediction is right with a probability of its own (that which fits best, at least 1 / C), and any other class
      is as likely as the next.

    So two classes of one image each, taken for one another, prove nothing; ten such images each do.
    """
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels, predicted), 1)
    # Half an image for staying: a class that nothing speaks for stays where it is.
    _, assignment = linear_sum_assignment(counts + 0.5 * np.eye(classes), maximize=True)
    order = np.arange(classes)
    kept, best = counts[order, order].sum(), counts[order, assignment].sum()
    moved = assignment != order
    permuted = False
    if moved.any():
        total = counts[moved].sum()
        hits, others = counts[order, assignment][moved].sum(), counts[order, order][moved].sum()
        if hits >= total / 2 and hits >= 2 * others:
            ratio = _log_likelihood(hits, total, classes) - _log_likelihood(others, total, classes)
            ways = math.lgamma(classes + 1) - math.lgamma(classes - int(moved.sum()) + 1)
            permuted = ratio > ways + _ODDS
    return Order(assignment.astype(np.int64), float(kept / len(labels)), float(best / len(labels)), bool(permuted))


def _log_likelihood(hits: float, total: float, classes: int) -> float:
    right = min(max(hits / total, 1 / classes), 1 - 1 / (2 * total))
    return hits * math.log(right) + (total - hits) * math.log((1 - right) / (classes - 1))
