"""Moderated t and drift: against the formulas and by simulation of whole boards, false alarms first."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special
from scipy import stats as scipy_stats

from bench.stats.drift import drift, judge
from bench.stats.moderated import fit_prior, moderated_t, trigamma_inverse
from bench.stats.significance import holm

KINDS = ["equal", "lognormal", "two kinds", "few loud", "one loud"]
NOISES = ["normal", "laplace", "t3", "contaminated"]


def spreads(kind: str, boards: int, cells: int, rng: np.random.Generator) -> np.ndarray:
    """Standard deviations float64 [boards, cells, 1] of a replicate, as fractions."""
    sizes = np.full((boards, cells), 0.004)
    if kind == "lognormal":
        sizes *= np.exp(rng.normal(0, 0.5, sizes.shape))
    if kind == "two kinds":
        sizes = np.where(rng.random(sizes.shape) < 0.5, 0.002, 0.02)
    if kind == "few loud":
        sizes = np.where(rng.random(sizes.shape) < 0.1, 0.02, 0.002)
    if kind == "one loud":
        sizes[:, 0] *= 10
    return sizes[..., None]


def noise(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if kind == "laplace":
        return rng.laplace(size=shape) / 2**0.5
    if kind == "t3":
        return rng.standard_t(3, shape) / 3**0.5
    loud = np.where(rng.random(shape) < 0.05, 5, 1) if kind == "contaminated" else 1
    return rng.normal(size=shape) * loud


def boards(spread: str, kind: str, images: int, *, n: int = 3, cells: int = 40, count: int = 1000):
    """Two boards [count, cells, n] of the same truth, accuracies in steps of 1/images."""
    rng = np.random.default_rng([NOISES.index(kind), KINDS.index(spread), images, n])
    sizes = spreads(spread, count, cells, rng)
    means = rng.uniform(0.1, 0.9, (count, cells, 1))
    return [np.round((means + sizes * noise(kind, (count, cells, n), rng)) * images) / images for _ in range(2)], sizes


def alarms(baseline: np.ndarray, present: np.ndarray) -> np.ndarray:
    """bool [boards]: Holm's smallest adjusted p is at most 5 %."""
    return np.nanmin(judge(baseline, present)[1].p, axis=-1) * baseline.shape[-2] <= 0.05


@pytest.mark.parametrize("images", [500, 10_000])
@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("spread", KINDS)
def test_a_board_on_which_nothing_moved_gives_an_alarm_in_at_most_one_of_twenty(spread, kind, images) -> None:
    (baseline, present), _ = boards(spread, kind, images)
    assert alarms(baseline, present).mean() <= 0.05


@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize("spread", KINDS)
def test_more_replicates_give_no_more_false_alarms(spread, n) -> None:
    (baseline, present), _ = boards(spread, "normal", 500, n=n)
    assert alarms(baseline, present).mean() <= 0.05


@pytest.mark.parametrize("images", [500, 10_000])
def test_cells_that_came_out_the_same_to_the_bit_do_not_make_the_others_alarm(images) -> None:
    (baseline, present), _ = boards("lognormal", "normal", images)
    present[:, ::3] = baseline[:, ::3]
    baseline[:, 1::3, 0] = present[:, 1::3, 0]  # and some in which one replicate did
    assert alarms(baseline, present).mean() <= 0.05


def test_the_uncautious_estimate_would_alarm_too_often_where_one_cell_is_loud() -> None:
    """Why the prior is cautious."""
    (baseline, present), _ = boards("one loud", "normal", 10_000)
    differences = present - baseline
    found = moderated_t(differences.mean(-1), differences.var(-1, ddof=1), np.array(3))
    assert (found.p.min(-1) * 40 <= 0.05).mean() > 0.1


@pytest.mark.parametrize(("n", "shift"), [(3, 6.25), (5, 2.8), (10, 1.6)])
def test_a_moved_cell_is_found_four_times_in_five_from_the_stated_shift_on(n, shift) -> None:
    (baseline, present), sizes = boards("equal", "normal", 10_000, n=n, count=1500)
    present[:, 0] += shift * 2**0.5 * sizes[:, 0]
    p = judge(baseline, present)[1].p
    assert (p[:, 0] * 40 <= 0.05).mean() == pytest.approx(0.8, abs=0.05)
    differences = present - baseline
    plain = scipy_stats.ttest_1samp(differences[:, 0], 0, axis=-1).pvalue
    assert (p[:, 0] * 40 <= 0.05).mean() > (plain * 40 <= 0.05).mean()


def test_moments_find_the_prior_that_variances_were_drawn_from() -> None:
    rng = np.random.default_rng(0)
    true = 0.5 * 8 / rng.chisquare(8, 20_000)
    found = fit_prior(true * rng.chisquare(3, 20_000) / 3, np.array(3))
    assert found.freedom == pytest.approx(8, rel=0.1)
    assert found.variance == pytest.approx(0.5, rel=0.03)


def test_the_moderated_t_follows_smyths_formulas() -> None:
    rng = np.random.default_rng(1)
    n = np.array([3, 5, 3, 8, 2, 4])
    mean, variances = rng.normal(size=6), np.array([0.1, 9.0, 2.5, 0.3, 40.0, 1.0])
    found = moderated_t(mean, variances, n)
    d = n - 1
    e = [math.log(s) - special.digamma(k / 2) + math.log(k / 2) for s, k in zip(variances, d, strict=True)]
    excess = np.var(e, ddof=1) - np.mean([special.polygamma(1, k / 2) for k in d])
    assert excess > 0
    half = float(trigamma_inverse(np.array(excess)))
    d0, s0 = 2 * half, math.exp(np.mean(e) + special.digamma(half) - math.log(half))
    for i in range(6):
        posterior = (d0 * s0 + d[i] * variances[i]) / (d0 + d[i])
        t = mean[i] / math.sqrt(posterior / n[i])
        assert found.t[i] == pytest.approx(t)
        assert found.p[i] == pytest.approx(2 * scipy_stats.t.sf(abs(t), min(d0 + d[i], sum(d))))


def test_alike_variances_are_pooled_and_one_cell_is_a_plain_t() -> None:
    found = fit_prior(np.array([1.0, 1.1, 0.9, 1.0]), np.array([4, 4, 2, 2]))
    assert np.isinf(found.freedom)
    assert found.variance == pytest.approx((4 + 4.4 + 1.8 + 2) / 12)
    values = np.array([0.3, 0.5, 0.1, 0.45])
    alone = moderated_t(values.mean(keepdims=True), values.var(ddof=1, keepdims=True), np.array([4]))
    assert alone.p[0] == pytest.approx(scipy_stats.ttest_1samp(values, 0).pvalue)


@pytest.mark.parametrize("value", [1e-9, 1e-3, 0.1, 1.0, 5.0, 1e3, 1e9])
def test_the_inverse_of_trigamma_is_one(value) -> None:
    y = trigamma_inverse(np.array([value]))
    assert special.polygamma(1, y) == pytest.approx(value, rel=1e-6)


def test_each_cell_is_told_what_happened_to_it() -> None:
    rng = np.random.default_rng(3)
    baseline = {f"cell {i}": dict(enumerate(rng.normal(0.5, 0.004, 5).round(4))) for i in range(8)}
    present = {cell: {r: v + rng.normal(0, 0.003) for r, v in values.items()} for cell, values in baseline.items()}
    present["cell 0"] = dict(baseline["cell 0"])
    present["cell 1"] = {r: v - 0.05 for r, v in present["cell 1"].items()}
    present["cell 2"] = {7: 0.5}
    del present["cell 3"]
    present["new"] = {0: 0.5}
    found = {each.cell: each for each in drift(baseline, present)}
    assert list(found) == [*baseline, "new"]
    same, moved, apart = found["cell 0"], found["cell 1"], found["cell 2"]
    assert (same.verdict, same.p, same.difference, same.low, same.high, same.direction) == ("not moved", 1, 0, 0, 0, "")
    assert (moved.verdict, moved.direction, moved.n) == ("moved", "down", 5)
    assert moved.low < moved.difference < moved.high < 0
    assert (apart.verdict, apart.n) == ("unknown", 0)
    assert math.isnan(apart.difference)
    assert found["cell 3"].verdict == found["new"].verdict == "unknown"
    quiet = [each for cell, each in found.items() if cell in ("cell 4", "cell 5", "cell 6", "cell 7")]
    assert {each.verdict for each in quiet} == {"not moved"}
    results = list(found.values())
    assert [each.p_holm for each in results] == pytest.approx(list(holm([each.p for each in results])), nan_ok=True)


def test_the_pairs_count_and_not_their_order() -> None:
    rng = np.random.default_rng(4)
    baseline = {i: dict(enumerate(rng.normal(0.5, 0.01, 3))) for i in range(6)}
    present = {i: dict(enumerate(rng.normal(0.5, 0.01, 3))) for i in range(6)}
    turned = {i: dict(reversed(values.items())) for i, values in reversed(present.items())}
    assert drift(baseline, turned) == drift(baseline, present)
    back = drift(present, baseline)
    assert [each.difference for each in back] == pytest.approx([-each.difference for each in drift(baseline, present)])
    assert [each.p for each in back] == pytest.approx([each.p for each in drift(baseline, present)])


def test_coarse_accuracies_that_all_move_by_one_image_are_no_proof() -> None:
    """Differences of +1 image in all three replicates have no variance of their own; rounding alone gives them one."""
    baseline = {"coarse": {0: 0.50, 1: 0.51, 2: 0.53}}
    present = {"coarse": {0: 0.51, 1: 0.52, 2: 0.54}}
    (found,) = drift(baseline, present)
    assert found.p == pytest.approx(2 * scipy_stats.t.sf(math.sqrt(18), 2))
    assert found.direction == "up"


def test_empty_boards_have_no_cells() -> None:
    assert drift({}, {}) == []
