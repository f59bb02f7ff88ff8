"""The coding rate of soft labels through the smaller Gram matrix, against a C x C log-determinant."""

from __future__ import annotations

from statistics import median
from time import process_time

import numpy as np
from threadpoolctl import threadpool_limits

from methods._coding_rate import label_coding_rate
from speed.row import Row

EPS2 = 0.5


def measure(quick: bool = False) -> list[Row]:
    """CPU seconds of one thread, alternating, medians."""
    sizes = [(300, 1000, 10.0)] if quick else [(300, 1000, 10.0), (50, 1000, None), (10, 1000, None), (300, 200, None)]
    with threadpool_limits(limits=1, user_api="blas"):
        return [_row(k, c, bar) for k, c, bar in sizes]


def _row(k: int, c: int, bar: float | None) -> Row:
    rng = np.random.default_rng(0)
    images = max(8, 4000 // k)
    soft = rng.standard_normal((images, k, c), dtype=np.float32)
    np.exp(2.0 * soft, out=soft)
    soft /= soft.sum(axis=-1, keepdims=True)
    ours, naive, gap = [], [], 0.0
    for turn in range(7):
        start = process_time()
        rates = label_coding_rate(soft, EPS2**0.5)
        ours.append((process_time() - start) / images)
        start = process_time()
        value = _by_definition(soft[turn])
        naive.append(process_time() - start)
        gap = max(gap, abs(value - rates[turn]))
    t, reference = median(ours), median(naive)
    note = f"ours {1e6 * t:.1f} us an image, C x C {1e3 * reference:.2f} ms; largest difference {gap:.0e}"
    return Row(f"label coding rate, K={k} C={c}: C x C slogdet / ours", reference / t, "x", bar, True, note)


def _by_definition(y: np.ndarray) -> float:
    k, c = y.shape
    exact = y.astype(np.float64)
    return float(0.5 * np.linalg.slogdet(np.eye(c) + c / (k * EPS2) * exact.T @ exact)[1])
