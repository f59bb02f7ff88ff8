"""Coding rate of one image's soft labels (SCORE, eq. 7), through the smaller of the two Gram matrices."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

_FLOAT32_SCALE = 32.0  # rounding of float32 products, times this, is still nothing beside the identity
_BATCH_BYTES = 16 << 20  # of labels handled at once: bounds the temporaries


def label_coding_rate(soft: ArrayLike, eps: float) -> np.ndarray:
    """R_C of every image: 1/2 logdet(I + C / (K eps^2) Y Y^T), Y [K, C] being K soft labels of dimension C.

    Eq. 7 is garbled in print; this is the coding rate of its definition. I + Y Y^T and I + Y^T Y have the same
    determinant, so the smaller one (min(K, C)) is factored.

    Args:
        soft: [n, K, C] float16, float32 or float64, finite; K views of an image. Computed in float64, except for the
            products of float32 probabilities where C / (K eps^2) <= 32: their error stays below 1e-5.
        eps: coding precision, > 0.

    Returns:
        float64 [n], nats, >= 0 up to rounding.

    Raises:
        ValueError: a shape or value is out of range; a row that is not finite is named.
    """
    labels = np.asarray(soft)
    if labels.ndim != 3 or 0 in labels.shape[1:]:
        raise ValueError(f"soft must be [n, K, C] with K >= 1 and C >= 1; got shape {labels.shape}")
    if not np.isfinite(eps) or eps <= 0:
        raise ValueError(f"eps must be finite and > 0; got {eps}")
    if labels.dtype not in (np.float32, np.float64):
        labels = labels.astype(np.float32)
    n, k, c = labels.shape
    rates = np.empty(n)
    batch = max(1, _BATCH_BYTES // (k * c * labels.itemsize))
    scale = c / (k * float(eps) ** 2)
    diagonal = np.arange(min(k, c))
    with threadpool_limits(limits=1, user_api="blas"):
        for start in range(0, n, batch):
            y = labels[start : start + batch]
            if scale > _FLOAT32_SCALE or not np.abs(y).max() <= 1.0:
                y = y.astype(np.float64, copy=False)
            y = y if k <= c else y.transpose(0, 2, 1)
            gram = np.matmul(y, y.transpose(0, 2, 1)).astype(np.float64) * scale
            if not np.isfinite(gram).all():
                row = start + int(np.argmin(np.isfinite(gram).all(axis=(1, 2))))
                raise ValueError(f"soft must be finite and of moderate size; row {row} is not")
            gram[:, diagonal, diagonal] += 1.0
            factors = np.linalg.cholesky(gram)
            rates[start : start + batch] = np.log(factors[:, diagonal, diagonal]).sum(axis=1)
    return rates
