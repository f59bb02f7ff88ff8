"""SCORE's selection takes, at every pick, what a greedy that evaluates every log-determinant would take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.datasets import load_digits

from methods._coding_rate import Selection, greedy
from methods._coding_rate import global_order as global_module
from methods._coding_rate import round_robin as round_robin_module
from methods.selection import score
from tests.worlds.naive_greedy import candidate_values, objective

ORDERS = ("round_robin", "sequential", "global")
VARIANTS = [(normaliser, order) for normaliser in ("budget", "running") for order in ORDERS]
EPS = 0.5**0.5

every_variant = pytest.mark.parametrize(("normaliser", "order"), VARIANTS)


def quotas_of(labels: np.ndarray, ipc: int) -> dict[int, int]:
    return {int(c): min(ipc, int(n)) for c, n in zip(*np.unique(labels, return_counts=True), strict=True)}


def unit(features: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    return features / np.where(norms > 0, norms, 1.0)


def shortfall(
    selection: Selection, features, labels, ipc, normaliser, order, *, alpha=5.0, cost=None, eps=EPS, picks=None
) -> float:
    """Replay the picks: by how much the naive objective with a pick falls below the best one, at worst."""
    features = np.asarray(features, dtype=np.float64)
    cost = np.zeros(len(labels)) if cost is None else cost
    quotas = quotas_of(labels, ipc)
    assert len(selection.indices) == len(set(selection.indices.tolist())) == sum(quotas.values())
    worst = 0.0
    how = {"alpha": alpha, "cost": cost, "eps2": eps**2, "normaliser": normaliser}
    for t, pick in enumerate(selection.indices[:picks]):
        rows, values = candidate_values(features, labels, list(selection.indices[:t]), quotas, order, **how)
        worst = max(worst, float(values.max() - values[rows == pick].item()))
    return worst


def random_case(seed: int, n: int, d: int, classes: int, dtype=np.float64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    return (rng.normal(size=(n, d)) + labels[:, None] % 3).astype(dtype), labels


# --- against the definition -------------------------------------------------------------------------------------------


@every_variant
@pytest.mark.parametrize("alpha", [0.0, 0.5, 5.0])
def test_every_pick_is_the_naive_one(normaliser, order, alpha):
    for seed, dtype in ((0, np.float64), (1, np.float32)):
        features, labels = random_case(seed, 40, 6, 3, dtype)
        rate = np.random.default_rng(seed).random(40)
        picked = greedy(
            features, labels, 4, label_rate=rate, alpha=alpha, beta=0.1, eps=EPS, normaliser=normaliser, order=order
        )
        assert shortfall(picked, features, labels, 4, normaliser, order, alpha=alpha, cost=0.1 * rate) < 1e-9


@every_variant
@pytest.mark.parametrize(
    ("what", "n", "d", "classes", "ipc"),
    [
        ("more dimensions than rows", 18, 30, 3, 3),
        ("one dimension", 20, 1, 2, 3),
        ("one class", 20, 5, 1, 6),
        ("ipc above the class size", 14, 4, 4, 9),
        ("more classes than dimensions", 30, 3, 12, 2),
    ],
)
def test_unusual_shapes(normaliser, order, what, n, d, classes, ipc):
    for dtype in (np.float64, np.float32):
        features, labels = random_case(3, n, d, classes, dtype)
        picked = greedy(features, labels, ipc, alpha=0.5, beta=0.0, eps=EPS, normaliser=normaliser, order=order)
        assert shortfall(picked, features, labels, ipc, normaliser, order, alpha=0.5) < 1e-9


@every_variant
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_duplicates_zero_rows_and_label_gaps(normaliser, order, dtype):
    features, labels = random_case(4, 30, 5, 3, dtype)
    labels = labels * 4 + 1  # 1, 5, 9
    features[labels == 5] = 0  # a class of nothing
    features[labels == 9] = features[np.flatnonzero(labels == 9)[0]]  # a class of one image over and over
    features[2] = features[11] = features[17]
    picked = greedy(features, labels, 4, alpha=5.0, beta=0.0, eps=EPS, normaliser=normaliser, order=order)
    assert shortfall(picked, features, labels, 4, normaliser, order) < 1e-9
    zero_class = picked.indices[labels[picked.indices] == 5]
    np.testing.assert_array_equal(zero_class, np.flatnonzero(labels == 5)[:4])


@every_variant
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_unit_norm_rows_tie_at_the_first_pick_and_the_lowest_index_wins(normaliser, order, dtype):
    features, labels = random_case(5, 40, 8, 2, dtype)
    how = {"alpha": 0.0, "beta": 0.0, "eps": EPS, "normaliser": normaliser, "order": order}
    picked = greedy(features, labels, 5, unit_norm=True, **how)
    assert picked.indices[0] == 0
    assert shortfall(picked, unit(features), labels, 5, normaliser, order, alpha=0.0) < 1e-9
    same = np.tile(features[:1], (40, 1))
    picked = greedy(same, labels, 5, **how)
    for c in (0, 1):
        of_class = picked.indices[labels[picked.indices] == c]
        np.testing.assert_array_equal(of_class, np.flatnonzero(labels == c)[:5])


@every_variant
@pytest.mark.parametrize(("scale", "eps"), [(1e4, EPS), (1.0, 1e-3), (1e-4, EPS)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_large_norms_and_small_eps(normaliser, order, scale, eps, dtype):
    features, labels = random_case(6, 30, 6, 3, dtype)
    features = features * dtype(scale)
    for alpha in (0.5, 5.0):
        picked = greedy(features, labels, 3, alpha=alpha, beta=0.0, eps=eps, normaliser=normaliser, order=order)
        assert shortfall(picked, features, labels, 3, normaliser, order, alpha=alpha, eps=eps) < 1e-9


@every_variant
def test_real_features_in_both_precisions(normaliser, order):
    """Handwritten digits: pixels repeat, some columns are zero everywhere, norms are far from one."""
    pixels, labels = load_digits(return_X_y=True)
    pixels, labels = pixels[:150, :40], labels[:150]
    how = {"alpha": 0.5, "beta": 0.0, "eps": EPS, "normaliser": normaliser, "order": order, "unit_norm": True}
    picked = greedy(pixels, labels, 3, **how)
    assert shortfall(picked, unit(pixels), labels, 3, normaliser, order, alpha=0.5, picks=12) < 1e-9
    np.testing.assert_array_equal(picked.indices, greedy(pixels.astype(np.float32), labels, 3, **how).indices)


@pytest.mark.parametrize("order", ORDERS)
def test_gains_add_up_to_the_objective_under_the_budget_normaliser(order):
    features, labels = random_case(7, 50, 6, 4)
    rate = np.random.default_rng(7).random(50)
    picked = greedy(features, labels, 5, label_rate=rate, alpha=5.0, beta=0.1, eps=EPS, order=order)
    whole = objective(
        features,
        labels,
        picked.indices,
        quotas_of(labels, 5),
        alpha=5.0,
        cost=0.1 * rate,
        eps2=EPS**2,
        normaliser="budget",
    )
    assert picked.gains.sum() == pytest.approx(whole, abs=1e-9)


def test_blocks_pools_and_flushes_change_nothing(monkeypatch):
    """Small inputs never fill a block, so the blocks are made small."""
    features, labels = random_case(8, 90, 5, 4, np.float32)
    monkeypatch.setattr(global_module, "_LEADERS_MIN", 24)
    monkeypatch.setattr(global_module, "_INNERMOST", 5)
    monkeypatch.setattr(global_module, "_SLICE", 17)
    monkeypatch.setattr(global_module, "CACHE_BYTES", 0)
    monkeypatch.setattr(round_robin_module, "_FLUSH", 2)
    monkeypatch.setattr(round_robin_module, "CACHE_BYTES", 0)
    for order in ("round_robin", "global"):
        for alpha in (0.0, 5.0):
            picked = greedy(features, labels, 6, alpha=alpha, beta=0.0, eps=EPS, order=order)
            assert shortfall(picked, features, labels, 6, "budget", order, alpha=alpha) < 1e-9


@pytest.mark.parametrize(
    ("unit_norm", "scale", "eps"), [(True, 1.0, EPS), (False, 1e4, EPS), (False, 1.0, 1e-3), (True, 1.0, 1e-3)]
)
def test_the_float32_scan_agrees_with_float64(unit_norm, scale, eps):
    """Few picks out of many: gains differ by little more than the rounding of float32, or |z|^2 / mu dwarfs q."""
    rng = np.random.default_rng(9)
    features = (scale * rng.normal(size=(2000, 64))).astype(np.float32)
    labels = rng.integers(0, 5, 2000)
    for alpha in (0.0, 0.5, 5.0):
        how = {"alpha": alpha, "beta": 0.0, "eps": eps, "order": "sequential", "unit_norm": unit_norm}
        single, double = greedy(features, labels, 40, **how), greedy(features.astype(np.float64), labels, 40, **how)
        np.testing.assert_array_equal(single.indices, double.indices)
        # Both are differences of terms of the size |z|^2 / mu, in float64.
        terms = 1.0 if unit_norm else 64 * scale**2
        np.testing.assert_allclose(single.gains, double.gains, atol=1e-9 + 1e-15 * terms * 64 / (200 * eps**2))


@pytest.mark.parametrize("scale", [1e-25, 1e18])
def test_scales_beyond_the_squares_of_float32(scale):
    features, labels = random_case(10, 30, 4, 2)
    features32 = (features * scale).astype(np.float32)
    eps = EPS * scale
    how = {"alpha": 0.5, "beta": 0.0, "eps": eps, "order": "sequential"}
    picked = greedy(features32, labels, 3, **how)
    np.testing.assert_array_equal(picked.indices, greedy(features32.astype(np.float64), labels, 3, **how).indices)


# --- laws -------------------------------------------------------------------------------------------------------------

matrices = arrays(np.float64, (14, 3), elements=st.floats(-3, 3, width=32))
law = settings(max_examples=12, deadline=None, derandomize=True)


@law
@given(features=matrices, labels=arrays(np.int64, 14, elements=st.integers(0, 3)), variant=st.sampled_from(VARIANTS))
def test_any_small_input_is_selected_exactly(features, labels, variant):
    picked = greedy(features, labels, 2, alpha=0.5, beta=0.0, eps=EPS, normaliser=variant[0], order=variant[1])
    assert shortfall(picked, features, labels, 2, *variant, alpha=0.5) < 1e-9


@law
@given(seed=st.integers(0, 10_000), variant=st.sampled_from(VARIANTS))
def test_the_order_of_the_rows_does_not_matter(seed, variant):
    features, labels = random_case(seed, 40, 6, 3)
    how = {"alpha": 5.0, "beta": 0.0, "eps": EPS, "normaliser": variant[0], "order": variant[1]}
    shuffle = np.random.default_rng(seed).permutation(40)
    here = greedy(features, labels, 3, **how).indices
    there = greedy(features[shuffle], labels[shuffle], 3, **how).indices
    np.testing.assert_array_equal(here, shuffle[there])


@law
@given(seed=st.integers(0, 10_000), variant=st.sampled_from(VARIANTS), scale=st.sampled_from([1e-3, 0.25, 7.0, 1e5]))
def test_features_and_eps_may_be_scaled_together(seed, variant, scale):
    features, labels = random_case(seed, 30, 5, 3)
    how = {"alpha": 0.5, "beta": 0.0, "normaliser": variant[0], "order": variant[1]}
    here, there = (
        greedy(features, labels, 3, eps=EPS, **how),
        greedy(features * scale, labels, 3, eps=EPS * scale, **how),
    )
    np.testing.assert_array_equal(here.indices, there.indices)
    np.testing.assert_allclose(here.gains, there.gains, atol=1e-9)


# --- input that is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_a_row_that_is_not_finite_is_named(value, dtype):
    features, labels = random_case(11, 20, 4, 2, dtype)
    features[13, 2] = value
    with pytest.raises(ValueError, match="row 13"):
        greedy(features, labels, 2, alpha=1.0, beta=0.0, eps=EPS)


def test_a_label_rate_that_is_not_finite_is_named():
    features, labels = random_case(11, 20, 4, 2)
    rate = np.zeros(20)
    rate[7] = np.nan
    with pytest.raises(ValueError, match="row 7"):
        greedy(features, labels, 2, label_rate=rate, alpha=1.0, beta=1.0, eps=EPS)


def test_large_finite_features_are_not_mistaken_for_infinite_ones():
    features, labels = random_case(11, 20, 4, 2, np.float16)
    features[:, 0] = 60_000  # the sum of a chunk overflows float16
    assert len(greedy(features, labels, 2, alpha=1.0, beta=0.0, eps=EPS).indices) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ipc": 0}, "ipc"),
        ({"alpha": -1.0}, "alpha"),
        ({"beta": float("nan")}, "beta"),
        ({"eps": 0.0}, "eps"),
        ({"order": "random"}, "order"),
        ({"normaliser": "fixed"}, "normaliser"),
        ({"num_classes": 1}, "labels"),
        ({"labels": np.full(20, 0.5)}, "labels"),
        ({"labels": np.full(20, -1)}, "labels"),
        ({"labels": np.zeros(3)}, "labels"),
        ({"label_rate": np.zeros(3)}, "label_rate"),
        ({"features": np.zeros(20)}, "features"),
        ({"features": np.zeros((20, 2), dtype=complex)}, "features"),
    ],
)
def test_an_argument_out_of_range_is_named(change, message):
    features, labels = random_case(12, 20, 4, 2)
    arguments = {"features": features, "labels": labels, "ipc": 2, "alpha": 1.0, "beta": 0.0, "eps": EPS} | change
    with pytest.raises(ValueError, match=message):
        greedy(arguments.pop("features"), arguments.pop("labels"), arguments.pop("ipc"), **arguments)


def test_lists_and_views_are_taken_as_they_are():
    features, labels = random_case(13, 20, 4, 2)
    how = {"alpha": 1.0, "beta": 0.0, "eps": EPS}
    expected = greedy(features, labels, 2, **how).indices
    np.testing.assert_array_equal(greedy(features.tolist(), labels.astype(float).tolist(), 2, **how).indices, expected)
    np.testing.assert_array_equal(greedy(np.asfortranarray(features), labels, 2, **how).indices, expected)


# --- the plugin -------------------------------------------------------------------------------------------------------


@dataclass
class FakeTrain:
    labels: np.ndarray
    num_classes: int

    def class_indices(self, label: int) -> np.ndarray:
        return np.flatnonzero(self.labels == label)


@dataclass
class FakeContext:
    activations: np.ndarray
    logits: np.ndarray | None = None
    views: dict[str, float] | None = None  # as they were asked for

    def numpy(self, *name: str | int) -> np.random.Generator:
        return np.random.default_rng(len(name))

    def features(self) -> np.ndarray:
        return self.activations

    def soft_labels(self, images: None, k: int, **views: float) -> np.ndarray:
        assert images is None
        self.views = views
        assert self.logits is not None, "soft labels cost a teacher pass and are asked for only where they count"
        return self.logits[:, :k]


def digits() -> tuple[FakeTrain, FakeContext]:
    pixels, labels = load_digits(return_X_y=True)
    pixels, labels = pixels[:400].astype(np.float32), labels[:400].astype(np.int64)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(400, 5, 10)) + 3 * np.eye(10)[labels][:, None]
    pixels.setflags(write=False)
    return FakeTrain(labels, 10), FakeContext(pixels, logits.astype(np.float32))


@pytest.mark.parametrize("order", ORDERS)
def test_the_plugin_gives_exactly_ipc_of_each_class(order):
    train, ctx = digits()
    picks = score.select(train, 7, ctx, order=order)
    assert picks.dtype == np.int64
    assert len(set(picks.tolist())) == 70
    np.testing.assert_array_equal(np.bincount(train.labels[picks]), np.full(10, 7))
    np.testing.assert_array_equal(picks, score.select(train, 7, ctx, order=order))


def test_a_large_beta_takes_the_simplest_soft_labels():
    train, ctx = digits()
    picks = score.select(train, 3, ctx, alpha=0.0, beta=1e6)
    rates = score._label_rates(ctx.logits, 0.5**0.5)
    for c in range(10):
        members = train.class_indices(c)
        simplest = members[np.argsort(rates[members])[:3]]
        np.testing.assert_array_equal(picks[train.labels[picks] == c], simplest)


def test_soft_labels_are_not_asked_for_without_beta():
    train, ctx = digits()
    assert len(score.select(train, 2, FakeContext(ctx.activations), beta=0.0)) == 20


def test_the_picks_beat_random_ones_on_their_own_objective():
    train, ctx = digits()
    picks = score.select(train, 5, ctx, beta=0.0)
    features = unit(ctx.activations)
    how = {"alpha": 5.0, "cost": np.zeros(400), "eps2": 0.5, "normaliser": "budget"}
    quotas = quotas_of(train.labels, 5)
    ours = objective(features, train.labels, picks, quotas, **how)
    rng = np.random.default_rng(0)
    for _ in range(5):
        random = np.concatenate([rng.choice(train.class_indices(c), 5, replace=False) for c in range(10)])
        assert ours > objective(features, train.labels, random, quotas, **how)


def test_a_class_that_is_too_small_is_an_error_in_the_plugin():
    train, ctx = digits()
    with pytest.raises(ValueError, match="class"):
        score.select(train, 60, ctx)
    with pytest.raises(ValueError, match="k must be"):
        score.select(train, 2, ctx, k=0)


# --- batches of candidates (Algorithm 1) ------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_a_pick_is_the_best_of_its_batch_of_candidates(order):
    """Replayed with the same draws: the naive objective of every candidate of every batch."""
    features, labels = random_case(3, 40, 6, 3)
    cost = np.random.default_rng(1).random(40)
    how = {"alpha": 2.0, "beta": 0.1, "eps": EPS, "order": order, "label_rate": cost, "candidates": 4}
    selection = greedy(features, labels, 5, generator=np.random.default_rng(7), **how)
    rng, quotas = np.random.default_rng(7), quotas_of(labels, 5)
    assert len(set(selection.indices.tolist())) == 15
    batches = []
    for t, (pick, gain) in enumerate(zip(selection.indices, selection.gains, strict=True)):
        before = list(selection.indices[:t])
        options = {"alpha": 2.0, "cost": 0.1 * cost, "eps2": EPS**2, "normaliser": "budget"}
        rows, values = candidate_values(features, labels, before, quotas, order, **options)
        batch = np.sort(rng.choice(rows, min(4, len(rows)), replace=False))
        of_batch = {int(row): value for row, value in zip(rows, values, strict=True) if row in batch}
        assert of_batch[int(pick)] == pytest.approx(max(of_batch.values()), abs=1e-9)
        former = objective(features, labels, before, quotas, **options) if before else 0.0
        assert gain == pytest.approx(of_batch[int(pick)] - former, abs=1e-8)
        batches.append(tuple(batch))
    assert len(set(batches)) > 5  # drawn anew for each pick


@pytest.mark.parametrize("order", ORDERS)
def test_a_batch_of_all_candidates_is_the_exact_greedy(order):
    features, labels = random_case(5, 60, 8, 4)
    how = {"alpha": 1.5, "beta": 0.0, "eps": EPS, "order": order}
    every = greedy(features, labels, 6, candidates=60, generator=np.random.default_rng(0), **how)
    assert every.indices.tolist() == greedy(features, labels, 6, **how).indices.tolist()


def test_candidates_are_refused_where_they_mean_nothing():
    train, ctx = digits()
    with pytest.raises(ValueError, match="candidates must be 0"):
        score.select(train, 2, ctx, candidates=5, normaliser="running")
    with pytest.raises(ValueError, match="candidates must be 0"):
        score.select(train, 2, ctx, candidates=-1)
    with pytest.raises(ValueError, match="crop_scale must be above 0"):
        score.select(train, 2, ctx, crop_scale=0)


def test_the_views_behind_the_label_rates_are_those_that_are_asked_for():
    train, ctx = digits()
    score.select(train, 2, ctx, crop_scale=0.2, cutmix=True)
    assert ctx.views == {"crop_scale": 0.2, "cutmix": True}
    assert [row["crop_scale"] for row in score.PUBLISHED.values()] == [0.4, 0.3, 0.4, 0.3, 0.2]  # Table 5
