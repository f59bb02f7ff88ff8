"""Methods on last-layer gradients: the factored form, GradMatch, BADGE and BAIT against whole matrices and loops."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from scipy.stats import chisquare

from methods import _fisher
from methods._fisher import Trace, forward_backward
from methods._lastlayer import Gradients, residuals
from methods.selection import badge, bait, gradmatch, uniform
from tests.worlds.fakes import digits, digits_context
from tests.worlds.scored import given

KINDS = st.sampled_from(["normal", "twice", "zeros", "equal", "sure"])


def factors(n: int, seed: int, kind: str = "normal", classes: int = 3, d: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """(logits, features) of one class, random or degenerate; with "sure" all probabilities of others are near 0."""
    rng = np.random.default_rng(seed)
    logits, features = rng.normal(size=(n, classes)) * 2, rng.normal(size=(n, d))
    if kind == "twice":
        logits, features = np.concatenate([logits, logits]), np.concatenate([features, features])
    elif kind == "zeros":
        features[::2] = 0
    elif kind == "equal":
        logits[:], features[:] = logits[0], features[0]
    elif kind == "sure":
        logits[:, 0] += 25
    return logits, features


def gradients_of(logits: np.ndarray, features: np.ndarray, *, bias: bool = True) -> tuple[Gradients, np.ndarray]:
    """(factored, whole [n, C (d + 1)]) for label 0."""
    residual = residuals(logits, np.zeros(len(logits), dtype=np.int64))
    whole = np.concatenate([features, np.ones((len(features), 1))], axis=1) if bias else features
    return Gradients.of(residual, features, bias=bias), np.einsum("nc,nd->ncd", residual, whole).reshape(len(whole), -1)


def peak_bytes(call: Callable[[], object]) -> int:
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


# The factored form


def test_residual_and_feature_are_the_factors_of_the_gradient_that_autograd_finds():
    rng = np.random.default_rng(0)
    layer, features = torch.nn.Linear(4, 3).double(), rng.normal(size=(5, 4))
    labels = np.array([0, 1, 2, 2, 0])
    logits = layer(torch.tensor(features)).detach().numpy()
    found = Gradients.of(residuals(logits, labels), features)
    for row in range(5):
        layer.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            layer(torch.tensor(features[row : row + 1])), torch.tensor([labels[row]])
        )
        loss.backward()
        whole = torch.cat([layer.weight.grad, layer.bias.grad[:, None]], dim=1).numpy()
        assert np.outer(found.residual[row], found.feature[row]) == pytest.approx(whole)


@settings(max_examples=30, deadline=None, derandomize=True)
@drawn(st.integers(1, 10), st.integers(0, 1000), KINDS, st.booleans())
def test_the_factored_form_computes_what_whole_gradients_do(n, seed, kind, bias):
    factored, whole = gradients_of(*factors(n, seed, kind), bias=bias)
    direction = np.random.default_rng(seed).normal(size=factored.total().shape)
    scale = max(float((whole**2).sum(1).max()), 1e-300)
    rows = np.arange(len(whole))[::2]
    gap = whole[:, None] - whole[rows]
    assert np.abs(factored.dots(rows) - whole @ whole[rows].T).max() <= 1e-12 * scale
    assert np.abs(factored.distances(rows) - (gap**2).sum(-1)).max() <= 1e-12 * scale
    assert factored.square == pytest.approx((whole**2).sum(1))
    assert factored.total().ravel() == pytest.approx(whole.sum(0), abs=1e-12)
    assert factored.along(direction) == pytest.approx(whole @ direction.ravel(), abs=1e-12)


def test_equal_gradients_are_at_distance_zero():
    factored, _ = gradients_of(*factors(6, 1, "twice"))
    distances = factored.distances(slice(None))
    assert (distances.diagonal() == 0).all()
    assert (distances[np.arange(6), np.arange(6) + 6] == 0).all()


# GradMatch


def naive_pursuit(whole: np.ndarray, count: int, ridge: float) -> tuple[list[int], np.ndarray]:
    """(picks, weights) by whole gradients; the ridge as rows that are appended to them."""
    total, penalty = whole.sum(0), ridge * (whole**2).sum(1).mean()
    picks: list[int] = []
    weights = np.empty(0)
    for _ in range(count):
        left = whole @ (total - weights @ whole[picks] if picks else total)
        left[picks] = -np.inf
        picks.append(int(np.argmax(left)))
        rows = np.concatenate([whole[picks].T, np.sqrt(penalty) * np.eye(len(picks))])
        weights = nnls(rows, np.concatenate([total, np.zeros(len(picks))]))[0]
    return picks, weights


@settings(max_examples=30, deadline=None, derandomize=True)
@drawn(st.integers(2, 12), st.integers(0, 1000), st.sampled_from([0.01, 0.5, 5.0]))
def test_matching_pursuit_equals_a_loop_over_whole_gradients(n, seed, ridge):
    factored, whole = gradients_of(*factors(n, seed))
    picks, weights = gradmatch.pursue(factored, n - 1, ridge)
    theirs, their_weights = naive_pursuit(whole, n - 1, ridge)
    assert picks.tolist() == theirs
    assert weights == pytest.approx(their_weights, abs=1e-7)
    assert (weights >= 0).all()


@settings(max_examples=30, deadline=None, derandomize=True)
@drawn(st.integers(1, 8), st.integers(0, 1000), KINDS)
def test_matching_pursuit_fills_every_quota(n, seed, kind):
    factored, _ = gradients_of(*factors(n, seed, kind))
    picks, weights = gradmatch.pursue(factored, len(factored), 0.5)
    assert sorted(picks) == list(range(len(factored)))
    assert np.isfinite(weights).all()


def test_matching_pursuit_by_hand():
    # Gradients 3, 1 and -2 along one line sum to 2: the longest along it comes first, then what is left is small.
    factored = Gradients.of(np.ones((3, 1)), np.array([[3.0], [1.0], [-2.0]]), bias=False)
    picks, weights = gradmatch.pursue(factored, 1, 1e-9)
    assert picks.tolist() == [0]
    assert weights == pytest.approx([2 / 3])


def test_equal_gradients_are_picked_in_order_and_share_the_weight():
    factored, _ = gradients_of(*factors(9, 2, "equal"))
    picks, weights = gradmatch.pursue(factored, 3, 1e-6)
    assert picks.tolist() == [0, 1, 2]
    assert weights == pytest.approx([3, 3, 3], rel=1e-4)


def test_scaled_gradients_give_the_same_picks():
    logits, features = factors(20, 3)
    small = Gradients.of(residuals(logits, np.zeros(20, dtype=np.int64)) * 1e-9, features)
    assert (
        gradmatch.pursue(small, 8, 0.5)[0].tolist()
        == gradmatch.pursue(gradients_of(logits, features)[0], 8, 0.5)[0].tolist()
    )


@pytest.mark.trains
def test_the_picks_of_digits_match_the_class_gradient_better_than_random_ones_do():
    train, context = digits(), digits_context()
    features, logits = context.features(), context.logits()

    def miss(picks: np.ndarray) -> float:
        out = 0.0
        for label in range(10):
            own = train.class_indices(label)
            _, whole = gradients_of(np.roll(logits[own], -label, axis=1), features[own])
            mine = whole[np.searchsorted(own, picks[train.labels[picks] == label])]
            out += nnls(mine.T, whole.sum(0))[1] / np.linalg.norm(whole.sum(0))
        return out

    assert miss(gradmatch.select(train, 5, context)) < 0.7 * miss(uniform.select(train, 5, context))


# BADGE


def test_the_first_pick_is_the_longest_gradient_and_the_next_follow_the_squared_distance():
    factored, whole = gradients_of(*factors(8, 4), bias=False)
    rng = np.random.default_rng(0)
    seconds = np.zeros(8)
    for _ in range(4000):
        first, second = badge.spread(factored, 2, rng)
        assert first == np.argmax((whole**2).sum(1))
        seconds[second] += 1
    share = ((whole - whole[first]) ** 2).sum(1)
    expected = 4000 * share / share.sum()
    assert seconds[first] == 0
    others = np.arange(8) != first
    assert chisquare(seconds[others], expected[others]).pvalue > 0.01


def test_the_third_pick_follows_the_distance_to_the_nearer_of_two():
    factored, whole = gradients_of(*factors(6, 5), bias=False)
    rng, thirds = np.random.default_rng(1), np.zeros((6, 6))
    for _ in range(6000):
        _, second, third = badge.spread(factored, 3, rng)
        thirds[second, third] += 1
    second = int(np.argmax(thirds.sum(1)))
    first = int(np.argmax((whole**2).sum(1)))
    near = ((whole[:, None] - whole[[first, second]]) ** 2).sum(-1).min(1)
    left = near > 0
    assert chisquare(thirds[second][left], thirds[second].sum() * near[left] / near.sum()).pvalue > 0.01


@settings(max_examples=30, deadline=None, derandomize=True)
@drawn(st.integers(1, 10), st.integers(0, 1000), KINDS)
def test_spread_never_draws_a_row_twice(n, seed, kind):
    factored, _ = gradients_of(*factors(n, seed, kind), bias=False)
    picks = badge.spread(factored, len(factored), np.random.default_rng(seed))
    assert sorted(picks) == list(range(len(factored)))


def test_a_second_copy_is_drawn_only_when_nothing_else_is_left():
    factored, _ = gradients_of(*factors(5, 6, "twice"), bias=False)
    for seed in range(10):
        picks = badge.spread(factored, 10, np.random.default_rng(seed)) % 5
        assert sorted(picks[:5]) == [0, 1, 2, 3, 4]


@pytest.mark.trains
def test_badge_looks_at_the_predicted_class_unless_told_otherwise():
    # The teacher is sure that image 1 is of class 1: by its own prediction there is little to learn, by the label much.
    logits = np.array([[1.0, 0.0], [0.0, 9.0], [8.0, 0.0]])
    train, context = given([0, 0, 0, 1], logits=np.concatenate([logits, [[0.0, 0.0]]]), features=np.ones((4, 2)))
    assert badge.select(train, 1, context)[0] == 0
    assert badge.select(train, 1, context, label="given")[0] == 1


# BAIT


def flat(rows: np.ndarray, ridge: float) -> Trace:
    """Information x x' of rows x [n, d]."""
    return Trace(np.ones((len(rows), 1, 1)), rows, ridge)


def trace_of(whole: np.ndarray, picks: list[int], ridge: float) -> float:
    """tr(M^-1 F) by inversion, of information matrices [n, D, D]."""
    information = ridge * np.eye(whole.shape[1]) + whole[picks].sum(axis=0)
    return float(np.trace(np.linalg.inv(information) @ whole.mean(axis=0)))


def naive_forward_backward(whole: np.ndarray, count: int, ridge: float, oversample: float) -> list[int]:
    added: list[int] = []
    for _ in range(min(len(whole), max(count, round(oversample * count)))):
        left = [row for row in range(len(whole)) if row not in added]
        added.append(min(left, key=lambda row: trace_of(whole, [*added, row], ridge)))
    while len(added) > count:
        added.remove(min(added, key=lambda row: trace_of(whole, [a for a in added if a != row], ridge)))
    return added


@settings(max_examples=30, deadline=None, derandomize=True)
@drawn(
    st.integers(2, 10),
    st.integers(1, 4),
    st.sampled_from([(1, 1), (3, 3), (3, 2)]),
    st.integers(0, 1000),
    st.sampled_from([0.1, 1.0]),
    st.integers(1, 3),
)
def test_forward_backward_equals_a_loop_that_inverts_every_matrix(n, k, shape, seed, ridge, oversample):
    rng = np.random.default_rng(seed)
    left, feature = rng.normal(size=(n, *shape)), rng.normal(size=(n, k))
    whole = np.stack([np.kron(a @ a.T, np.outer(h, h)) for a, h in zip(left, feature, strict=True)])
    count = max(1, n // 3)
    picks = forward_backward(Trace(left, feature, ridge), count, oversample)
    assert picks.tolist() == naive_forward_backward(whole, count, ridge, oversample)


@settings(max_examples=25, deadline=None, derandomize=True)
@drawn(st.integers(1, 8), st.integers(0, 1000), KINDS, st.sampled_from([1.0, 2.0]), st.sampled_from(["binary", "full"]))
def test_forward_backward_fills_every_quota(n, seed, kind, oversample, information):
    logits, features = factors(n, seed, kind)
    for count in (1, len(logits)):
        trace = Trace(bait.curvature(logits, 0, information), features, 1.0)
        assert len(set(forward_backward(trace, count, oversample).tolist())) == count


def test_equal_rows_are_taken_from_the_first_on():
    assert forward_backward(flat(np.ones((6, 2)), 1.0), 2, 2.0).tolist() == [0, 1]
    assert forward_backward(flat(np.zeros((6, 2)), 1.0), 2, 2.0).tolist() == [0, 1]


@pytest.mark.parametrize("shape", [(1, 1), (3, 2)])
def test_the_kept_figures_stay_exact_over_hundreds_of_changes(shape):
    rng = np.random.default_rng(7)
    left, feature = rng.normal(size=(300, *shape)), rng.normal(size=(300, 6))
    trace = Trace(left, feature, 1e-3)
    for row in range(200):
        trace.change(row, 1.0)
    for row in range(150):
        trace.change(row, -1.0)
    whole = np.einsum("ncr,nk->nrck", left, feature).reshape(300, shape[1], -1)
    held = whole[150:200].reshape(-1, whole.shape[2])
    solved = whole @ np.linalg.inv(1e-3 * np.eye(whole.shape[2]) + held.T @ held)
    fisher = np.einsum("nrd,nre->de", whole, whole) / 300
    assert trace.own == pytest.approx(solved @ whole.transpose(0, 2, 1), rel=1e-6, abs=1e-9)
    assert trace.target == pytest.approx(solved @ fisher @ solved.transpose(0, 2, 1), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("kind", ["normal", "sure"])
def test_the_curvature_is_that_of_the_softmax(kind):
    logits, _ = factors(6, 11, kind)
    share = torch.softmax(torch.tensor(logits), 1).numpy()
    full, binary = bait.curvature(logits, 1, "full"), bait.curvature(logits, 1, "binary")
    for p, left, alone in zip(share, full, binary, strict=True):
        assert left @ left.T == pytest.approx(np.diag(p) - np.outer(p, p), abs=1e-12)
        assert alone @ alone.T == pytest.approx(np.array([[p[1] * (1 - p[1])]]), rel=1e-6)


@pytest.mark.trains
def test_for_two_classes_the_binary_form_picks_as_the_full_one_does_at_twice_the_ridge():
    rng = np.random.default_rng(8)
    labels = np.arange(60) % 2
    train, context = given(labels, logits=rng.normal(size=(60, 2)) * 2, features=rng.normal(size=(60, 5)))
    binary = bait.select(train, 6, context, ridge=0.5)
    assert np.array_equal(binary, bait.select(train, 6, context, ridge=1.0, information="full"))


@pytest.mark.trains
@pytest.mark.parametrize("information", ["binary", "full"])
def test_bait_of_digits_explains_more_of_the_information_than_random_images_do(information):
    train, context = digits(), digits_context()
    own = train.class_indices(3)
    features = context.features()[own, ::8].astype(float)
    logits = context.logits()
    small, context = given(train.labels, logits=logits, features=context.features()[:, ::8])
    share = torch.softmax(torch.tensor(logits[own], dtype=torch.float64), 1).numpy()
    scaled = np.c_[features / np.sqrt((features**2).sum(1).mean()), np.ones(len(own))]
    if information == "full":
        curved = [np.diag(p) - np.outer(p, p) for p in share]
        whole = np.stack([np.kron(a, np.outer(h, h)) for a, h in zip(curved, scaled, strict=True)])
    else:
        whole = np.stack([p[3] * (1 - p[3]) * np.outer(h, h) for p, h in zip(share, scaled, strict=True)])
    both = bait.select(small, 5, context, information=information), uniform.select(small, 5, context)
    mine, theirs = (np.searchsorted(own, picks[train.labels[picks] == 3]).tolist() for picks in both)
    assert trace_of(whole, mine, 1.0) < 0.9 * trace_of(whole, theirs, 1.0)
    if information == "binary":
        assert sorted(mine) == sorted(naive_forward_backward(whole, 5, 1.0, 2.0))


@pytest.mark.trains
def test_the_full_information_is_refused_where_its_matrix_is_too_large():
    train, context = given(np.arange(30), logits=np.zeros((30, 30)), features=np.zeros((30, 140)))
    with pytest.raises(ValueError, match="information=full needs a matrix of 4230 rows here, at most 4096; use binary"):
        bait.select(train, 1, context, information="full")


# Memory, and what is refused


@pytest.mark.parametrize(
    "call",
    [
        lambda g: gradmatch.pursue(g, 10, 0.5),
        lambda g: badge.spread(g, 10, np.random.default_rng(0)),
    ],
)
def test_no_whole_gradient_matrix_ever_stands_in_memory(call):
    rng = np.random.default_rng(10)
    factored = Gradients.of(rng.normal(size=(1500, 200)), rng.normal(size=(1500, 128)))
    assert peak_bytes(lambda: call(factored)) < 1500 * 200 * 129 * 8 / 50


def test_no_whole_information_factors_ever_stand_in_memory(monkeypatch):
    monkeypatch.setattr(_fisher, "_BLOCK_VALUES", 1 << 18)
    rng = np.random.default_rng(11)
    left, feature = rng.normal(size=(4000, 6, 6)), rng.normal(size=(4000, 40))
    assert peak_bytes(lambda: forward_backward(Trace(left, feature, 1.0), 2, 2.0)) < 4000 * 6 * 240 * 8 / 2


@pytest.mark.trains
@pytest.mark.parametrize("select", [gradmatch.select, badge.select, bait.select])
@pytest.mark.parametrize(("what", "message"), [("features", "the feature of"), ("logits", "a logit of")])
def test_broken_features_and_logits_name_the_image(select, what, message):
    context = digits_context()
    values = (context.features() if what == "features" else context.logits()).copy()
    values[77, 3] = np.nan
    train, context = given(digits().labels, **{what: values})
    with pytest.raises(ValueError, match=f"{message} image 77 is not finite"):
        select(train, 2, context)


@pytest.mark.trains
@pytest.mark.parametrize(
    ("select", "parameters", "message"),
    [
        (gradmatch.select, {"ridge": 0.0}, "ridge is 0.0; it must be a number above 0"),
        (bait.select, {"information": "half"}, 'information is \'half\'; it must be "binary" or "full"'),
        (bait.select, {"ridge": float("nan")}, "ridge is nan"),
        (bait.select, {"oversample": 0.5}, "oversample is 0.5; it must be at least 1"),
        (badge.select, {"label": "x"}, 'label is \'x\'; it must be "predicted" or "given"'),
    ],
)
def test_a_bad_argument_is_refused_with_what_is_allowed(select, parameters, message):
    with pytest.raises(ValueError, match=message):
        select(digits(), 1, digits_context(), **parameters)
