"""The front door: check, pin the BLAS to one thread, hand over to the algorithm of the order and normaliser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from methods._coding_rate.global_order import select_global
from methods._coding_rate.objective import make_problem
from methods._coding_rate.round_robin import select_round_robin
from methods._coding_rate.running import select_running
from methods._coding_rate.sampled import select_sampled
from methods._coding_rate.sequential import select_sequential

Normaliser = Literal["budget", "running"]
Order = Literal["round_robin", "sequential", "global"]

_BUDGET = {"round_robin": select_round_robin, "sequential": select_sequential, "global": select_global}


@dataclass(frozen=True)
class Selection:
    """What was picked, in the order of picking.

    `gains` are the scores with which the picks won. Under the budget normaliser they are the marginal gains of the
    objective, and their sum is its value; under the running one they are gains up to a term that does not depend on
    the candidate.
    """

    indices: np.ndarray  # int64 [M], unique
    gains: np.ndarray  # float64 [M]


def greedy(
    features: ArrayLike,
    labels: ArrayLike,
    ipc: int,
    *,
    num_classes: int | None = None,
    label_rate: ArrayLike | None = None,
    alpha: float,
    beta: float,
    eps: float,
    normaliser: Normaliser = "budget",
    order: Order = "round_robin",
    unit_norm: bool = False,
    candidates: int = 0,
    generator: np.random.Generator | None = None,
) -> Selection:
    """Pick min(ipc, rows of the class) rows of each class by exact greedy on R_I - alpha R_P - beta R_C.

    Scores within 1e-9 of the best are a tie, and the lowest index wins it. State is float64. Where the features are
    float32 or float16 (order "sequential", normaliser "budget"), candidates are scanned in float32 and every one that
    could win is evaluated in float64, so the picks are the same. q and p are differences of terms of the size
    |z|^2 / mu, so a gain is good to about 1e-16 |z|^2 / mu: far below a tie for unit norms, not for norms of 1e5.

    Args:
        features: [N, d] float16, float32 or float64, finite.
        labels: [N] whole numbers >= 0; gaps are fine, a class without rows takes no part.
        ipc: rows per class, >= 1; a smaller class gives all its rows.
        num_classes: if given, labels must be below it.
        label_rate: [N] R_C of each row (see `label_coding_rate`); None stands for zeros.
        alpha: weight of R_P, >= 0.
        beta: weight of R_C, >= 0; absolute, in nats.
        eps: coding precision, > 0, in units of the features.
        normaliser: "budget" or "running", see `objective`.
        order: "round_robin" (a pick per class and round, by ascending label), "sequential" (class after class, by
            ascending label) or "global" (the best row of any class whose quota is open).
        unit_norm: divide every row by its norm first (class by class: no copy of the features is made).
        candidates: rows that a pick is the best of, drawn anew for each pick; 0 is all rows that may be picked.
        generator: draws them.

    Time and memory beside the features, budget normaliser, N_c rows and t picks per class, C classes:
        sequential   2 N d^2 + 4 N d t flops,           O(N_c d + d^2)
        round_robin  2 N d min(C, d) t flops,           a float64 copy up to 2 GiB, above that O(N_c d); O(M d)
        global       up to 2 N d M flops,               O(N + M d)
        candidates   2 candidates d^2 flops a pick
    running: d^3 / 3 flops a pick and 4 d^2 for each candidate whose bound reaches the best.

    Raises:
        ValueError: an argument is out of range (named in the message), or a feature is NaN or infinite (its row is).
    """
    if normaliser not in ("budget", "running"):
        raise ValueError(f'normaliser must be "budget" or "running"; got {normaliser!r}')
    if order not in _BUDGET:
        raise ValueError(f'order must be "round_robin", "sequential" or "global"; got {order!r}')
    if candidates < 0 or (candidates and (generator is None or normaliser == "running")):
        raise ValueError(
            f"candidates must be 0 (all), or at least 1 with a generator and normaliser 'budget'; got {candidates} "
            f"with '{normaliser}'"
        )
    problem = make_problem(
        features,
        labels,
        ipc,
        num_classes=num_classes,
        label_rate=label_rate,
        alpha=alpha,
        beta=beta,
        eps=eps,
        unit_norm=unit_norm,
    )
    # Many small products in a dependent chain: a second BLAS thread only spins, and numpy's and scipy's pools fight.
    with threadpool_limits(limits=1, user_api="blas"):
        if candidates and generator is not None:
            indices, gains = select_sampled(problem, order, candidates, generator)
        elif normaliser == "running":
            indices, gains = select_running(problem, order)
        else:
            indices, gains = _BUDGET[order](problem)
    return Selection(np.asarray(indices, dtype=np.int64), np.asarray(gains, dtype=np.float64))
