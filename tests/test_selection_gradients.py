"""Methods on last-layer gradients: the factored form, GradMatch, BADGE and BAIT against whole matrices and loops."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from _fakes import digits, digits_context
from _scored import given
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from scipy.stats import chisquare

from methods._lastlayer import Gradients, residuals
from methods.selection import badge, bait, gradmatch, uniform

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


def test_badge_looks_at_the_predicted_class_unless_told_otherwise():
    # The teacher is sure that image 1 is of class 1: by its own prediction there is little to learn, by the label much.
    logits = np.array([[1.0, 0.0], [0.0, 9.0], [8.0, 0.0]])
    train, context = given([0, 0, 0, 1], logits=np.concatenate([logits, [[0.0, 0.0]]]), features=np.ones((4, 2)))
    assert badge.select(train, 1, context)[0] == 0
    assert badge.select(train, 1, context, label="given")[0] == 1


# BAIT


def trace_of(rows: np.ndarray, picks: list[int], ridge: float) -> float:
    information = ridge * np.eye(rows.shape[1]) + rows[picks].T @ rows[picks]
    return float(np.trace(np.linalg.inv(information) @ (rows.T @ rows / len(rows))))


def naive_forward_backward(rows: np.ndarray, count: int, ridge: float, oversample: float) -> list[int]:
    added: list[int] = []
    for _ in range(min(len(rows), max(count, round(oversample * count)))):
        left = [row for row in range(len(rows)) if row not in added]
        added.append(min(left, key=lambda row: trace_of(rows, [*added, row], ridge)))
    while len(added) > count:
        added.remove(min(added, key=lambda row: trace_of(rows, [a for a in added if a != row], ridge)))
    return added


@settings(max_examples=25, deadline=None, derandomize=True)
@drawn(
    st.integers(2, 12),
    st.integers(1, 5),
    st.integers(0, 1000),
    st.sampled_from([0.01, 1.0]),
    st.sampled_from([1, 2, 3]),
)
def test_forward_backward_equals_a_loop_that_inverts_every_matrix(n, d, seed, ridge, oversample):
    rows = np.random.default_rng(seed).normal(size=(n, d))
    count = max(1, n // 3)
    assert bait.forward_backward(rows, count, ridge, oversample).tolist() == naive_forward_backward(
        rows, count, ridge, oversample
    )


@settings(max_examples=25, deadline=None, derandomize=True)
@drawn(st.integers(1, 8), st.integers(0, 1000), KINDS, st.sampled_from([1.0, 2.0]))
def test_forward_backward_fills_every_quota(n, seed, kind, oversample):
    _, rows = factors(n, seed, kind)
    for count in (1, len(rows)):
        picks = bait.forward_backward(rows, count, 1.0, oversample)
        assert len(set(picks.tolist())) == count


def test_equal_rows_are_taken_from_the_first_on():
    assert bait.forward_backward(np.ones((6, 2)), 2, 1.0, 2.0).tolist() == [0, 1]
    assert bait.forward_backward(np.zeros((6, 2)), 2, 1.0, 2.0).tolist() == [0, 1]


def test_the_kept_trace_stays_exact_over_hundreds_of_changes():
    rows = np.random.default_rng(7).normal(size=(400, 20))
    trace = bait._Trace(rows, 1e-3)
    for row in range(300):
        trace.change(row, 1.0)
    for row in range(200):
        trace.change(row, -1.0)
    inverse = np.linalg.inv(1e-3 * np.eye(20) + rows[200:300].T @ rows[200:300])
    assert trace.own == pytest.approx(np.einsum("nd,de,ne->n", rows, inverse, rows), rel=1e-8)
    whole = inverse @ (rows.T @ rows / 400) @ inverse
    assert trace.target == pytest.approx(np.einsum("nd,de,ne->n", rows, whole, rows), rel=1e-8)


def test_for_two_classes_the_binary_form_is_the_whole_information_at_twice_the_ridge():
    rng = np.random.default_rng(8)
    features, share = rng.normal(size=(10, 3)), rng.uniform(0.1, 0.9, 10)
    binary = np.sqrt(share * (1 - share))[:, None] * features
    both = np.stack([share, 1 - share], axis=1)
    whole = [np.kron(np.diag(p) - np.outer(p, p), np.outer(h, h)) for p, h in zip(both, features, strict=True)]
    fisher = np.mean(whole, axis=0)
    for picks in ([0], [1, 4], [2, 3, 9]):
        information = 2.0 * np.eye(6) + np.sum([whole[row] for row in picks], axis=0)
        assert np.trace(np.linalg.inv(information) @ fisher) == pytest.approx(trace_of(binary, picks, 1.0))


def test_bait_of_digits_explains_more_of_the_information_than_random_images_do():
    train, context = digits(), digits_context()
    logits, features = context.logits().astype(float), context.features().astype(float)
    picks, others = bait.select(train, 5, context), uniform.select(train, 5, context)
    own = train.class_indices(3)
    share = np.exp(logits[own]) / np.exp(logits[own]).sum(1, keepdims=True)
    scale = np.sqrt((features[own] ** 2).sum(1).mean())
    rows = np.sqrt(share[:, 3] * (1 - share[:, 3]))[:, None] * np.c_[features[own] / scale, np.ones(len(own))]
    mine, theirs = (np.searchsorted(own, p[train.labels[p] == 3]).tolist() for p in (picks, others))
    assert trace_of(rows, mine, 1.0) < 0.9 * trace_of(rows, theirs, 1.0)
    assert sorted(mine) == sorted(naive_forward_backward(rows, 5, 1.0, 2.0))


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


@pytest.mark.parametrize("select", [gradmatch.select, badge.select, bait.select])
@pytest.mark.parametrize(("what", "message"), [("features", "the feature of"), ("logits", "a logit of")])
def test_broken_features_and_logits_name_the_image(select, what, message):
    context = digits_context()
    values = (context.features() if what == "features" else context.logits()).copy()
    values[77, 3] = np.nan
    train, context = given(digits().labels, **{what: values})
    with pytest.raises(ValueError, match=f"{message} image 77 is not finite"):
        select(train, 2, context)


@pytest.mark.parametrize(
    ("select", "parameters", "message"),
    [
        (gradmatch.select, {"ridge": 0.0}, "ridge is 0.0; it must be a number above 0"),
        (bait.select, {"ridge": float("nan")}, "ridge is nan"),
        (bait.select, {"oversample": 0.5}, "oversample is 0.5; it must be at least 1"),
        (badge.select, {"label": "x"}, 'label is \'x\'; it must be "predicted" or "given"'),
    ],
)
def test_a_bad_argument_is_refused_with_what_is_allowed(select, parameters, message):
    with pytest.raises(ValueError, match=message):
        select(digits(), 1, digits_context(), **parameters)
