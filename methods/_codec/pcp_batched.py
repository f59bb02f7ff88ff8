"""Principal component pursuit of many matrices at once, on a torch device: the method of `pcp`, step for step.

On a CPU one matrix after the other fills the cache and the cores; a GPU is only busy with many. All matrices of a part
advance together; those that have reached their tolerance leave, and the others close ranks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch

from methods._codec import batched
from methods._codec.pcp import GROWTH, MIXED_STAGES, MU_RANGE, check

# What a part holds at its peak, counted in float64: D, S, multiplier and L of all its matrices; of the active ones the
# same, what the next L is taken from, and one copy on the way. Then Gram matrices, their vectors, the solver's own.
_WIDE_ARRAYS = 12
_SQUARE_ARRAYS = 6


@dataclass
class _State:
    """Matrices [b, K, C], K <= C, on their way; multipliers and S as `pcp` keeps them."""

    data: torch.Tensor
    sparse: torch.Tensor  # S
    dual: torch.Tensor  # multiplier / mu
    mu: torch.Tensor  # float64 [b, 1, 1]
    ceiling: torch.Tensor  # float64 [b, 1, 1], the largest mu

    def cast(self, dtype: torch.dtype) -> _State:
        return _State(self.data.to(dtype), self.sparse.to(dtype), self.dual.to(dtype), self.mu, self.ceiling)

    def keep(self, rows: torch.Tensor) -> _State:
        return _State(*(getattr(self, field.name)[rows] for field in fields(self)))


def pcp(
    matrices: np.ndarray,
    lambda_: float | None = None,
    tol: float = 1e-7,
    max_iter: int = 500,
    precision: str = "float64",
    *,
    device: torch.device,
    working_bytes: int = batched.WORKING_BYTES,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split each matrix into low rank and sparse. Source: that of `pcp.pcp`, whose result this is but for rounding.

    Args:
        matrices: [b, K, C], finite, of any scale (each is normalised by its Frobenius norm first).
        lambda_: weight of the sparse part; None: 1 / sqrt(max(K, C)).
        tol: stop when ||D - L - S||_F <= tol ||D||_F, each matrix by itself.
        max_iter: iterations at most.
        precision: "float64", or "mixed", in the stages of `pcp.pcp`.
        device: where to compute.
        working_bytes: memory of the working arrays on the device.

    Returns:
        L, S float64 [b, K, C] and the iterations int64 [b] (0 for a matrix of zeros).

    Raises:
        ValueError: an argument out of its range.
        torch.linalg.LinAlgError: the eigenvalues of a Gram matrix did not converge.
    """
    check(lambda_, tol, precision)
    if matrices.shape[1] > matrices.shape[2]:
        low, sparse, iterations = pcp(
            matrices.transpose(0, 2, 1), lambda_, tol, max_iter, precision, device=device, working_bytes=working_bytes
        )
        return low.transpose(0, 2, 1), sparse.transpose(0, 2, 1), iterations
    low, sparse = np.zeros(matrices.shape), np.zeros(matrices.shape)
    iterations = np.zeros(len(matrices), np.int64)
    live = np.flatnonzero(matrices.any((1, 2)))
    weight = lambda_ if lambda_ is not None else matrices.shape[2] ** -0.5
    for part in batched.parts((len(live), *matrices.shape[1:]), _WIDE_ARRAYS, _SQUARE_ARRAYS, working_bytes):
        at = live[part]
        data = batched.moved(matrices[at].astype(np.float64), device)
        norm = torch.linalg.vector_norm(data, dim=(1, 2), keepdim=True)
        found_low, found_sparse, iterations[at] = _solve(data / norm, weight, tol, max_iter, precision)
        low[at] = found_low.mul_(norm).cpu().numpy()
        sparse[at] = found_sparse.mul_(norm).cpu().numpy()
    return low, sparse, iterations


def _solve(
    data: torch.Tensor, weight: float, tol: float, max_iter: int, precision: str
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """L and S of matrices of norm 1, and the iterations [b]."""
    spectral = torch.linalg.eigvalsh(data @ data.mT)[:, -1].sqrt()[:, None, None]
    mu = 1.25 / spectral
    start = torch.maximum(spectral, data.abs().amax((1, 2), keepdim=True) / weight)
    done = np.zeros(len(data), np.int64)
    state = _State(data, torch.zeros_like(data), data / (start * mu), mu, mu * MU_RANGE)
    if precision == "mixed":
        state = state.cast(torch.float32)
        for least, gram in MIXED_STAGES:
            if tol <= least:
                _iterate(state, weight, least, max_iter, done, getattr(torch, np.dtype(gram).name))
        state = _State(data, state.sparse.double(), state.dual.double(), state.mu, state.ceiling)
    low = _iterate(state, weight, tol, max_iter, done, torch.float64)
    return low, state.sparse, done


def _iterate(
    state: _State, weight: float, tol: float, max_iter: int, done: np.ndarray, gram: torch.dtype
) -> torch.Tensor:
    """L once all matrices are at `tol`; `state` and the iteration counts `done` are updated in place."""
    low = torch.empty_like(state.data)
    active = np.arange(len(low))
    now, shrunk, matrix = state, low, state.data - state.sparse
    matrix += state.dual
    while True:
        _threshold(matrix, 1 / now.mu, shrunk, gram)
        error = _update(now, shrunk, weight, matrix)
        done[active] += 1
        stop = (error <= tol) | (done[active] >= max_iter)
        if not stop.any():
            continue
        if shrunk is not low:
            there, here = (torch.from_numpy(rows).to(low.device) for rows in (active[stop], np.flatnonzero(stop)))
            low[there] = shrunk[here]
            state.sparse[there], state.dual[there], state.mu[there] = now.sparse[here], now.dual[here], now.mu[here]
        if stop.all():
            return low
        # From here on the others are worked on in copies; what has stopped stays as it is.
        active = active[~stop]
        rows = torch.from_numpy(np.flatnonzero(~stop)).to(low.device)
        now, shrunk, matrix = now.keep(rows), shrunk[rows], matrix[rows]


def _update(now: _State, shrunk: torch.Tensor, weight: float, matrix: torch.Tensor) -> np.ndarray:
    """The S, multiplier and mu that follow L, in place; `matrix` becomes what the next L is taken from.

    Returns:
        ||D - L - S||_F [b], on the CPU: the one wait for the device in an iteration.
    """
    grown = torch.minimum(now.mu * GROWTH, now.ceiling)
    limit, ratio = (part.to(matrix.dtype) for part in (weight / now.mu, now.mu / grown))
    torch.sub(now.data, shrunk, out=now.sparse)
    now.sparse += now.dual
    torch.clamp(now.sparse, -limit, limit, out=matrix)
    now.sparse -= matrix
    now.dual -= matrix  # L + S - D
    error = torch.linalg.vector_norm(now.dual, dim=(1, 2))
    torch.mul(matrix, ratio, out=now.dual)
    torch.sub(now.data, now.sparse, out=matrix)
    matrix += now.dual
    now.mu.copy_(grown)
    return np.asarray(error.cpu().numpy())


def _threshold(matrices: torch.Tensor, tau: torch.Tensor, out: torch.Tensor, gram: torch.dtype) -> None:
    """Singular value thresholding by tau [b, 1, 1] of [b, K, C], K <= C, into `out`; Gram matrices in dtype `gram`.

    All vectors are used, those of no weight too: how many have one would have to be waited for.
    """
    wide = matrices.to(gram)
    values, vectors = torch.linalg.eigh(wide @ wide.mT)
    tau = tau[:, :, 0]
    weights = 1 - tau / torch.maximum(values.double(), tau**2).sqrt()  # 0 up to tau
    basis = (vectors * weights.clamp(min=0).sqrt()[:, None, :]).to(matrices.dtype)
    torch.bmm(basis @ basis.mT, matrices, out=out)
