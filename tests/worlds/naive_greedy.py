"""The oracle: greedy coding-rate selection written from the definition, two slogdets and more per candidate."""

from __future__ import annotations

import numpy as np


def rate(rows: np.ndarray, ridge: float) -> float:
    """logdet(I + Z^T Z / ridge), in as many dimensions as the rows have."""
    return float(np.linalg.slogdet(np.eye(rows.shape[1]) + rows.T @ rows / ridge)[1])


def objective(features, labels, picks, quotas, *, alpha, cost, eps2, normaliser) -> float:
    """R_I - alpha R_P - sum of the costs of the rows in `picks`; quotas: class -> count."""
    d = features.shape[1]
    picks = np.asarray(picks, dtype=np.int64)
    n = sum(quotas.values()) if normaliser == "budget" else len(picks)
    value = 0.5 * rate(features[picks], n * eps2 / d) - cost[picks].sum()
    for label, quota in quotas.items():
        own = picks[labels[picks] == label]
        n_c = quota if normaliser == "budget" else len(own)
        if alpha and n_c and len(own):
            value -= alpha * n_c / (2 * n) * rate(features[own], n_c * eps2 / d)
    return value


def open_classes(labels, picks, quotas, order) -> list[int]:
    """Classes that the next pick may come from."""
    counts = {c: int((labels[np.asarray(picks, dtype=np.int64)] == c).sum()) for c in quotas}
    waiting = [c for c in sorted(quotas) if counts[c] < quotas[c]]
    if order == "sequential":
        return waiting[:1]
    if order == "round_robin":
        return [min(waiting, key=lambda c: (counts[c], c))]
    return waiting


def candidate_values(features, labels, picks, quotas, order, **how) -> tuple[np.ndarray, np.ndarray]:
    """Rows that may be picked next and the objective with each of them."""
    allowed = np.isin(labels, open_classes(labels, picks, quotas, order))
    allowed[np.asarray(picks, dtype=np.int64)] = False
    rows = np.flatnonzero(allowed)
    values = [objective(features, labels, [*picks, int(i)], quotas, **how) for i in rows]
    return rows, np.array(values)
