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
GROWTH = 1.5
MU_RANGE = 1e7
_FLOAT32_TOL = 1e-4  # below it a Gram matrix in float32 no longer tells L from noise, and the support of S fills up
_FLOAT32_VALUES_TOL = 3e-7  # below it float32 matrices do not converge, even with a Gram matrix in float64
# What float32 matrices are taken through: (down to this residual, with Gram matrices of this dtype).
MIXED_STAGES = ((_FLOAT32_TOL, np.float32), (_FLOAT32_VALUES_TOL, np.float64))
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
        precision: "float64", or "mixed": float32 down to a residual of 1e-4, from there Gram matrices in float64, and
            below 3e-7 everything.

    Returns:
        L, S float64 [b, K, C] and the iterations int64 [b] (0 for a matrix of zeros).

    Raises:
        ValueError: an argument out of its range.
    """
    check(lambda_, tol, precision)
    if matrices.shape[1] > matrices.shape[2]:
        low, sparse, iterations = pcp(matrices.transpose(0, 2, 1), lambda_, tol, max_iter, precision)
        return low.transpose(0, 2, 1), sparse.transpose(0, 2, 1), iterations
    low, sparse = np.zeros(matrices.shape), np.zeros(matrices.shape)
    iterations = np.zeros(len(matrices), np.int64)
    live = matrices.any((1, 2))
    if not live.all():
        if live.any():
            low[live], sparse[live], iterations[live] = pcp(matrices[live], lambda_, tol, max_iter, precision)
        return low, sparse, iterations
    weight = lambda_ if lambda_ is not None else matrices.shape[2] ** -0.5
    step = max(1, _CACHE_VALUES // matrices[0].size)
    for start in range(0, len(matrices), step):
        part = slice(start, start + step)
        norm = np.array([np.linalg.norm(one.astype(np.float64)) for one in matrices[part]])[:, None, None]
        data = matrices[part] / norm
        iterations[part] = _solve(data, low[part], sparse[part], weight, tol, max_iter, precision)
        low[part] *= norm
        sparse[part] *= norm
    return low, sparse, iterations


def check(lambda_: float | None, tol: float, precision: str) -> None:
    """Raise ValueError, naming it, for an option of `pcp` that is out of its range."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision: {precision!r} is not one of {', '.join(PRECISIONS)}")
    if lambda_ is not None and not lambda_ > 0:
        raise ValueError(f"lambda_: must be > 0, got {lambda_}")
    if not tol > 0:
        raise ValueError(f"tol: must be > 0, got {tol}")


def _solve(
    data: np.ndarray,
    low: np.ndarray,
    sparse: np.ndarray,
    weight: float,
    tol: float,
    max_iter: int,
    precision: str,
) -> np.ndarray:
    """Fill `low` and `sparse`, which hold zeros, for matrices of norm 1; the iterations [b]."""
    spectral = np.sqrt(np.linalg.eigvalsh(data @ data.transpose(0, 2, 1))[:, -1])[:, None, None]
    mu = 1.25 / spectral
    start = np.maximum(spectral, np.maximum(data.max((1, 2)), -data.min((1, 2)))[:, None, None] / weight)
    done = np.zeros(len(data), np.int64)
    state = _State(data, sparse, data / (start * mu), mu, mu * MU_RANGE)
    if precision == "mixed":
        state = state.cast(np.float32)
        # Only the state is of use here: L is computed again by the first iteration that follows.
        scratch = np.empty_like(state.data)
        for least, gram in MIXED_STAGES:
            if tol <= least:
                _iterate(state, weight, least, max_iter, scratch, done, gram)
        sparse[:] = state.sparse
        state = _State(data, sparse, state.dual.astype(np.float64), state.mu, state.ceiling)
    _iterate(state, weight, tol, max_iter, low, done, np.float64)
    return done


def _iterate(
    state: _State, weight: float, tol: float, max_iter: int, low: np.ndarray, done: np.ndarray, gram: type
) -> None:
    """Advance all matrices to `tol`; `state`, `low` and the iteration counts `done` are updated in place."""
    active = np.arange(len(low))
    now, shrunk, matrix = state, low, state.data - state.sparse
    matrix += state.dual
    while True:
        _threshold(matrix, 1 / now.mu[:, 0, 0], shrunk, gram)
        error = _update(now, shrunk, weight, matrix)
        done[active] += 1
        stop = (error <= tol) | (done[active] >= max_iter)
        if not stop.any():
            continue
        if shrunk is not low:
            out = active[stop]
            low[out] = shrunk[stop]
            state.sparse[out], state.dual[out], state.mu[out] = now.sparse[stop], now.dual[stop], now.mu[stop]
        if stop.all():
            return
        # From here on the others are worked on in copies; what has stopped stays as it is.
        keep = ~stop
        active = active[keep]
        now = _State(now.data[keep], now.sparse[keep], now.dual[keep], now.mu[keep], now.ceiling[keep])
        shrunk, matrix = shrunk[keep], matrix[keep]


def _update(now: _State, shrunk: np.ndarray, weight: float, matrix: np.ndarray) -> np.ndarray:
    """The S, multiplier and mu that follow L, in place; `matrix` becomes what the next L is taken from.

    Returns:
        ||D - L - S||_F [b].
    """
    grown = np.minimum(now.mu * GROWTH, now.ceiling)
    limit, ratio = (part.astype(matrix.dtype) for part in (weight / now.mu, now.mu / grown))
    np.subtract(now.data, shrunk, out=now.sparse)
    now.sparse += now.dual
    np.clip(now.sparse, -limit, limit, out=matrix)
    now.sparse -= matrix
    now.dual -= matrix  # L + S - D
    flat = now.dual.reshape(len(matrix), -1)
    error: np.ndarray = np.sqrt(np.vecdot(flat, flat))
    np.multiply(matrix, ratio, out=now.dual)
    np.subtract(now.data, now.sparse, out=matrix)
    matrix += now.dual
    now.mu[:] = grown
    return error


def _threshold(matrices: np.ndarray, tau: np.ndarray, out: np.ndarray, gram: type) -> None:
    """Singular value thresholding by tau [b] of [b, K, C], K <= C, into `out`; the Gram matrix in dtype `gram`."""
    wide: np.ndarray = matrices.astype(gram, copy=False)
    values, vectors = _leading(wide @ wide.transpose(0, 2, 1), tau**2)
    kept = vectors.shape[2]
    if kept == 0:
        out[:] = 0
        return
    tau = tau[:, None]
    singular = np.sqrt(np.maximum(values[:, -kept:], tau**2))
    basis = (vectors * np.sqrt(1 - tau / singular)[:, None]).astype(matrices.dtype, copy=False)
    flipped = basis.transpose(0, 2, 1)
    if 2 * kept < matrices.shape[1]:
        np.matmul(basis, flipped @ matrices, out=out)
    else:
        np.matmul(basis @ flipped, matrices, out=out)  # an array and its transpose: BLAS does half of the work


def _leading(gram: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues [b, K], rising, and the vectors [b, K, kept] of at least those above `least` [b]."""
    if gram.dtype == np.float64:
        values, vectors = np.linalg.eigh(gram)
    else:  # numpy is no faster in float32 than in float64
        values, vectors = (part.numpy() for part in torch.linalg.eigh(torch.from_numpy(gram)))
    kept = int((values > least[:, None]).sum(1).max())
    return values, vectors[:, :, values.shape[1] - kept :]
