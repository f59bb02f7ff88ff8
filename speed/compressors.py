"""Soft-label compressors beside full decompositions and a plain pursuit, one thread, interleaved."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch

from bench.api import SoftLabels
from bench.seeds import numpy_generator
from methods._codec.lowrank import truncated_svd, working_dtype
from methods._codec.pcp import pcp
from methods.compressors import cur, lpld, rpca, rsvd, svd
from speed.row import Row

RANK = 46


def measure(quick: bool = False) -> list[Row]:
    """Rows for exact truncated SVD, PCP, encoding and decoding. Labels are drawn with the spectrum of mixed views."""
    k, c = (60, 120) if quick else (300, 1000)
    matrix = _logits(1, k, c)[0].astype(np.float64)
    matrix /= np.linalg.norm(matrix)
    stack = matrix[None].astype(working_dtype(k, c))  # what the compressors hand over
    rank = min(RANK, k // 2)
    rounds = 2 if quick else 5
    full, exact = _times(
        [lambda: np.linalg.svd(matrix, full_matrices=False), lambda: truncated_svd(stack, rank)], rounds
    )
    plain, double, mixed = _times(
        [lambda: plain_pcp(matrix), lambda: pcp(matrix[None]), lambda: pcp(matrix[None], precision="mixed")],
        1 if quick else 3,
    )
    size = f"{k} x {c}"
    rows = [
        Row(f"truncated SVD, rank {rank}, {size}, against numpy's SVD", full / exact, "x", 6, True, _ms(full, exact)),
        Row(
            f"PCP float64, tol 1e-7, {size}, against a plain IALM loop",
            plain / double,
            "x",
            2,
            True,
            _ms(plain, double),
        ),
        Row(f"PCP mixed precision, {size}, against the same", plain / mixed, "x", None, True, _ms(plain, mixed)),
    ]
    images = 20 if quick else 100
    context = SimpleNamespace(numpy=lambda *name: numpy_generator("speed", *name))
    for classes, ratio in ((10, 5), (100, 10)):
        logits = _logits(images, 100, classes).astype(np.float16)
        labels = SoftLabels(torch.from_numpy(logits), torch.zeros(images, dtype=torch.int64))
        for module in (svd, rsvd, cur, rpca, lpld):
            name = module.__name__.rsplit(".", 1)[-1]
            budget = 2 * logits.size // ratio
            blob = module.encode(labels, budget, context)
            block = lpld.rows(blob)[:8] if module is lpld else np.arange(40, 48)
            calls = [partial(module.encode, labels, budget, context), partial(module.decode, blob, block)]
            encode, decode = _times(calls, 2)
            what = f"{name} at {ratio}x, 100 views, {classes} classes"
            per = 100 / images
            if classes == 10:
                rows.append(Row(f"{what}: encode 100 images", encode * per, "s", 0.3, False))
            rows.append(Row(f"{what}: decode {len(block)} views of 100 images", 1e3 * decode * per, "ms", 2, False))
    return rows


def plain_pcp(data: np.ndarray, tol: float = 1e-7) -> tuple[np.ndarray, np.ndarray]:
    """Inexact ALM with a full SVD per iteration (Lin, Chen and Ma 2010), as the reference."""
    weight = max(data.shape) ** -0.5
    spectral = np.linalg.norm(data, 2)
    mu = 1.25 / spectral
    ceiling = mu * 1e7
    dual = data / max(spectral, np.abs(data).max() / weight)
    sparse = np.zeros_like(data)
    while True:
        u, s, vt = np.linalg.svd(data - sparse + dual / mu, full_matrices=False)
        low = (u * np.maximum(s - 1 / mu, 0)) @ vt
        rest = data - low + dual / mu
        sparse = np.sign(rest) * np.maximum(np.abs(rest) - weight / mu, 0)
        residual = data - low - sparse
        dual = dual + mu * residual
        mu = min(1.5 * mu, ceiling)
        if np.linalg.norm(residual) <= tol * np.linalg.norm(data):
            return low, sparse


def _logits(n: int, k: int, c: int) -> np.ndarray:
    """float32 [n, k, c] with slowly falling singular values and a heavy tail, as logits of mixed views have."""
    rng = numpy_generator("speed", "logits", n, k, c)
    rank = min(k, c)
    falling = 1 / (1 + np.arange(rank)) ** 0.6
    smooth = (rng.standard_normal((n, k, rank)) * falling) @ rng.standard_normal((n, rank, c))
    return (smooth + 0.3 * rng.standard_t(3, (n, k, c))).astype(np.float32)


def _times(calls: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Least process time of each call in seconds, measured in turns."""
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for i, call in enumerate(calls):
            start = time.process_time()
            call()
            best[i] = min(best[i], time.process_time() - start)
    return best


def _ms(reference: float, ours: float) -> str:
    return f"{1e3 * reference:.1f} ms and {1e3 * ours:.1f} ms"
