"""Low-rank approximations of a batch of matrices: exact truncated SVD, randomised SVD, leverage scores.

All return balanced factors: left = U sqrt(s), right = sqrt(s) V^T, so that both span the same range of magnitudes and
neither under- nor overflows float16. Matrices are expected at Frobenius norm <= 1 (see `labels.norm_exponents`).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg

# Up to this smaller side float64 costs next to nothing. Above it float32: the approximation is the projection of A on
# the leading subspace, whose error is of second order in the subspace's, and float16 factors are far coarser still.
_FLOAT64_SIDE = 128


def working_dtype(height: int, width: int) -> type:
    """The dtype in which `truncated_svd` works for matrices of this size."""
    return np.float64 if min(height, width) <= _FLOAT64_SIDE else np.float32


def truncated_svd(matrices: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best rank-`rank` approximations through the eigenvectors of the smaller Gram matrix.

    Args:
        matrices: [b, K, C], finite, Frobenius norm of about 1 (or 0).
        rank: 1..min(K, C).

    Returns:
        left [b, K, rank], right [b, rank, C] (balanced), singular values [b, rank], falling. A matrix of lower rank has
        zeros in the columns and rows to spare.
    """
    if matrices.shape[1] > matrices.shape[2]:
        right, left, singular = truncated_svd(matrices.transpose(0, 2, 1), rank)
        return left.transpose(0, 2, 1), right.transpose(0, 2, 1), singular
    work: np.ndarray = matrices.astype(working_dtype(*matrices.shape[1:]), copy=False)
    basis = leading_eigenvectors(work @ work.transpose(0, 2, 1), rank)
    return balanced(basis, basis.transpose(0, 2, 1) @ work)


def leading_eigenvectors(gram: np.ndarray, rank: int) -> np.ndarray:
    """Eigenvectors [b, k, rank] of symmetric matrices [b, k, k], the largest eigenvalue first."""
    size = gram.shape[1]
    if size <= _FLOAT64_SIDE:
        return np.linalg.eigh(gram)[1][:, :, ::-1][:, :, :rank]
    # Few eigenvectors cost less than all of them; beyond about a sixth, divide and conquer is faster.
    few = {"driver": "evr", "subset_by_index": (size - rank, size - 1)} if 6 * rank < size else {"driver": "evd"}
    vectors = [scipy.linalg.eigh(one, check_finite=False, **few)[1][:, ::-1][:, :rank] for one in gram]
    return np.stack(vectors)


def balanced(basis: np.ndarray, projected: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spread the lengths of the rows of `projected` [b, r, C] over both factors; `basis` [b, K, r] is orthonormal."""
    singular = np.sqrt(np.einsum("brc,brc->br", projected, projected))
    root = np.sqrt(singular)
    inverse = np.divide(1, root, out=np.zeros_like(root), where=root > 0)
    return basis * root[:, None, :], projected * inverse[:, :, None], singular


def randomised_svd(
    matrices: np.ndarray, rank: int, test: np.ndarray, power_iterations: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rank-`rank` approximations from a random range (Halko, Martinsson, Tropp 2011, algorithms 4.4 and 5.1).

    Args:
        matrices: [b, K, C].
        rank: 1..min(K, C).
        test: the Gaussian test matrix [C, rank + oversampling], shared by the batch.
        power_iterations: passes of A A^T, orthonormalised in between.

    Returns:
        As `truncated_svd`.
    """
    work: np.ndarray = matrices.astype(working_dtype(*matrices.shape[1:]), copy=False)
    flipped = work.transpose(0, 2, 1)
    span = np.linalg.qr(work @ test.astype(work.dtype))[0]
    for _ in range(power_iterations):
        span = np.linalg.qr(flipped @ span)[0]
        span = np.linalg.qr(work @ span)[0]
    left, right, singular = truncated_svd(span.transpose(0, 2, 1) @ work, rank)
    return span @ left, right, singular


def leverage_scores(matrices: np.ndarray, energy: float) -> tuple[np.ndarray, np.ndarray]:
    """Row and column leverage scores [b, K], [b, C] of the leading singular subspace (Mahoney and Drineas 2009).

    The subspace is the smallest that holds the share `energy` of the squared norm, a property of the matrix and not of
    a budget. Scores sum to one; a matrix of zeros has equal ones.
    """
    side = min(matrices.shape[1:])
    wide = matrices.astype(np.float64, copy=False)
    left, right, singular = truncated_svd(wide, side)
    power = singular.astype(np.float64) ** 2
    before = np.cumsum(power, axis=1) - power
    kept = (before < energy * power.sum(1, keepdims=True)) & (singular > 1e-6 * singular[:, :1])
    weight = np.divide(1, singular, out=np.zeros_like(singular), where=kept & (singular > 0))
    rows = np.einsum("bkr,br->bk", left**2, weight)
    columns = np.einsum("brc,br->bc", right**2, weight)
    for scores in (rows, columns):
        total = scores.sum(1, keepdims=True)
        scores[:] = np.where(total > 0, scores / np.where(total > 0, total, 1), 1 / scores.shape[1])
    return rows, columns
