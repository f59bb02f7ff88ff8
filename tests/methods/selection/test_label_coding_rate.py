"""R_C, the coding rate of an image's soft labels, equals the log-determinant that defines it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods._coding_rate import label_coding_rate, labels_rate


def by_definition(soft: np.ndarray, eps: float) -> np.ndarray:
    """1/2 logdet of the C x C matrix, in float64."""
    soft = soft.astype(np.float64)
    _, k, c = soft.shape
    return np.array([0.5 * np.linalg.slogdet(np.eye(c) + c / (k * eps**2) * y.T @ y)[1] for y in soft])


def by_singular_values(labels: np.ndarray, eps: float) -> float:
    """The same through the singular values of Y [K, C]: sum of 1/2 log(1 + C / (K eps^2) s^2). No matrix is squared."""
    k, c = labels.shape
    return 0.5 * float(np.log1p(c / (k * eps**2) * np.linalg.svd(labels, compute_uv=False) ** 2).sum())


def rounding_of_the_definition(labels: np.ndarray, eps: float) -> float:
    """How far rounding alone may move slogdet of the C x C matrix A: factoring it is exact for some A + E with |E| at
    most n u |A|, and E moves log det A by trace(A^-1 E)."""
    k, c = labels.shape
    return rounding(np.concatenate([np.linalg.svd(labels, compute_uv=False) ** 2, np.zeros(max(0, c - k))]), k, c, eps)


def rounding_of_the_gram_matrix(labels: np.ndarray, eps: float) -> float:
    """The same for the smaller of the two Gram matrices, min(K, C) wide, which has far better condition where K < C."""
    k, c = labels.shape
    return rounding(np.linalg.svd(labels, compute_uv=False) ** 2, k, c, eps)


def rounding(squares: np.ndarray, k: int, c: int, eps: float) -> float:
    """n u |A| trace(A^-1) for A of n eigenvalues 1 + C / (K eps^2) squares, and the rounding of the sum of logs; n is
    at least 8, for the operations that do not grow with it."""
    eigenvalues = 1 + c / (k * eps**2) * squares
    n, unit = max(8, len(squares)), np.finfo(float).eps
    return n * unit * (eigenvalues.max() * (1 / eigenvalues).sum() + np.abs(np.log(eigenvalues)).max())


def probabilities(seed: int, n: int, k: int, c: int, sharpness: float = 2.0) -> np.ndarray:
    logits = sharpness * np.random.default_rng(seed).normal(size=(n, k, c))
    p = np.exp(logits)
    return p / p.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize(("k", "c"), [(1, 1), (1, 10), (4, 6), (6, 4), (30, 10), (5, 200), (40, 40)])
@pytest.mark.parametrize("eps", [0.5**0.5, 1e-2, 1e-4, 3.0])
def test_it_is_the_log_determinant(k, c, eps):
    soft = probabilities(0, 7, k, c)
    for rate, labels, reference in zip(label_coding_rate(soft, eps), soft, by_definition(soft, eps), strict=True):
        assert abs(rate - reference) <= rounding_of_the_definition(labels, eps)
        assert abs(rate - by_singular_values(labels, eps)) <= rounding_of_the_gram_matrix(labels, eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("k", "c"), [(300, 100), (60, 100), (5, 100)])
@pytest.mark.parametrize("sharpness", [0.0, 2.0, 30.0])
def test_single_and_half_precision_stay_close(dtype, k, c, sharpness):
    soft = probabilities(1, 4, k, c, sharpness).astype(dtype)
    np.testing.assert_allclose(label_coding_rate(soft, 0.5**0.5), by_definition(soft, 0.5**0.5), atol=1e-5)


def test_known_values():
    """K = 4 labels of C = 6 classes at eps^2 = 1/2: all uniform, all the same one-hot, four different one-hots."""
    uniform, same, distinct = np.full((4, 6), 1 / 6), np.tile(np.eye(6)[2], (4, 1)), np.eye(6)[:4]
    rates = label_coding_rate(np.stack([uniform, same, distinct]), 0.5**0.5)
    np.testing.assert_allclose(rates, [0.5 * np.log(3), 0.5 * np.log(13), 2 * np.log(4)], rtol=1e-12)


def test_batches_change_nothing(monkeypatch):
    soft = probabilities(2, 11, 5, 8).astype(np.float32)
    whole = label_coding_rate(soft, 0.7)
    monkeypatch.setattr(labels_rate, "_BATCH_BYTES", 3 * 5 * 8 * 4)
    np.testing.assert_array_equal(label_coding_rate(soft, 0.7), whole)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), k=st.integers(1, 8), c=st.integers(1, 8))
def test_the_order_of_views_and_of_classes_does_not_matter(seed, k, c):
    soft = probabilities(seed, 3, k, c)
    rng = np.random.default_rng(seed)
    shuffled = soft[:, rng.permutation(k)][:, :, rng.permutation(c)]
    np.testing.assert_allclose(label_coding_rate(shuffled, 0.7), label_coding_rate(soft, 0.7), atol=1e-12)


def test_no_images_give_no_rates():
    assert label_coding_rate(np.zeros((0, 3, 4)), 1.0).shape == (0,)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_that_is_not_finite_is_named(value):
    soft = probabilities(3, 9, 3, 4)
    soft[6, 1, 2] = value
    with pytest.raises(ValueError, match="row 6"):
        label_coding_rate(soft, 1.0)


@pytest.mark.parametrize(
    ("soft", "eps", "message"),
    [(np.zeros((3, 4)), 1.0, "soft"), (np.zeros((3, 0, 4)), 1.0, "soft"), (np.ones((1, 1, 2)), 0.0, "eps")],
)
def test_an_argument_out_of_range_is_named(soft, eps, message):
    with pytest.raises(ValueError, match=message):
        label_coding_rate(soft, eps)
