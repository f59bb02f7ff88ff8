"""One low-rank factorisation of all n K rows of a shard, with a shared C x r basis."""

from __future__ import annotations

import numpy as np
import torch

from methods._codec import factors, labels
from methods._codec.container import Container, pack, packed_size
from methods._codec.lowrank import balanced, leading_eigenvectors


def encode(codec: str, values: np.ndarray, budget_bytes: int, factor: str) -> bytes:
    """A blob with the largest rank that fits `budget_bytes`, over the matrix [n K, C] of `values` [n, K, C].

    The C x C Gram matrix and the projection run in chunks, so memory stays that of the factors.

    Raises:
        ValueError: an unknown factor.
        InfeasibleError: rank 1 is above the budget.
    """
    if factor not in factors.FACTORS:
        raise ValueError(f"factor: {factor!r} is not one of {', '.join(factors.FACTORS)}")
    n, k, c = values.shape
    shape = (n, k, c)
    each = labels.norm_exponents(values)
    # The norm of the whole is at most sqrt(n) times the largest.
    exponent = np.array([int(each.max()) + ((n - 1).bit_length() + 1) // 2])
    coded = labels.encode_exponents(exponent)

    def size(rank: int) -> int:
        flag = {"set": ("u1", 0), "e": ("u1", coded.size)}
        return packed_size(codec, shape, flag | factors.specs(1, rank, 0, n * k, c, factor))

    what = "rank 1 of all rows together"
    rank = labels.largest_feasible(size, 1, min(n * k, c), budget_bytes, what)
    gram = np.zeros((c, c))
    for _, chunk in labels.chunks(values):
        rows = _rows(chunk, exponent)
        gram += rows.T @ rows
    basis = leading_eigenvectors(gram[None], rank)[0]
    scores = np.concatenate([_rows(chunk, exponent) @ basis for _, chunk in labels.chunks(values)])
    right, left, _ = balanced(basis[None], scores.T[None])
    stored = factors.quantise(left.transpose(0, 2, 1), right.transpose(0, 2, 1), factor)
    parts = factors.sections(stored, np.array([rank]))
    return pack(codec, shape, {"set": np.zeros(0, np.uint8), "e": coded} | parts)


def is_one(container: Container) -> bool:
    """Whether a blob was made here (its marker is an empty section)."""
    return "set" in container.sections


def decode(container: Container, rows: np.ndarray) -> torch.Tensor:
    """float32 [n, len(rows), C] from a blob of `encode`."""
    n, k, c = container.shape
    flat = (np.arange(n)[:, None] * k + rows).reshape(-1)
    exact = factors.product(container.sections, 1, n * k, c, flat)
    exponent = labels.decode_exponents(container.sections["e"], 1)
    return factors.restored(exact, exponent).reshape(n, len(rows), c)


def _rows(chunk: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    return labels.scaled(chunk, np.repeat(-exponent, len(chunk))).reshape(-1, chunk.shape[2])
