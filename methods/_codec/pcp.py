"""Principal component pursuit, min ||L||_* + lambda ||S||_1 with L + S = D, by inexact augmented Lagrangians.

Source: Candes, Li, Ma, Wright 2011 (the problem, lambda); Lin, Chen, Ma 2010, algorithm 5 (the method: mu_0 =
1.25 / ||D||_2, mu grows by 1.5 up to 1e7 mu_0). Two things make it fast. Singular value thresholding goes through the
Gram matrix of the smaller side, L = U max(0, 1 - 1/(mu s)) U^T M, which needs no second factor. And after the
shrinkage S = shrink(W, lambda/mu) the new multiplier is mu clip(W, lambda/mu), so one clipped array serves as S,
multiplier and residual.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

PRECISIONS = ("float64", "mixed")
_GROWTH = 1.5
_MU_RANGE = 1e7
_FLOAT32_TOL = 1e-4  # below it float32 no longer converges, and the support of S fills up
_CACHE_VALUES = 1 << 17  # values solved at once: more falls out of the cache, fewer pays for calls


@dataclass
class _State:
    """The active matrices of one batch, [b, K, C] with K <= C."""

    data: np.ndarray
    sparse: np.ndarray  # S
    dual: np.ndarray  # multiplier / mu
    mu: np.ndarray  # [b, 1, 1]
    ceiling: np.ndarray  # [b, 1, 1], the largest mu

    def cast(self, dtype: type) -> _State:
        return _State(
            self.data.astype(dtype), self.sparse.astype(dtype), self.dual.astype(dtype), self.mu, self.ceiling
        )


def pcp(
    matrices: np.ndarray,
    lambda_: float | None = None,
    tol: float = 1e-7,
    max_iter: int = 500,
    precision: str = "float64",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split each matrix into low rank and sparse.

    Args:
        matrices: [b, K, C], finite, of any scale (each is normalised by its Frobenius norm first).
        lambda_: weight of the sparse part; None: 1 / sqrt(max(K, C)).
        tol: stop when ||D - L - S||_F <= tol ||D||_F.
        max_iter: iterations at most.
        precision: "float64", or "mixed": float32 down to a residual of 1e-4, then float64.

    Returns:
        L, S float64 [b, K, C] and the iterations int64 [b] (0 for a matrix of zeros).

    Raises:
        ValueError: an argument out of its range.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r} is not one of {', '.join(PRECISIONS)}")
    if lambda_ is not None and not lambda_ > 0:
        raise ValueError(f"lambda_: must be > 0, got {lambda_}")
    if not tol > 0:
        raise ValueError(f"tol: must be > 0, got {tol}")
    if matrices.shape[1] > matrices.shape[2]:
        low, sparse, iterations = pcp(matrices.transpose(0, 2, 1), lambda_, tol, max_iter, precision)
        return low.transpose(0, 2, 1), sparse.transpose(0, 2, 1), iterations
    weight = lambda_ if lambda_ is not None else matrices.shape[2] ** -0.5
    low = np.zeros(matrices.shape)
    sparse = np.zeros(matrices.shape)
    iterations = np.zeros(len(matrices), np.int64)
    step = max(1, _CACHE_VALUES // matrices[0].size)
    for start in range(0, len(matrices), step):
        part = slice(start, start + step)
        data = matrices[part].astype(np.float64)
        norm = np.sqrt(np.einsum("bkc,bkc->b", data, data))
        live = np.flatnonzero(norm > 0)
        if live.size:
            data = data[live] / norm[live, None, None]
            found = _solve(data, weight, tol, max_iter, precision)
            low[start + live], sparse[start + live] = (piece * norm[live, None, None] for piece in found[:2])
            iterations[start + live] = found[2]
    return low, sparse, iterations


def _solve(
    data: np.ndarray, weight: float, tol: float, max_iter: int, precision: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    spectral = np.sqrt(np.linalg.eigvalsh(data @ data.transpose(0, 2, 1))[:, -1])[:, None, None]
    mu = 1.25 / spectral
    start = np.maximum(spectral, np.abs(data).max((1, 2), keepdims=True) / weight)
    state = _State(data, np.zeros_like(data), data / start / mu, mu, mu * _MU_RANGE)
    low = np.empty_like(data)
    done = np.zeros(len(data), np.int64)
    if precision == "mixed" and tol <= _FLOAT32_TOL:
        # Only the state is of use here: L is computed again by the first float64 iteration.
        state = state.cast(np.float32)
        _iterate(state, weight, _FLOAT32_TOL, max_iter, low.astype(np.float32), done)
        state = state.cast(np.float64)
        state.data = data
    _iterate(state, weight, tol, max_iter, low, done)
    return low, state.sparse, done


def _iterate(state: _State, weight: float, tol: float, max_iter: int, low: np.ndarray, done: np.ndarray) -> None:
    """Advance all matrices to `tol`; `state`, `low` and the iteration counts `done` are updated in place."""
    active = np.arange(len(low))
    # Copies: below, the three buffers change roles from one iteration to the next.
    now = _State(state.data, state.sparse.copy(), state.dual.copy(), state.mu, state.ceiling)
    work, residual = np.empty_like(low), np.empty_like(low)
    while active.size:
        np.subtract(now.data, now.sparse, out=work)
        work += now.dual
        shrunk = _threshold(work, 1 / now.mu[:, 0, 0], residual)
        np.subtract(now.data, shrunk, out=work)
        work += now.dual
        limit = (weight / now.mu).astype(work.dtype)
        # `now.sparse` is free: it takes the clipped array, and then S in `work`.
        dual = np.clip(work, -limit, limit, out=now.sparse)
        np.subtract(work, dual, out=work)
        np.subtract(dual, now.dual, out=now.dual)  # D - L - S
        error = np.sqrt(np.einsum("bkc,bkc->b", now.dual, now.dual))
        grown = np.minimum(now.mu * _GROWTH, now.ceiling)
        dual *= (now.mu / grown).astype(dual.dtype)
        now.sparse, now.dual, work, now.mu = work, dual, now.dual, grown
        done[active] += 1
        stop = (error <= tol) | (done[active] >= max_iter)
        if stop.any():
            out = active[stop]
            low[out] = shrunk[stop]
            state.sparse[out], state.dual[out], state.mu[out] = now.sparse[stop], now.dual[stop], now.mu[stop]
            keep = ~stop
            active = active[keep]
            now = _State(now.data[keep], now.sparse[keep], now.dual[keep], now.mu[keep], now.ceiling[keep])
            work, residual = work[keep], residual[keep]


def _threshold(matrices: np.ndarray, tau: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Singular value thresholding by tau [b] of [b, K, C], K <= C, written to `out`."""
    values, vectors = _eigh(matrices @ matrices.transpose(0, 2, 1))
    singular = np.sqrt(np.maximum(values, 0))
    tau = tau[:, None]
    gain = np.where(singular > tau, 1 - tau / np.maximum(singular, tau), 0).astype(matrices.dtype)
    kept = int((gain > 0).sum(1).max())  # eigenvalues rise: what is kept stands at the end
    if kept == 0:
        out[:] = 0
        return out
    basis, gain = vectors[:, :, -kept:], gain[:, None, -kept:]
    flipped = basis.transpose(0, 2, 1)
    if 2 * kept < matrices.shape[1]:
        return np.matmul(basis * gain, flipped @ matrices, out=out)
    return np.matmul((basis * gain) @ flipped, matrices, out=out)


def _eigh(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if gram.dtype == np.float64:
        result = np.linalg.eigh(gram)
        return result.eigenvalues, result.eigenvectors
    values, vectors = torch.linalg.eigh(torch.from_numpy(gram))  # numpy is no faster in float32 than in float64
    return values.numpy(), vectors.numpy()
