"""Decompositions in batches on a GPU beside the same on one thread of the CPU, in turns, by wall time.

Without a CUDA device the rows say so in place of figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from methods._codec import batched, godec, godec_batched, lowrank, pcp, pcp_batched
from speed._tools import milliseconds, mixed_view_logits
from speed.row import Row


def measure(quick: bool = False) -> list[Row]:
    """A row each for the pursuit as `rpca` asks for it, SVD, exact and randomised, and `godec`, on as many matrices as
    compressors hand over."""
    count, k, c = (4, 60, 120) if quick else (13, 300, 1000)
    rank = 4 if quick else 15
    names = ("PCP, mixed", f"truncated SVD, rank {rank}", f"randomised SVD, rank {rank}", "godec at 1/30")
    whats = [f"{name}, {count} of {k} x {c}: CPU / GPU" for name in names]
    if not torch.cuda.is_available():
        return [Row(what, float("nan"), "x", None, True, "no CUDA device") for what in whats]
    gpu = torch.device("cuda")
    matrices = mixed_view_logits(count, k, c).astype(np.float64)
    matrices /= np.linalg.norm(matrices, axis=(1, 2), keepdims=True)
    test = np.random.default_rng(0).standard_normal((c, rank + 10))
    share = 16 * k * c // 30
    pairs: list[tuple[Callable[[], object], Callable[[], object]]] = [
        (
            lambda: pcp.pcp(matrices, tol=1e-4, precision="mixed"),
            lambda: pcp_batched.pcp(matrices, tol=1e-4, precision="mixed", device=gpu),
        ),
        (
            lambda: lowrank.truncated_svd(matrices, rank),
            lambda: batched.truncated_svd(matrices, rank, gpu),
        ),
        (
            lambda: lowrank.randomised_svd(matrices, rank, test, 1),
            lambda: batched.randomised_svd(matrices, rank, test, 1, gpu),
        ),
        (
            lambda: godec.split(matrices, share, 4),
            lambda: godec.split(matrices, share, 4, partial(godec_batched.search, device=gpu)),
        ),
    ]
    rows = []
    for what, (here, there) in zip(whats, pairs, strict=True):
        there()  # the first call starts the device's libraries
        times = [min(column) for column in zip(*((_wall(here), _wall(there)) for _ in range(3)), strict=True)]
        note = f"{milliseconds(*times)}; {torch.cuda.get_device_name()}"
        rows.append(Row(what, times[0] / times[1], "x", None, True, note))
    return rows


def _wall(call: Callable[[], object]) -> float:
    """Seconds; the results are on the CPU when `call` returns, so that nothing is still under way."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
