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


NOTHING = Moment(np.zeros((D, D)), 0)


def of(seed: int, rows: int = 600) -> Moment:
    """Of other rows, with the mixing of this seed."""
    return moment(np.random.default_rng(4).standard_normal((rows, D)) @ correlated(seed))


def left(parts: list[Moment], mixes: list[list[Moment]], bits: float = BITS) -> float:
    """The error, in the axes that are chosen, of rows like those of the sample."""
    return error(best_axes(parts, mixes, bits)[1], correlated(0))


def test_what_varies_as_rows_do_is_let_in_and_nothing_else(sample):
    alone = left(sample, [[]])
    helped = left(sample, [[of(0)]])
    assert helped < 0.9 * alone
    assert left(sample, [[], [of(0)]]) == left(sample, [[of(0)], []]) == helped
    assert left(sample, [[], [of(1)]]) == alone
    assert left(sample, [[], [of(0)], [of(0), of(1, 10**5)]]) == helped


def test_a_mix_is_chosen_by_all_parts(sample):
    """The first and the last have rows of another kind, but few of them count in the sum."""
    few = [Moment(1e-3 * of(1, 20).total, 20), *sample, Moment(1e-3 * of(1, 20).total, 20)]
    assert left(few, [[of(0)], [of(1)]]) == left(few, [[of(0)]])
    assert left(few[:1] + few[-1:], [[of(0)], [of(1)]]) == left(few[:1] + few[-1:], [[of(1)]])


def test_a_mix_is_chosen_for_the_bits_that_a_row_has():
    """One mix knows the loudest direction alone, the other all but that."""
    energy = np.array([1000.0, *np.geomspace(8, 1, D - 1)])
    turned = np.eye(D)
    turned[1:, 1:] = np.linalg.qr(np.random.default_rng(5).standard_normal((D - 1, D - 1)))[0]
    swapped = np.eye(D)
    swapped[:2, :2] = [[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]
    parts = [Moment(np.diag(energy), 1)] * 2
    loudest, others = (Moment(axes @ np.diag(energy) @ axes.T, 10**6) for axes in (turned, swapped))
    chosen = [
        np.argmin(
            [
                np.abs(best_axes(parts, [[loudest], [others]], bits)[1] - best_axes(parts, [mix], bits)[1]).max()
                for mix in ([loudest], [others])
            ]
        )
        for bits in (2.0, 400.0)
    ]
    assert chosen == [0, 1]


def test_other_rows_help_however_loud_they_are(sample):
    errors = [left(sample, [[Moment(loud * of(0).total, 600)]]) for loud in (1e-6, 1.0, 1e6)]
    assert max(errors) == pytest.approx(min(errors))


def test_variances_are_as_loud_as_the_sample(sample):
    loud = Moment(1e6 * moment(np.random.default_rng(4).standard_normal((600, D))).total, 600)
    variance, axes = best_axes(sample, [[loud, loud]], BITS)
    rows = sum(part.rows for part in sample)
    assert variance.sum() == pytest.approx(sum(np.trace(part.total) for part in sample) / rows)
    assert (np.diff(variance) <= 1e-12).all()
    np.testing.assert_allclose(axes.T @ axes, np.eye(D), atol=1e-9)


def test_nothing_but_zeros_has_axes_too():
    zeros = [Moment(np.zeros((D, D)), 5)] * 2
    variance, axes = best_axes(zeros, [[], [NOTHING], [zeros[0]]], BITS)
    assert not variance.any()
    np.testing.assert_allclose(axes.T @ axes, np.eye(D), atol=1e-9)
