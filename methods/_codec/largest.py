"""Indices of the largest values, with a stated rule for equal ones."""

from __future__ import annotations

import numpy as np


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` largest values, ascending: int64 [min(count, n)]; `values` is [n], without nan.

    Of values that are equal at the border, those of the lowest index are in. numpy's own partial sort leaves that open
    and answers differently with and without AVX-512.
    """
    if count <= 0:
        return np.zeros(0, np.int64)
    if count >= len(values):
        return np.arange(len(values))
    border = np.partition(values, len(values) - count)[len(values) - count]
    above = np.flatnonzero(values > border)
    level = np.flatnonzero(values == border)[: count - len(above)]
    return np.sort(np.concatenate([above, level]))
