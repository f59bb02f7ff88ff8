"""Gradients of the last layer in factored form: never a row of C (d + 1) numbers for an image.

For softmax regression on features h, the gradient of the cross-entropy by weights and bias is the outer product of the
residual r = p - y [C] and the feature (h, 1) [d + 1]. So <g_i, g_j> = <r_i, r_j> (<h_i, h_j> + 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from methods._order import finite_rows

# The difference of two sums of products is known to about this share of the sums.
_ROUNDING = 1e-13


def residuals(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """softmax(logits) - one-hot(labels), float64 [n, C]; rows sum to 0.

    The entry of the label is minus the sum of the others, so it does not drown in 1 - p when p is nearly 1.
    """
    out = softmax(np.asarray(logits, dtype=np.float64), axis=1)
    rows = np.arange(len(out))
    out[rows, labels] = 0.0
    out[rows, labels] = -out.sum(axis=1)
    return out


@dataclass(frozen=True)
class Gradients:
    """n gradients: `residual` float64 [n, C] (x) `feature` float64 [n, k]; `square` [n] their squared lengths."""

    residual: np.ndarray
    feature: np.ndarray
    square: np.ndarray

    @classmethod
    def of(cls, residual: np.ndarray, feature: np.ndarray, *, bias: bool = True) -> Gradients:
        """From residuals and features [n, d]; with `bias`, a 1 is appended to every feature."""
        if bias:
            feature = np.concatenate([feature, np.ones((len(feature), 1))], axis=1)
        square = np.einsum("nc,nc->n", residual, residual) * np.einsum("nd,nd->n", feature, feature)
        return cls(residual, feature, square)

    def __len__(self) -> int:
        return len(self.residual)

    def dots(self, rows: np.ndarray | slice) -> np.ndarray:
        """float64 [n, b]: inner products of all gradients with those of `rows`."""
        return (self.residual @ self.residual[rows].T) * (self.feature @ self.feature[rows].T)

    def distances(self, rows: np.ndarray | slice) -> np.ndarray:
        """float64 [n, b]: squared Euclidean distances to those of `rows`; equal gradients are at exactly 0."""
        both = self.square[:, None] + self.square[rows]
        out = both - 2.0 * self.dots(rows)
        out[out <= _ROUNDING * both] = 0.0
        return out

    def total(self) -> np.ndarray:
        """float64 [C, k]: the sum of all gradients, as a matrix."""
        return self.residual.T @ self.feature

    def along(self, direction: np.ndarray) -> np.ndarray:
        """float64 [n]: inner products with one matrix [C, k]."""
        return np.einsum("nk,nk->n", self.residual @ direction, self.feature)


def of_class(features: np.ndarray, logits: np.ndarray, own: np.ndarray, labels: np.ndarray) -> Gradients:
    """Gradients, bias included, of the images `own` (int64 [n]) under `labels` (int64 [n]).

    Raises:
        ValueError: a feature or a logit is not finite; the message names the image.
    """
    rows = finite_rows(features[own], own, "the feature")
    return Gradients.of(residuals(finite_rows(logits[own], own, "a logit"), labels), rows)
