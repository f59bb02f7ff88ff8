"""SCORE's selection against the naive greedy, the bare matrix product, a peer, and at the size of ImageNet-1K."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from statistics import median
from time import process_time

import numpy as np
from threadpoolctl import threadpool_limits

from bench.training.peak_memory import PeakMemory
from methods._coding_rate import Selection, greedy
from speed.row import Row

ALPHA, EPS2 = 5.0, 0.5
_GIB = 2**30


def measure(quick: bool = False) -> list[Row]:
    """CPU seconds of one thread, alternating, medians. `quick` leaves out the peer (6 GiB) and ImageNet-1K."""
    with threadpool_limits(limits=1, user_api="blas"):
        large = [] if quick else _imagenet()  # first: memory that the others gave back would hide what it takes
        rows = _against_naive(rounds=3 if quick else 5)
        return rows if quick else rows + _against_peer() + large


def _features(count: int, dim: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Like activations after a ReLU: class means, a power-law spectrum, mean norm about 1. float32, sorted by class."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) * classes // count
    features = np.empty((count, dim), dtype=np.float32)
    spectrum = (3.0 * np.arange(1, dim + 1) ** -0.5).astype(np.float32)
    bounds = np.searchsorted(labels, np.arange(classes + 1))
    for c in range(classes):
        own = features[bounds[c] : bounds[c + 1]]
        rng.standard_normal(out=own, dtype=np.float32)
        own *= spectrum
        own += 0.5 * rng.standard_normal(dim, dtype=np.float32)
        np.maximum(own, 0.0, out=own)
        own /= np.sqrt(np.square(own).sum(axis=1).mean())
    return features, labels


def _seconds(work: Callable[[], object]) -> float:
    start = process_time()
    work()
    return process_time() - start


def _against_naive(rounds: int) -> list[Row]:
    count, dim, classes, ipc = 20_000, 512, 100, 10
    features, labels = _features(count, dim, classes)
    exact = features.astype(np.float64)
    size = count // classes
    evaluations = classes * sum(size - t for t in range(ipc))
    flops = 2.0 * size * dim * min(classes, dim) * classes * ipc
    side = 1024
    square = np.random.default_rng(0).standard_normal((side, side))
    result: dict[str, Selection] = {}
    times: dict[str, list[float]] = {"naive": [], "gemm": [], "round_robin": [], "sequential": [], "sequential64": []}

    def select(order: str, matrix: np.ndarray) -> None:
        result[order] = greedy(matrix, labels, ipc, alpha=ALPHA, beta=0.0, eps=EPS2**0.5, order=order)  # type: ignore[arg-type]

    per_round = -(-200 // rounds)
    for turn in range(rounds):
        times["gemm"].append(_seconds(lambda: square @ square) * flops / (2.0 * side**3))
        times["round_robin"].append(_seconds(lambda: select("round_robin", exact)))
        times["sequential"].append(_seconds(lambda: select("sequential", features)))
        times["sequential64"].append(_seconds(lambda: select("sequential", exact)))
        spent = _seconds(lambda turn=turn: _naive_evaluations(exact, per_round, turn))  # type: ignore[misc]
        times["naive"].append(spent / per_round * evaluations)
    t = {name: median(values) for name, values in times.items()}
    what = f"N={count:,} d={dim} C={classes} IPC={ipc}"
    bare = f"{flops / 1e9:.1f} GFLOP, {flops / t['gemm'] / 1e9:.0f} GFLOP/s in a {side} cube"
    naive = f"naive {t['naive']:.0f} s, extrapolated from {per_round * rounds} evaluations"
    ours64 = f"ours {t['sequential']:.3f} s from float32 features, {t['sequential64']:.3f} s from float64"
    in_turn, by_naive, by_gemm = (
        t["naive"] / t["sequential"],
        t["naive"] / t["round_robin"],
        t["round_robin"] / t["gemm"],
    )
    turns = f"score round robin, {what}"
    return [
        Row(f"{turns}: naive greedy / ours", by_naive, "x", 1500.0, True, f"{naive}; ours {t['round_robin']:.3f} s"),
        Row(f"{turns}: ours / float64 GEMM of its FLOPs", by_gemm, "x", 2.0, False, bare),
        Row(f"score sequential, {what}: naive greedy / ours", in_turn, "x", 3000.0, True, f"{naive}; {ours64}"),
    ]


def _naive_evaluations(features: np.ndarray, count: int, seed: int) -> float:
    """`count` candidates of a greedy that computes both log-determinants anew for each."""
    dim = features.shape[1]
    rng = np.random.default_rng(seed)
    picked = features[rng.choice(len(features), 500, replace=False)]
    gram, gram_c = picked.T @ picked, picked[:5].T @ picked[:5]
    mu, mu_c = 1000 * EPS2 / dim, 10 * EPS2 / dim
    identity = np.eye(dim)
    best = -np.inf
    for z in features[rng.choice(len(features), count, replace=False)]:
        own = np.outer(z, z)
        whole = np.linalg.slogdet(identity + (gram + own) / mu)[1]
        part = np.linalg.slogdet(identity + (gram_c + own) / mu_c)[1]
        best = max(best, 0.5 * whole - ALPHA * 10 / 2000 * part)
    return float(best)


def _against_peer() -> list[Row]:
    what = "score global, plain logdet, N=10,000 d=512, 500 picks: submodlib-py lazy greedy / ours"
    if importlib.util.find_spec("submodlib") is None:
        return []  # installed with the extra `test`
    from submodlib import LogDeterminantFunction

    count, dim, picks = 10_000, 512, 500
    features, _ = _features(count, dim, 1)
    ridge = picks * EPS2 / dim
    chosen: dict[str, np.ndarray] = {}

    def ours() -> None:
        one_class = np.zeros(count, dtype=np.int64)
        chosen["ours"] = greedy(features, one_class, picks, alpha=0.0, beta=0.0, eps=EPS2**0.5, order="global").indices

    before = _seconds(ours)
    start = process_time()
    kernel = features @ features.T / np.float32(ridge)
    peer = LogDeterminantFunction(n=count, mode="dense", lambdaVal=1.0, sijs=kernel)
    built = process_time()
    pairs = peer.maximize(budget=picks, optimizer="LazyGreedy", show_progress=False)
    done = process_time()
    own = median([before, _seconds(ours), _seconds(ours)])
    theirs = np.array([i for i, _ in pairs])
    shared = len(np.intersect1d(theirs, chosen["ours"]))
    note = (
        f"ours {own:.3f} s; peer {done - start:.2f} s, of which kernel and object {built - start:.2f} s, maximise "
        f"{done - built:.2f} s; {shared} of {picks} picks shared (its kernel is float32)"
    )
    return [Row(what, (done - start) / own, "x", 20.0, True, note)]


def _imagenet() -> list[Row]:
    features, labels = _features(1_281_167, 512, 1000)
    memory = PeakMemory()
    spent = _seconds(lambda: greedy(features, labels, 10, alpha=ALPHA, beta=0.0, eps=EPS2**0.5, order="sequential"))
    side = 1024
    square = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
    rate = 2.0 * side**3 / median(_seconds(lambda: square @ square) for _ in range(5))
    what = "score sequential, ImageNet-1K size (1,281,167 x 512, C=1000), IPC=10"
    floor = f"2 N d^2 at the measured float32 GEMM rate: {2.0 * features.size * 512 / rate:.1f} s"
    above = memory.above() / _GIB
    return [
        Row(f"{what}: CPU time", spent, "s", 15.0, False, f"features float32; {floor}"),
        Row(f"{what}: peak memory above the features", above, "GiB", 0.5, False, "resident set"),
    ]
