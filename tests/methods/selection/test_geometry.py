"""Methods that spread picks over a class: k-center, k-means medoids, CRAIG's facility location."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from submodlib import FacilityLocationFunction

from methods.selection import craig, kcenter, kmedoids, uniform
from tests.worlds.fakes import digits, digits_context
from tests.worlds.scored import given

KINDS = st.sampled_from(["normal", "twice", "zeros", "equal", "grid", "far"])


def points(n: int, d: int, seed: int, kind: str) -> np.ndarray:
    """Random and degenerate rows: duplicates, zeros, all the same, whole numbers (ties), a long common part."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, d))
    if kind == "twice":
        rows = np.concatenate([rows, rows])
    elif kind == "zeros":
        rows[::2] = 0
    elif kind == "equal":
        rows[:] = rows[0]
    elif kind == "grid":
        rows = rng.integers(0, 3, (n, d)).astype(float)
    elif kind == "far":
        rows += 1e4
    return rows


# k-center


def check_farthest(rows: np.ndarray, picks: np.ndarray) -> None:
    distances = cdist(rows, rows)
    for turn in range(1, len(picks)):
        left = np.setdiff1d(np.arange(len(rows)), picks[:turn])
        nearest = distances[left][:, picks[:turn]].min(axis=1)
        mine = distances[picks[turn], picks[:turn]].min()
        assert mine >= nearest.max() - 1e-4 * max(1.0, distances.max())


@settings(max_examples=40, deadline=None, derandomize=True)
@drawn(st.integers(1, 12), st.integers(1, 5), st.integers(0, 1000), KINDS)
def test_each_kcenter_pick_is_the_farthest_from_the_picks_before(n, d, seed, kind):
    rows = points(n, d, seed, kind)
    picks = kcenter.farthest_first(rows, len(rows), kcenter.medoid(rows))
    assert sorted(picks) == list(range(len(rows)))
    check_farthest(rows, picks)


@settings(max_examples=25, deadline=None, derandomize=True)
@drawn(st.integers(3, 8), st.integers(1, 3), st.integers(0, 1000), KINDS)
def test_kcenter_is_within_twice_the_best_radius(n, count, seed, kind):
    rows = points(n, 2, seed, kind)
    distances = cdist(rows, rows)

    def radius(chosen) -> float:
        return float(distances[:, list(chosen)].min(axis=1).max())

    best = min(radius(chosen) for chosen in itertools.combinations(range(len(rows)), count))
    assert radius(kcenter.farthest_first(rows, count, 0)) <= 2 * best + 1e-4


@settings(max_examples=25, deadline=None, derandomize=True)
@drawn(st.integers(1, 15), st.integers(1, 4), st.integers(0, 1000), KINDS)
def test_the_medoid_has_the_least_sum_of_squared_distances(n, d, seed, kind):
    rows = points(n, d, seed, kind)
    sums = cdist(rows, rows, "sqeuclidean").sum(axis=1)
    assert sums[kcenter.medoid(rows)] <= sums.min() * (1 + 1e-6) + 1e-9


@pytest.mark.trains
def test_kcenter_by_hand():
    line = np.array([[0.0], [1.0], [2.0], [10.0], [11.0]])
    train, context = given([0] * 5, features=line)
    # The mean is 4.8, nearest to 2; then 11 (9 away), 0 (2 away), and 1 and 10 are both 1 away: the lower index.
    assert kcenter.select(train, 4, context).tolist() == [2, 4, 0, 1]
    assert context.asked == []


@pytest.mark.trains
def test_kcenter_of_digits_equals_a_loop_over_images():
    train, context = digits(), digits_context()
    picks, features = kcenter.select(train, 6, context), context.features().astype(np.float64)
    for label in range(10):
        own = train.class_indices(label)
        chosen = [own[np.argmin(((features[own] - features[own].mean(0)) ** 2).sum(1))]]
        while len(chosen) < 6:
            far = [min(np.linalg.norm(features[i] - features[j]) for j in chosen) for i in own]
            chosen.append(own[np.argmax(far)])
        assert picks[6 * label : 6 * label + 6].tolist() == chosen


@pytest.mark.trains
def test_a_drawn_start_differs_between_replicates():
    starts = {kcenter.select(digits(), 1, digits_context(replicate=r), start="drawn")[0] for r in range(6)}
    assert len(starts) > 1


@pytest.mark.trains
@pytest.mark.parametrize("select", [kcenter.select, kmedoids.select])
def test_unit_norm_ignores_the_length_of_a_feature(select):
    train, features = digits(), digits_context().features()
    stretched = features * np.random.default_rng(0).choice([0.5, 1, 2], (len(features), 1)).astype(np.float32)
    picks = []
    for rows in (features, stretched):
        split, context = given(train.labels, features=rows)
        picks.append(select(split, 5, context, unit_norm=True))
    assert np.array_equal(*picks)


# k-means medoids


@settings(max_examples=25, deadline=None, derandomize=True)
@drawn(st.integers(1, 10), st.integers(0, 1000), KINDS, st.data())
def test_medoids_are_distinct_whatever_the_rows(n, seed, kind, data):
    rows = points(n, 3, seed, kind)
    count = data.draw(st.integers(1, len(rows)))
    picks = kmedoids.medoids(rows, count, seed)
    assert len(set(picks.tolist())) == count
    assert picks.min() >= 0
    assert picks.max() < len(rows)


def test_each_separate_cluster_is_stood_for_by_the_row_nearest_to_its_mean():
    rng = np.random.default_rng(5)
    sizes = [30, 20, 10]
    rows = np.concatenate([rng.normal(size=(size, 2)) + 100 * np.eye(3)[k, :2] for k, size in enumerate(sizes)])
    groups = np.split(np.arange(60), np.cumsum(sizes)[:-1])
    nearest = [own[np.argmin(((rows[own] - rows[own].mean(0)) ** 2).sum(1))] for own in groups]
    assert kmedoids.medoids(rows, 3, 0).tolist() == nearest  # large clusters first


def test_one_cluster_gives_the_medoid():
    rows = np.random.default_rng(6).normal(size=(40, 3))
    assert kmedoids.medoids(rows, 1, 3).tolist() == [kcenter.medoid(rows)]


def test_centres_that_share_their_nearest_row_are_matched_at_the_least_cost():
    rows = np.array([[0.0], [0.0], [0.0], [5.0]])
    assert sorted(kmedoids.medoids(rows, 3, 1))[-1] == 3


@pytest.mark.trains
def test_medoids_of_digits_lie_nearer_to_their_class_than_random_images_do():
    train, context = digits(), digits_context()
    features = context.features()

    def spread(picks: np.ndarray) -> float:
        return sum(
            float(cdist(features[train.labels == c], features[picks[train.labels[picks] == c]]).min(axis=1).sum())
            for c in range(10)
        )

    assert spread(kmedoids.select(train, 5, context)) < 0.95 * spread(uniform.select(train, 5, context))


# CRAIG


def facility(rows: np.ndarray, count: int) -> np.ndarray:
    distances = cdist(rows, rows)
    return craig.facility_location(lambda chosen: distances[:, chosen], len(rows), count)


def naive_gains(distances: np.ndarray, picks: list[int]) -> np.ndarray:
    """By how much each row that is not picked lowers the sum of distances to the nearest pick."""
    before = distances[:, picks].min(axis=1).sum() if picks else distances.max() * len(distances)
    gains = np.full(len(distances), -np.inf)
    for row in set(range(len(distances))) - set(picks):
        gains[row] = before - distances[:, [*picks, row]].min(axis=1).sum()
    return gains


@settings(max_examples=40, deadline=None, derandomize=True)
@drawn(st.integers(1, 12), st.integers(1, 5), st.integers(0, 1000), KINDS, st.sampled_from([1, 3, 128]))
def test_every_pick_of_the_lazy_greedy_is_the_best_there_is(n, d, seed, kind, block):
    rows = points(n, d, seed, kind)
    distances = cdist(rows, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(craig, "_BLOCK", block)
        picks = facility(rows, len(rows)).tolist()
    assert sorted(picks) == list(range(len(rows)))
    for turn, pick in enumerate(picks):
        gains = naive_gains(distances, picks[:turn])
        assert gains[pick] >= gains.max() - 1e-8 * max(1.0, distances.sum())


@pytest.mark.filterwarnings("ignore:Please import `csr_matrix`:DeprecationWarning")
def test_the_lazy_greedy_agrees_with_submodlib():
    rows = np.random.default_rng(8).normal(size=(300, 6))
    similarity = cdist(rows, rows).max() - cdist(rows, rows)
    peer = FacilityLocationFunction(n=300, mode="dense", sijs=similarity, separate_rep=False)
    theirs = [row for row, _ in peer.maximize(budget=15, optimizer="NaiveGreedy", show_progress=False)]
    assert facility(rows, 15).tolist() == theirs


def test_equal_rows_are_picked_in_order():
    assert facility(np.ones((200, 3)), 4).tolist() == [0, 1, 2, 3]


@pytest.mark.trains
def test_what_is_kept_equals_what_is_worked_out_again(monkeypatch):
    train, context = digits(), digits_context()
    first = craig.select(train, 5, context)
    monkeypatch.setattr(craig, "_KEPT_VALUES", 0)
    assert np.array_equal(first, craig.select(train, 5, context))


@pytest.mark.trains
@pytest.mark.parametrize("space", ["gradient", "residual", "feature"])
def test_craig_of_digits_is_the_naive_greedy_in_its_space(space):
    train, context = digits(), digits_context()
    features, logits = context.features().astype(np.float64), context.logits().astype(np.float64)
    share = np.exp(logits - logits.max(1, keepdims=True))
    residual = share / share.sum(1, keepdims=True) - np.eye(10)[train.labels]
    whole = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    rows = {
        "gradient": np.einsum("nc,nd->ncd", residual, whole).reshape(len(whole), -1),
        "residual": residual,
        "feature": features,
    }[space]
    picks = craig.select(train, 4, context, space=space).reshape(10, 4)
    for label in (0, 4, 9):
        own = train.class_indices(label)
        distances = cdist(rows[own], rows[own])
        mine = np.searchsorted(own, picks[label]).tolist()
        for turn, pick in enumerate(mine):
            gains = naive_gains(distances, mine[:turn])
            assert gains[pick] >= gains.max() - 1e-6 * distances.sum(axis=0).min()


def test_facility_location_of_a_large_class_never_holds_all_distances():
    rows = np.random.default_rng(9).normal(size=(3000, 8))
    square = (rows**2).sum(1)

    def columns(chosen: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(square[:, None] + square[chosen] - 2 * rows @ rows[chosen].T, 0))

    tracemalloc.start()
    craig.facility_location(craig.kept(columns, 3000), 3000, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3000**2 * 8 / 3


# All of them


@pytest.mark.trains
@pytest.mark.parametrize("select", [kcenter.select, kmedoids.select, craig.select])
def test_broken_features_name_the_image(select):
    features = digits_context().features().copy()
    features[77, 3] = np.nan
    train, context = given(digits().labels, features=features)
    with pytest.raises(ValueError, match="the feature of image 77 is not finite"):
        select(train, 2, context)


@pytest.mark.trains
@pytest.mark.parametrize(
    ("select", "parameters", "message"),
    [
        (kcenter.select, {"start": "first"}, 'start is \'first\'; it must be "medoid" or "drawn"'),
        (kmedoids.select, {"restarts": 0}, "restarts is 0; it must be at least 1"),
        (craig.select, {"space": "logit"}, '"gradient", "residual" or "feature"'),
    ],
)
def test_a_bad_argument_is_refused_with_what_is_allowed(select, parameters, message):
    with pytest.raises(ValueError, match=message):
        select(digits(), 1, digits_context(), **parameters)
