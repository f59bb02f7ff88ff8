"""Principal component pursuit against a plain loop, against what was planted, and on degenerate input."""

from __future__ import annotations

import numpy as np
import pytest

from methods._codec.pcp import pcp


def plain_ialm(data: np.ndarray, weight: float, tol: float = 1e-7) -> tuple[np.ndarray, np.ndarray, int]:
    """Inexact ALM as in Lin, Chen and Ma 2010, with a full SVD per iteration."""
    spectral = np.linalg.norm(data, 2)
    mu = 1.25 / spectral
    ceiling = mu * 1e7
    dual = data / max(spectral, np.abs(data).max() / weight)
    sparse = np.zeros_like(data)
    iteration = 0
    while True:
        iteration += 1
        u, s, vt = np.linalg.svd(data - sparse + dual / mu, full_matrices=False)
        low = (u * np.maximum(s - 1 / mu, 0)) @ vt
        rest = data - low + dual / mu
        sparse = np.sign(rest) * np.maximum(np.abs(rest) - weight / mu, 0)
        residual = data - low - sparse
        dual = dual + mu * residual
        mu = min(1.5 * mu, ceiling)
        if np.linalg.norm(residual) <= tol * np.linalg.norm(data):
            return low, sparse, iteration


def planted(shape: tuple[int, int], rank: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    low = rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
    sparse = np.where(rng.random(shape) < share, rng.choice([-8.0, 8.0], shape), 0)
    return low, sparse


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (20, 20), (1, 9), (9, 2)])
def test_agrees_with_the_plain_loop(shape):
    data = np.random.default_rng(0).standard_normal((3, *shape))
    low, sparse, iterations = pcp(data)
    for i in range(3):
        expected = plain_ialm(data[i], max(shape) ** -0.5)
        np.testing.assert_allclose(low[i], expected[0], atol=1e-6)
        np.testing.assert_allclose(sparse[i], expected[1], atol=1e-6)
        assert iterations[i] == expected[2]


@pytest.mark.parametrize("precision", ["float64", "mixed"])
def test_recovers_what_was_planted(precision):
    low, sparse = planted((80, 120), 4, 0.05, 1)
    found_low, found_sparse, _ = pcp((low + sparse)[None], precision=precision)
    assert np.linalg.norm(found_low[0] - low) < 1e-5 * np.linalg.norm(low)
    assert np.linalg.norm(found_sparse[0] - sparse) < 1e-5 * np.linalg.norm(sparse)
    assert ((np.abs(found_sparse[0]) > 1e-3) == (sparse != 0)).all()


def test_mixed_precision_ends_at_the_same_split_of_labels_that_have_none():
    """Smoothly falling singular values and a heavy tail, as labels have: float32 alone fills L and S with noise."""
    rng = np.random.default_rng(8)
    smooth = (rng.standard_normal((60, 60)) / (1 + np.arange(60)) ** 0.6) @ rng.standard_normal((60, 120))
    data = (smooth + 0.3 * rng.standard_t(3, (60, 120)))[None]
    norm = np.linalg.norm(data)
    low, sparse, _ = pcp(data)
    found_low, found_sparse, _ = pcp(data, precision="mixed")
    assert np.linalg.norm(data - found_low - found_sparse) <= 1.1e-7 * norm
    assert np.linalg.norm(found_low - low) <= 1e-3 * norm
    assert abs(np.mean(found_sparse != 0) - np.mean(sparse != 0)) < 0.02
    assert np.linalg.matrix_rank(found_low[0], tol=1e-5 * norm) == np.linalg.matrix_rank(low[0], tol=1e-5 * norm)


def test_some_of_a_batch_stop_before_the_others():
    """What has stopped stays as it was, in both precisions and all stages."""
    rng = np.random.default_rng(9)
    low, sparse = planted((20, 30), 2, 0.05, 9)
    batch = np.stack(
        [rng.standard_normal((20, 30)), low + sparse, 3 * rng.standard_normal((20, 30)), np.ones((20, 30))]
    )
    for precision, atol in (("float64", 1e-12), ("mixed", 1e-3)):
        together = pcp(batch, precision=precision)
        assert len(set(together[2])) > 1
        for i in range(4):
            alone = pcp(batch[i : i + 1], precision=precision)
            np.testing.assert_allclose(together[0][i], alone[0][0], atol=atol)
            np.testing.assert_allclose(together[0][i] + together[1][i], batch[i], atol=1e-5)


def test_is_optimal_where_nothing_was_planted():
    """A dual certificate: some Y with ||Y||_2 <= 1, |Y| <= lambda meets both norms, so no other split costs less."""
    data = np.random.default_rng(2).standard_normal((25, 40))
    weight = 40**-0.5
    low, sparse, _ = (part[0] for part in pcp(data[None], tol=1e-9))
    cost = np.linalg.norm(low, "nuc") + weight * np.abs(sparse).sum()
    rng = np.random.default_rng(3)
    for _ in range(20):
        step = rng.standard_normal(data.shape) * 1e-2
        other = np.linalg.norm(low + step, "nuc") + weight * np.abs(sparse - step).sum()
        assert other >= cost - 1e-6
    assert cost <= min(np.linalg.norm(data, "nuc"), weight * np.abs(data).sum())


def test_a_batch_gives_what_its_members_give_alone():
    low, sparse = planted((10, 15), 2, 0.1, 4)
    batch = np.stack([low + sparse, np.random.default_rng(5).standard_normal((10, 15)), low])
    together = pcp(batch)
    for i in range(3):
        alone = pcp(batch[i : i + 1])
        np.testing.assert_allclose(together[0][i], alone[0][0], atol=1e-12)
        assert together[2][i] == alone[2][0]


def test_zeros_take_no_iterations_beside_others():
    data = np.stack([np.zeros((6, 8)), np.ones((6, 8))])
    low, sparse, iterations = pcp(data)
    assert iterations[0] == 0
    assert not low[0].any()
    assert not sparse[0].any()
    np.testing.assert_allclose(low[1] + sparse[1], 1, atol=1e-6)


def test_a_constant_matrix_is_rank_one():
    low, sparse, _ = pcp(np.full((1, 20, 30), 3.0))
    assert np.linalg.matrix_rank(low[0], tol=1e-4) == 1
    np.testing.assert_allclose(low[0], 3, atol=1e-4)
    np.testing.assert_allclose(sparse[0], 0, atol=1e-4)


def test_extreme_weights_put_all_into_one_part():
    data = np.random.default_rng(7).standard_normal((2, 10, 14))
    low, sparse, _ = pcp(data, lambda_=1e-6)
    assert not low.any()
    np.testing.assert_allclose(sparse, data)
    low, sparse, _ = pcp(data, lambda_=1e4)
    assert not sparse.any()
    np.testing.assert_allclose(low, data, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_scales_with_its_input(scale):
    data = np.random.default_rng(6).standard_normal((1, 8, 12))
    low, _, iterations = pcp(data)
    scaled, _, scaled_iterations = pcp(data * scale)
    np.testing.assert_allclose(scaled / scale, low, atol=1e-9)
    assert (iterations == scaled_iterations).all()


@pytest.mark.parametrize("bad", [{"lambda_": 0.0}, {"lambda_": -1.0}, {"tol": 0.0}, {"precision": "float16"}])
def test_arguments_out_of_range_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        pcp(np.ones((1, 2, 2)), **bad)
