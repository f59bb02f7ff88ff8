"""Batches of matrices on a torch device: how they get there, how many at once, and the truncated SVD of all, exact or
from a random range.

Nothing here asks for a GPU; every tensor stands where `moved` has put the matrices.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from methods._codec.lowrank import working_dtype

WORKING_BYTES = 1 << 30  # of the device's memory that working arrays may take: 1 GiB
_VALUE_BYTES = 8  # counted as float64, whatever an array is of


def moved(matrices: np.ndarray, device: torch.device) -> torch.Tensor:
    """The matrices on the device, same shape and dtype. On the CPU it may share their memory: not to be written to."""
    return torch.from_numpy(np.ascontiguousarray(matrices)).to(device)


def parts(shape: tuple[int, ...], wide: int, square: int, working_bytes: int) -> Iterator[slice]:
    """Slices of a batch that are worked on at once.

    Args:
        shape: (b, K, C) with K <= C.
        wide: arrays of K x C that the work holds for each matrix at its peak.
        square: arrays of K x K, likewise.
        working_bytes: what all of them may take; a single matrix is worked on even where it takes more.
    """
    b, k, c = shape
    step = max(1, working_bytes // (_VALUE_BYTES * max(1, wide * k * c + square * k * k)))
    for start in range(0, b, step):
        yield slice(start, start + step)


def truncated_svd(
    matrices: np.ndarray, rank: int, device: torch.device, working_bytes: int = WORKING_BYTES
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `lowrank.truncated_svd` gives, up to the signs of components and rotations among equal singular values.

    Args:
        matrices: [b, K, C], finite, Frobenius norm of about 1 (or 0).
        rank: 1..min(K, C).
        device: where to compute.
        working_bytes: memory of the working arrays on the device.

    Returns:
        left [b, K, rank], right [b, rank, C] (balanced), singular values [b, rank], falling, in `working_dtype`. A
        matrix of lower rank has zeros in the columns and rows to spare.

    Raises:
        torch.linalg.LinAlgError: the eigenvalues of a Gram matrix did not converge.
    """
    b, k, c = matrices.shape
    if k > c:
        right, left, lengths = truncated_svd(matrices.transpose(0, 2, 1), rank, device, working_bytes)
        return left.transpose(0, 2, 1), right.transpose(0, 2, 1), lengths
    dtype = working_dtype(k, c)
    left, right, lengths = (np.empty(shape, dtype) for shape in ((b, k, rank), (b, rank, c), (b, rank)))
    # The matrices, V^T twice; the Gram matrix, its vectors, the solver's own, U.
    for part in parts(matrices.shape, 3, 6, working_bytes):
        work = moved(matrices[part].astype(dtype, copy=False), device)
        basis = leading(work, rank)
        projected = basis.mT @ work
        singular = torch.linalg.vector_norm(projected, dim=2)
        root = singular.sqrt()
        inverse = torch.where(root > 0, 1 / root, 0)
        left[part] = (basis * root[:, None, :]).cpu().numpy()
        right[part] = (projected * inverse[:, :, None]).cpu().numpy()
        lengths[part] = singular.cpu().numpy()
    return left, right, lengths


def leading(matrices: torch.Tensor, rank: int) -> torch.Tensor:
    """[b, K, rank]: orthonormal bases of the leading left singular subspaces of matrices [b, K, C], the largest
    singular value first.

    Raises:
        torch.linalg.LinAlgError: the eigenvalues of a Gram matrix did not converge.
    """
    return torch.linalg.eigh(matrices @ matrices.mT)[1].flip(2)[:, :, :rank]


def randomised_svd(
    matrices: np.ndarray,
    rank: int,
    test: np.ndarray,
    power_iterations: int,
    device: torch.device,
    working_bytes: int = WORKING_BYTES,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `lowrank.randomised_svd` gives, up to the signs of components and rotations among equal singular values.

    Args:
        matrices: [b, K, C].
        rank: 1..min(K, C).
        test: the Gaussian test matrix [C, rank + oversampling], shared by the batch.
        power_iterations: passes of A A^T, orthonormalised in between.
        device: where to compute.
        working_bytes: memory of the working arrays on the device.

    Returns:
        As `truncated_svd`.
    """
    b, k, c = matrices.shape
    dtype = working_dtype(k, c)
    columns = min(test.shape[1], k)
    spans, rests = np.empty((b, k, columns), dtype), np.empty((b, columns, c), dtype)
    shape = (b, min(k, c), max(k, c))
    for part in parts(shape, 5, 2, working_bytes):
        work = moved(matrices[part].astype(dtype, copy=False), device)
        span = torch.linalg.qr(work @ moved(test.astype(dtype), device))[0]
        for _ in range(power_iterations):
            span = torch.linalg.qr(work.mT @ span)[0]
            span = torch.linalg.qr(work @ span)[0]
        spans[part] = span.cpu().numpy()
        rests[part] = (span.mT @ work).cpu().numpy()
    left, right, singular = truncated_svd(rests, rank, device, working_bytes)
    return spans @ left, right, singular
