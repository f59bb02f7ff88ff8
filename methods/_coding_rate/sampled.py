"""Budget normaliser, a random batch of candidates a pick, as in SCORE's Algorithm 1.

A candidate is evaluated only when it is drawn: q = z^T B z from the matrix B, and p from the picks of its class. Both
are exact, so a pick is the best of its batch.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from methods._coding_rate.objective import Problem, budget_scores, lowest_best, squared_norms
from methods._coding_rate.round_robin import GrowingInverse


def select_sampled(
    problem: Problem, order: str, candidates: int, generator: np.random.Generator
) -> tuple[list[int], list[float]]:
    """Indices and gains in pick order.

    Args:
        problem: checked input.
        order: "round_robin", "sequential" or "global".
        candidates: rows in a batch, drawn without replacement from those that may be picked; all where there are fewer.
        generator: draws the batches.
    """
    class_of = np.empty(len(problem.features), dtype=np.int64)
    for c, members in enumerate(problem.members):
        class_of[members] = c
    inverse = GrowingInverse(problem)
    updates = [np.empty((0, problem.dim)) for _ in problem.members]  # v of every pick of a class, see PartState
    taken = np.zeros(len(problem.features), dtype=bool)
    indices, gains = list[int](), list[float]()
    for classes in _turns(problem.quotas, order, indices, class_of):
        allowed = np.concatenate([problem.members[c] for c in classes])
        allowed = np.sort(allowed[~taken[allowed]])
        batch = np.sort(generator.choice(allowed, min(candidates, len(allowed)), replace=False))
        rows = problem.rows_at(batch)
        inverse.flush()
        q = np.einsum("ij,ij->i", rows @ inverse.matrix, rows)
        scores = np.empty(len(batch))
        p = np.zeros(len(batch))
        for c in np.unique(class_of[batch]).tolist():
            own = class_of[batch] == c
            weight = problem.part_weight(c)
            if weight > 0:
                mu_c = problem.mu(int(problem.quotas[c]))
                p[own] = squared_norms(rows[own]) / mu_c - squared_norms(rows[own] @ updates[c].T)
            scores[own] = budget_scores(q[own], p[own], weight, problem.cost[batch[own]])
        j = lowest_best(scores)
        c, z = int(class_of[batch[j]]), rows[j]
        indices.append(int(batch[j]))
        gains.append(float(scores[j]))
        taken[batch[j]] = True
        inverse.add(z, float(q[j]))
        mu_c = problem.mu(int(problem.quotas[c]))
        v = (z / mu_c - (updates[c] @ z) @ updates[c]) / np.sqrt(1.0 + max(float(p[j]), 0.0))
        updates[c] = np.concatenate([updates[c], v[None]])
    return indices, gains


def _turns(quotas: np.ndarray, order: str, indices: list[int], class_of: np.ndarray) -> Iterator[list[int]]:
    """The classes that may be picked from, pick by pick; `indices` grows meanwhile."""
    if order == "sequential":
        for c, quota in enumerate(quotas.tolist()):
            yield from ([c] for _ in range(quota))
    elif order == "round_robin":
        for turn in range(int(quotas.max())):
            yield from ([c] for c in np.flatnonzero(quotas > turn).tolist())
    else:
        for _ in range(int(quotas.sum())):
            counts = np.bincount(class_of[np.asarray(indices, dtype=np.int64)], minlength=len(quotas))
            yield np.flatnonzero(counts < quotas).tolist()
