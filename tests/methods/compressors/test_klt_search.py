"""How `klt` fills a budget: steps, weights of bits row by row, and sets on which that is awkward."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.api import SoftLabels
from methods._codec.klt import basis, narrowing, plan, refine, sample
from methods._codec.klt import side as sides
from methods._codec.klt.codec import Coded, Scaled, Source
from methods._codec.klt.plan import Plan
from methods._codec.klt.refine import Likely
from methods._codec.klt.steps import PER_OCTAVE
from methods.compressors import klt
from tests.worlds.klt_labels import mixed


def of(values: np.ndarray) -> SoftLabels:
    return SoftLabels(torch.from_numpy(values.astype(np.float32)), torch.zeros(len(values), dtype=torch.int64))


def falling(seed: int, n: int, k: int, c: int) -> SoftLabels:
    rng = np.random.default_rng(seed)
    rows = 4 / np.sqrt(1 + np.arange(c)) * rng.standard_normal((n, k, c))
    return of(rows * np.exp(0.3 * rng.standard_normal((n, k, 1))))


def low_rank(seed: int, n: int, k: int, c: int, rank: int, sure: float = 0.0) -> SoftLabels:
    """`sure`: by how much the first class is above the others, at most."""
    rng = np.random.default_rng(seed)
    rights = rng.standard_normal((n, rank, c)) / np.sqrt(1 + np.arange(rank))[:, None]
    rows = 3 * rng.standard_normal((n, k, rank)) @ rights + 0.05 * rng.standard_normal((n, k, c))
    rows[:, :, 0] += sure * rng.random((n, k))
    return of(rows)


@pytest.mark.parametrize(
    ("labels", "budget"),
    [
        pytest.param(low_rank(1, 20, 30, 200, 8), 2835, id="likely classes take the more the coarser the step is"),
        pytest.param(falling(101, 8, 5, 300), 1271, id="likely classes turn out to take more than was thought"),
        pytest.param(mixed(2, 400, 200, 0, 10), 3800, id="other plans, other sizes"),
        pytest.param(falling(2, 8, 1, 200), 900, id="one row an image"),
        pytest.param(falling(3, 1, 1, 300), 250, id="one row"),
        pytest.param(falling(4, 1, 300, 3), 400, id="three classes"),
    ],
)
def test_most_of_a_budget_is_used(labels, budget):
    assert 0.95 * budget <= len(klt.encode(labels, budget, None)) <= budget


@pytest.fixture
def source() -> Source:
    values = np.ldexp(mixed(3, 40, 50, 0, 6).logits.numpy().astype(np.float32), -6)
    return Source(values, sides.plain(3, 40), basis.identity(50, 6), 20)


def coded(source: Source) -> Coded:
    index = 10 * PER_OCTAVE
    images = np.arange(3)
    found = source.code(index, images, source.plans(index, images), np.arange(40))
    source.refine(found, 1)
    return found


def test_rows_that_are_weighed_anew_are_coded_as_if_all_were(source):
    """Some rows of one image; their neighbours stay as they were, and so does everything with the usual weight."""
    before, after, all_of_them = coded(source), coded(source), coded(source)
    at = np.array([0, 7, 8, 39])
    source.weigh(after, 1, at, 1.5)
    source.weigh(all_of_them, 1, np.arange(40), 1.5)
    others = np.setdiff1d(np.arange(40), at)
    for rows, expected in ((at, all_of_them), (others, before)):
        assert np.array_equal(after.rows[1].levels[rows], expected.rows[1].levels[rows])
        assert np.array_equal(after.rows[1].cells[rows], expected.rows[1].cells[rows])
        mine, theirs = (np.isin(one.fine[1].likely.row, rows) for one in (after, expected))
        for part in range(3):
            assert np.array_equal(after.fine[1].likely[part][mine], expected.fine[1].likely[part][theirs])
        assert np.array_equal(after.fine[1].errors[mine], expected.fine[1].errors[theirs])
    assert (np.diff(after.fine[1].likely.row) >= 0).all()
    assert all_of_them.of_rows() < before.of_rows()
    source.weigh(after, 1, at, 1.0)
    assert after.bytes() == before.bytes()
    for part in ("levels", "cells"):
        for rows, expected in zip(
            (*after.rows, after.fine[1].paths), (*before.rows, before.fine[1].paths), strict=True
        ):
            assert np.array_equal(getattr(rows, part), getattr(expected, part))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_logits_that_are_scaled_where_they_are_read_are_coded_as_if_all_were_before(source, dtype):
    logits = mixed(3, 40, 50, 0, 6).logits.numpy().astype(dtype)
    before = logits.copy()
    expected, found = coded(source), coded(Source(Scaled(logits, 6), sides.plain(3, 40), basis.identity(50, 6), 20))
    assert found.bytes() == expected.bytes()
    for mine, theirs in zip(found.rows, expected.rows, strict=True):
        assert np.array_equal(mine.levels, theirs.levels)
    assert np.array_equal(logits, before)


def test_views_of_a_stream_have_paths_of_their_own(source):
    """So that it is read without the others: as if its views were all."""
    images, views, index = np.arange(3), np.arange(40), 10 * PER_OCTAVE
    whole = coded(source)
    assert whole.edges.tolist() == [0, 20, 40]
    second = source.code(index, images, source.plans(index, images), views[20:])
    assert second.edges.tolist() == [0, 20]
    for one, other in zip(whole.lead, second.lead, strict=True):
        assert np.array_equal(one.paths.levels[20:], other.paths.levels)
        assert np.array_equal(one.points[20:], other.points)
    first = whole.fine[1].likely.row < 20
    again = source._fine(
        Likely(*(part[first] for part in whole.fine[1].likely)),
        whole.fine[1].errors[first],
        whole.head.refined[1],
        source.code(index, images, source.plans(index, images), views[:20]),
    )
    assert np.array_equal(again.points, whole.fine[1].points[first])


def test_likely_classes_of_some_rows_replace_those_that_were_there():
    """Row 1 had three and gets one, row 3 had none and gets two, row 0 loses its one."""
    likely = Likely(np.array([0, 1, 1, 1, 2]), np.array([5, 0, 3, 9, 4]), np.array([1, 2, 3, 4, 1], np.int8))
    fresh = Likely(np.array([1, 2, 2]), np.array([8, 1, 6]), np.array([4, 4, 2], np.int8))

    merged, errors = refine.spliced(likely, np.arange(10.0, 15), np.array([0, 1, 3]), fresh, np.arange(20.0, 23))
    assert merged.row.tolist() == [1, 2, 3, 3]
    assert merged.column.tolist() == [8, 4, 1, 6]
    assert merged.grade.tolist() == [4, 1, 4, 2]
    assert errors.tolist() == [20, 14, 21, 22]


@pytest.mark.parametrize("rows", [1, 64, 65, 300, 4000])
@pytest.mark.parametrize("log", [-0.5, -0.137, 0.0, 0.0004, 0.2, 0.37])
def test_weights_have_the_mean_that_is_wanted_and_two_neighbouring_values(rows, log):
    weights = narrowing.Weights()
    weights._log = log
    logs = weights.of(rows)
    assert logs.mean() == pytest.approx(log, abs=narrowing.LOG_STEP / rows + 1e-9)
    assert len(np.unique(logs)) <= 2


def test_few_rows_change_where_little_is_wanted():
    """So that little is coded anew, and those are spread evenly over views."""
    weights = narrowing.Weights()
    before = weights.of(300)
    weights._log = 0.02
    changed = np.flatnonzero(weights.of(300) != before)
    assert len(changed) == 300 * 0.02 / narrowing.LOG_STEP
    assert np.diff(changed).max() <= 3 * 300 / len(changed)


def planned(bits: np.ndarray) -> Plan:
    return Plan(False, np.zeros((0, 1), np.float32), np.zeros(1), 0.0, bits)


@pytest.mark.parametrize("views", [1, 2, 11, 13, 16, 25, 36, 300])
@pytest.mark.parametrize("most", [1, 12, 64])
def test_a_sample_has_small_and_large_rows_as_all_have_and_none_twice(views, most):
    bits = np.random.default_rng(views).normal(100, 30, views)
    some = sample._typical([planned(bits)], most)
    assert some.tolist() == sorted(set(some.tolist()))
    assert len(some) == min(views, most)
    if most <= views and most >= 12:
        assert bits[some].mean() == pytest.approx(bits.mean(), abs=0.25 * 30)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.data())
def test_rows_that_stand_for_all_make_up_their_number(bits, data):
    """And, unless they are all unlike the others, what is known of all: bits that depend on it alone are exact."""
    bits = np.array(bits)
    views = np.array(data.draw(st.lists(st.integers(0, len(bits) - 1), min_size=1, max_size=len(bits), unique=True)))
    counts = planned(bits).counts(views)
    assert counts.sum() == pytest.approx(len(bits))
    if len(views) == len(bits):
        assert counts == pytest.approx(np.ones(len(bits)), abs=1e-6)
    if bits[views].std() > abs(bits[views].mean() - bits.mean()) + 1e-3 * bits.max():
        assert counts @ (3 * bits[views] + 7) == pytest.approx(3 * bits.sum() + 7 * len(bits))


@pytest.mark.parametrize("loud", [1.0, 4.0])
def test_what_is_known_of_all_rows_tells_what_they_take_better_than_some_rows_do(loud):
    """The bits of 300 rows, told by 20 of them, many times: the error is less than half as large, where they are half a
    bit a coefficient and more. (With a fifth of a bit it is .56, with a thirtieth .75 of what it was.)"""
    values = np.ldexp(falling(5, 1, 300, 60).logits.numpy() * np.float32(loud), -6)
    source, images, index = Source(values, sides.plain(1, 300), basis.identity(60, 6), 300), np.arange(1), 10 * 1024
    plans = source.plans(index, images)
    bits = source.code(index, images, plans, np.arange(300)).rows[0].bits
    assert bits.mean() > 0.5 * 60
    rng, errors = np.random.default_rng(0), []
    for _ in range(200):
        views = rng.choice(300, 20, replace=False)
        errors.append([plans[0].counts(views) @ bits[views] - bits.sum(), 15 * bits[views].sum() - bits.sum()])
    calibrated, plain = np.sqrt(np.square(errors).mean(0))
    assert calibrated < 0.5 * plain


@pytest.mark.parametrize("start", [6826, 5000, 12000])
def test_the_step_at_which_sizes_jump_is_found_soon(start):
    """What sizes grow by elsewhere tells nothing there: one would creep up to it step by step."""

    def size(index: int) -> float:
        return 2000 * 2 ** (index / 4096) * (1.6 if index > 6844 else 1)

    bracket, index, target, tries = narrowing.Bracket(), start, 1.02 * size(6844), 0
    while not bracket.closed:
        bracket.tell(index, size(index), size(index) <= target)
        index = bracket.step(index, size(index), np.log(2) / 4096, target)
        tries += 1
    assert bracket.low == 6844
    assert tries <= 24


def test_weights_go_back_to_those_that_kept_within_the_budget():
    weights = narrowing.Weights()
    assert not weights.back(1100, 1000)
    for size in (1100, 990, 1010):
        weights.tell(size, 1000, 400)
    fits = weights._told[1][0]
    assert weights.back(1100, 1000)
    assert weights._log == fits
    weights.forget()
    assert weights._log == fits
    assert not weights.back(1100, 1000)
    assert weights.back(980, 1000)
    assert weights._log == 0


@pytest.mark.parametrize(
    ("labels", "budget", "least"),
    [
        pytest.param(mixed(3, 300, 200, 0, 6), 20_000, 0.997, id="three images"),
        pytest.param(mixed(1, 300, 200, 0, 6), 6000, 0.997, id="one image"),
        pytest.param(low_rank(7, 25, 54, 38, 4, sure=12), 3420, 0.99, id="what is left is too little to be weighed"),
        pytest.param(low_rank(2, 25, 54, 38, 4, sure=12), 3420, 0.99, id="and likely classes grow besides"),
    ],
)
def test_little_of_a_budget_is_left_where_rows_are_many(labels, budget, least):
    assert least * budget <= len(klt.encode(labels, budget, None)) <= budget


@pytest.mark.parametrize(("rows", "square"), [(24, 1589491.75), (13, 4131105.75), (5, 3.0)])
def test_components_are_found_of_rows_that_are_all_alike(rows, square):
    """LAPACK's fastest routine gives up on some such matrices in single precision, the first two among them."""
    values, vectors = plan._leading(np.full((rows, rows), square, np.float32), rows - 1)
    assert values[0] == pytest.approx(rows * square, rel=1e-5)
    assert np.abs(values[1:]).max() < 1e-5 * values[0]
    assert np.abs(vectors[:, 0]) == pytest.approx(np.full(rows, rows**-0.5), rel=1e-5)


def test_a_constant_that_a_basis_has_no_room_for_is_lost_for_all_classes():
    """At the finest steps rows are coded with their offsets, which softmax does not see. A basis that leaves them out
    cannot tell them; likely classes alone must not make them good."""
    rng = np.random.default_rng(1)
    axes = rng.standard_normal((4, 40))
    axes = np.linalg.qr((axes - axes.mean(1, keepdims=True)).T)[0].T
    labels = of(40 * rng.standard_normal((4, 13, 4)) @ axes - 40)
    known, flat = basis.identity(40, 8), np.full(4, -48, np.int32)
    known = replace(known, vectors=np.rint(axes * 2**16), precision=16, rows=flat, means=flat)

    blob = klt.encode(labels, 40_000, None, shared=known.to_bytes())
    error = klt.decode(blob, shared=known.to_bytes()).double() - labels.logits.double()
    assert float(error.mean(2).min()) > 30
    error -= error.mean(2, keepdim=True)
    assert float(error.abs().max()) < 1e-2
