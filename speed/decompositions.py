"""The decompositions behind the compressors beside the packages that people use, one thread, in turns."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pyrpca
import torch
from pyrpca import pcp_ialm
from sklearn.utils.extmath import randomized_svd

from bench.api import SoftLabels
from bench.studies.label_sets.quality import WARM, divergence
from methods._codec.lowrank import truncated_svd, working_dtype
from methods._codec.pcp import pcp
from methods.compressors import godec, rpca
from speed._tools import milliseconds, mixed_view_logits, times
from speed.row import Row


def measure(quick: bool = False) -> list[Row]:
    """Rows for exact truncated SVD, principal component pursuit and GoDec."""
    k, c = (60, 120) if quick else (300, 1000)
    logits = mixed_view_logits(1, k, c)
    matrix = logits[0].astype(np.float64)
    matrix /= np.linalg.norm(matrix)
    return [
        *_truncated(matrix, [4] if quick else [2, 15, 46], rounds=2 if quick else 9),
        *_pursuit(matrix, rounds=1 if quick else 3),
        *_godec(logits.astype(np.float16), matrix, [5] if quick else [5, 10, 20], rounds=1 if quick else 3),
    ]


def _truncated(matrix: np.ndarray, ranks: list[int], rounds: int) -> list[Row]:
    k, c = matrix.shape
    working: np.ndarray = matrix[None].astype(working_dtype(k, c))  # what the compressors hand over
    rows = []
    for rank in ranks:
        full, peer, ours = times(
            [
                lambda: np.linalg.svd(matrix, full_matrices=False),
                partial(randomized_svd, working[0], rank, random_state=0),
                partial(truncated_svd, working, rank),
            ],
            rounds,
        )
        left, right, _ = truncated_svd(working, rank)
        u, s, vt = randomized_svd(working[0], rank, random_state=0)
        tail = float(np.sqrt((np.linalg.svd(matrix, compute_uv=False)[rank:] ** 2).sum()))
        off, theirs = (
            float(np.linalg.norm(matrix - product)) / tail - 1 for product in (left[0] @ right[0], (u * s) @ vt)
        )
        what = f"truncated SVD, rank {rank}, {k} x {c}"
        bars = (6.0, 1.2)
        note = f"{milliseconds(full, ours)}; error {off:.0e} above the least"
        rows.append(Row(f"{what}: numpy's SVD / ours", full / ours, "x", bars[0], True, note))
        note = f"{milliseconds(peer, ours)}; its error is {theirs:.0e} above the least"
        rows.append(Row(f"{what}: scikit-learn's randomized_svd / ours", peer / ours, "x", bars[1], True, note))
    return rows


def _pursuit(matrix: np.ndarray, rounds: int) -> list[Row]:
    k, c = matrix.shape
    found: dict[str, Any] = {}

    def keep(name: str, result: Any) -> None:
        found[name] = result

    peer, double, mixed = times(
        [
            lambda: _peer(matrix),
            lambda: keep("double", pcp(matrix[None])),
            lambda: keep("mixed", pcp(matrix[None], precision="mixed")),
        ],
        rounds,
    )
    # Lin, Chen and Ma start the multiplier from the largest entry, the package from the largest sum of a row. Both go
    # to the same optimum, along other paths; from one start the paths can be compared to the last digits.
    with mock.patch.object(pcp_ialm, "norm", _entrywise_norm):
        low, sparse = _peer(matrix)
    off = {name: _difference(result, low) for name, result in found.items()}
    differing = int(((found["double"][1][0] != 0) != (sparse != 0)).sum())
    size = f"PCP, tol 1e-7, {k} x {c}"
    return [
        Row(f"{size}, float64: pyrpca / ours", peer / double, "x", 2.5, True, milliseconds(peer, double)),
        Row(f"{size}, float64: L beside pyrpca's, from one start", off["double"], "", 1e-10, False, "relative to D"),
        Row(f"{size}, float64: entries of S in one support alone", differing, "", 0, False, f"of {sparse.size}"),
        Row(f"{size}, mixed precision: pyrpca / ours", peer / mixed, "x", 4, True, milliseconds(peer, mixed)),
        Row(f"{size}, mixed precision: L beside pyrpca's", off["mixed"], "", 1e-3, False, "relative to D"),
    ]


def _godec(logits: np.ndarray, matrix: np.ndarray, ratios: list[int], rounds: int) -> list[Row]:
    """Beside the pursuit that pyrpca takes, and the quality of `rpca`, which cuts a pursuit to the same bytes.

    One round already has the lower divergence; the default, four, is the better code and is told beside it.
    """
    _, k, c = logits.shape
    labels = SoftLabels(torch.from_numpy(logits), torch.zeros(1, dtype=torch.int64))
    context = SimpleNamespace()

    def kl(blob: bytes, module: Any) -> float:
        return float(divergence(labels.logits, module.decode(blob), WARM).mean())

    rows = []
    for ratio in ratios:
        budget = 2 * logits.size // ratio
        encode = partial(godec.encode, labels, budget, context)
        peer, quick, default = times([lambda: _peer(matrix), partial(encode, rounds=1), encode], rounds)
        reference = kl(rpca.encode(labels, budget, context), rpca)
        what = f"GoDec within 1/{ratio} of fp16, {k} x {c}"
        note = f"{milliseconds(peer, quick)}; {peer / default:.3g} x with the default of four rounds"
        rows.append(Row(f"{what}, one round: pyrpca / ours", peer / quick, "x", 40, True, note))
        found, best = kl(encode(rounds=1), godec), kl(encode(), godec)
        note = f"KL at T = 20: {found:.4f} and {reference:.4f}; {best:.4f} with four rounds"
        rows.append(Row(f"{what}: its KL / that of rpca in the same bytes", found / reference, "", 1, False, note))
    return rows


def _peer(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, sparse = pyrpca.rpca_pcp_ialm(matrix, max(matrix.shape) ** -0.5, verbose=False)
    return np.asarray(low), np.asarray(sparse)


def _entrywise_norm(x: np.ndarray, ord: Any = None) -> Any:
    return np.abs(x).max() if ord is np.inf else np.linalg.norm(x, ord=ord)


def _difference(result: tuple[np.ndarray, np.ndarray, np.ndarray], low: np.ndarray) -> float:
    """Of L; D has norm 1."""
    return float(np.linalg.norm(result[0][0] - low))
