"""What several subjects need: timing in turns, and labels that look like those of mixed views."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from bench.seeds import numpy_generator


def times(calls: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Least process time of each call in seconds, measured in turns."""
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for i, call in enumerate(calls):
            start = time.process_time()
            call()
            best[i] = min(best[i], time.process_time() - start)
    return best


def milliseconds(reference: float, ours: float) -> str:
    """The note behind a ratio of two times in seconds."""
    return f"{1e3 * reference:.1f} ms and {1e3 * ours:.1f} ms"


def mixed_view_logits(n: int, k: int, c: int) -> np.ndarray:
    """float32 [n, k, c] with slowly falling singular values and a heavy tail, as logits of mixed views have."""
    rng = numpy_generator("speed", "logits", n, k, c)
    rank = min(k, c)
    falling = 1 / (1 + np.arange(rank)) ** 0.6
    smooth = (rng.standard_normal((n, k, rank)) * falling) @ rng.standard_normal((n, rank, c))
    return (smooth + 0.3 * rng.standard_t(3, (n, k, c))).astype(np.float32)
