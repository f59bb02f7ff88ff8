"""Spectra of second moments: the cut of a basis, and axes for rows that it was not fitted on."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from methods._codec.klt.spectrum import Moment, best_axes, lost_beyond, lost_unseen, water_level

D, BITS = 40, 60.0


def test_what_unseen_images_lose_is_what_components_of_the_others_leave_of_them():
    """Beside a loop over rows; what is fitted on itself loses less."""
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((12, 7)) * np.arange(7, 0, -1)
    parts = np.stack([rows[at::3].T @ rows[at::3] for at in range(3)])
    expected = np.zeros(8)
    for at in range(3):
        others = np.concatenate([rows[other::3] for other in range(3) if other != at])
        axes = np.linalg.svd(others, full_matrices=True)[2]
        for size, row in itertools.product(range(8), rows[at::3]):
            expected[size] += np.square(row - axes[:size].T @ (axes[:size] @ row)).sum()
    lost = lost_unseen(parts)
    np.testing.assert_allclose(lost, expected, atol=1e-9)
    itself = lost_beyond(np.linalg.eigvalsh(parts.sum(0))[::-1])
    assert itself[0] == pytest.approx(lost[0])
    assert (itself <= lost + 1e-9).all()


def moment(rows: np.ndarray) -> Moment:
    return Moment(rows.T @ rows, len(rows))


def correlated(seed: int) -> np.ndarray:
    """float64 [D, D]: rows of normal numbers times this vary much in few directions."""
    directions = np.linalg.qr(np.random.default_rng(seed).standard_normal((D, D)))[0]
    return (1 / np.arange(1, D + 1))[:, None] * directions


def error(axes: np.ndarray, mixing: np.ndarray) -> float:
    """Of endlessly many rows with this mixing, at `BITS` bits each."""
    return water_level(np.square(mixing @ axes).sum(0), BITS)[1]


@pytest.fixture
def sample() -> list[Moment]:
    """Parts of a sample of few rows."""
    rng = np.random.default_rng(3)
    return [moment(rng.standard_normal((20, D)) @ correlated(0)) for _ in range(3)]


def test_means_that_vary_as_rows_do_help_to_find_axes_and_others_are_not_let_in(sample):
    like, unlike = (Moment(7 * correlated(seed).T @ correlated(seed), 200) for seed in (0, 1))
    nothing = Moment(np.zeros((D, D)), 0)
    alone, helped, misled = (
        error(best_axes(sample, [], means, BITS)[1], correlated(0)) for means in (nothing, like, unlike)
    )
    assert helped < 0.97 * alone
    assert misled == alone


def test_other_rows_help_to_find_axes_however_loud_they_are(sample):
    others = moment(np.random.default_rng(4).standard_normal((600, D)) @ correlated(0))
    nothing = Moment(np.zeros((D, D)), 0)
    alone = error(best_axes(sample, [], nothing, BITS)[1], correlated(0))
    errors = [
        error(best_axes(sample, [Moment(loud * others.total, others.rows)], nothing, BITS)[1], correlated(0))
        for loud in (1e-6, 1.0, 1e6)
    ]
    assert max(errors) < 0.9 * alone
    assert max(errors) == pytest.approx(min(errors))


def test_variances_are_as_loud_as_the_sample(sample):
    loud = Moment(1e6 * moment(np.random.default_rng(4).standard_normal((600, D))).total, 600)
    variance, axes = best_axes(sample, [loud], loud, BITS)
    rows = sum(part.rows for part in sample)
    assert variance.sum() == pytest.approx(sum(np.trace(part.total) for part in sample) / rows)
    assert (np.diff(variance) <= 1e-12).all()
    np.testing.assert_allclose(axes.T @ axes, np.eye(D), atol=1e-9)


def test_nothing_but_zeros_has_axes_too():
    zeros = [Moment(np.zeros((D, D)), 5)] * 2
    variance, axes = best_axes(zeros, [Moment(np.zeros((D, D)), 0)], zeros[0], BITS)
    assert not variance.any()
    np.testing.assert_allclose(axes.T @ axes, np.eye(D), atol=1e-9)
