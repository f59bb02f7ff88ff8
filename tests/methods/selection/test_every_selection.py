"""Every selection method: exact quotas and determinism; EL2N and herding against naive loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods._el2n import el2n_scores
from methods.selection import el2n, herding, uniform
from tests.worlds.fakes import FakeContext, FakeTrain, digits, digits_context, scored, trained_teacher

METHODS = [uniform.select, el2n.select, herding.select]
DETERMINISTIC = [el2n.select, herding.select]


def small_world(class_sizes: list[int]) -> FakeTrain:
    """Random 8 pixel images with the given class sizes, in mixed order."""
    labels = np.repeat(np.arange(len(class_sizes)), class_sizes)
    rng = np.random.default_rng(3)
    return FakeTrain(rng.integers(0, 256, (len(labels), 1, 8, 8), dtype=np.uint8), rng.permutation(labels))


def context_of(train: FakeTrain, replicate: int = 0) -> FakeContext:
    return FakeContext(train, trained_teacher(), replicate=replicate)


@pytest.mark.parametrize("select", METHODS)
@pytest.mark.parametrize("ipc", [1, 10])
def test_every_method_returns_exactly_ipc_distinct_digits_of_each_class(select, ipc):
    train = digits()
    picks = select(train, ipc, digits_context())
    assert picks.dtype == np.int64
    assert len(set(picks.tolist())) == len(picks)
    assert np.array_equal(np.bincount(train.labels[picks]), np.full(10, ipc))


@pytest.mark.parametrize("select", METHODS)
def test_the_same_replicate_gives_the_same_picks(select):
    assert np.array_equal(select(digits(), 5, digits_context()), select(digits(), 5, digits_context()))


def test_random_differs_between_replicates():
    draws = {tuple(uniform.select(digits(), 5, digits_context(replicate=r))) for r in range(5)}
    assert len(draws) == 5


@pytest.mark.parametrize("select", DETERMINISTIC)
def test_a_deterministic_method_asks_for_no_generator(select):
    context = digits_context()
    select(digits(), 3, context)
    assert context.asked == []


@pytest.mark.parametrize("select", METHODS)
def test_ipc_of_the_class_size_takes_the_whole_class(select):
    train = small_world([4, 4, 4])
    assert sorted(select(train, 4, context_of(train))) == list(range(12))


@pytest.mark.parametrize("select", METHODS)
def test_a_class_that_is_too_small_is_named(select):
    train = small_world([5, 3, 5])
    with pytest.raises(ValueError, match=r"class 1 has 3 images, too few for ipc 4"):
        select(train, 4, context_of(train))
    with pytest.raises(ValueError, match="ipc is 0"):
        select(train, 0, context_of(train))


@pytest.mark.parametrize("select", DETERMINISTIC)
def test_renaming_the_classes_does_not_change_the_picks(select):
    train, new_name = digits(), np.array([3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
    renamed = FakeTrain(train.sources(np.arange(len(train))).numpy(), new_name[train.labels])
    assert sorted(select(train, 4, digits_context())) == sorted(select(renamed, 4, context_of(renamed)))


# EL2N


def test_el2n_is_the_sum_over_epochs_of_the_distance_to_the_one_hot_label():
    rng = np.random.default_rng(0)
    share, labels = rng.dirichlet(np.ones(7), size=(4, 23)).astype(np.float16), rng.integers(0, 7, 23)
    for image, score in enumerate(el2n_scores(scored(share, labels))):
        onehot = np.eye(7)[labels[image]]
        assert score == pytest.approx(sum(np.linalg.norm(share[e, image].astype(float) - onehot) for e in range(4)))


def test_el2n_of_a_certainly_wrong_image_is_the_square_root_of_two_an_epoch():
    wrong = np.zeros((3, 1, 5), dtype=np.float16)
    wrong[:, 0, 2] = 1
    assert el2n_scores(scored(wrong, np.array([0]))) == pytest.approx([3 * 2**0.5])
    assert el2n_scores(scored(wrong, np.array([2]))) == pytest.approx([0])


def test_el2n_reads_memory_mapped_dynamics(tmp_path):
    log = digits_context().dynamics_scores(3)
    np.save(tmp_path / "log.npy", log.error)
    mapped = np.load(tmp_path / "log.npy", mmap_mode="r", allow_pickle=False)
    assert np.array_equal(el2n_scores(replace(log, error=mapped)), el2n_scores(log))


def test_the_easy_end_scores_below_the_hard_end_and_ranks_its_picks():
    train, context = digits(), digits_context()
    scores = el2n_scores(context.dynamics_scores(10))
    easy, hard = el2n.select(train, 6, context), el2n.select(train, 6, context, end="hard")
    for label in range(10):
        own = np.sort(scores[train.labels == label])
        assert scores[easy[label * 6 : label * 6 + 6]] == pytest.approx(own[:6])
        assert scores[hard[label * 6 : label * 6 + 6]] == pytest.approx(own[::-1][:6])


@pytest.mark.parametrize("end", ["easy", "hard"])
def test_equal_scores_go_to_the_lowest_index(end, monkeypatch):
    train = small_world([6, 6])
    monkeypatch.setattr(FakeContext, "dynamics", lambda _, epochs: np.full((epochs, 12, 2), 0.5, dtype=np.float16))
    picks = el2n.select(train, 2, context_of(train), end=end)
    assert picks.tolist() == [*train.class_indices(0)[:2], *train.class_indices(1)[:2]]


def test_el2n_refuses_bad_arguments_and_broken_dynamics(monkeypatch):
    with pytest.raises(ValueError, match="epochs is 0; it must be at least 1"):
        el2n.select(digits(), 1, digits_context(), epochs=0)
    with pytest.raises(ValueError, match='"easy" or "hard"'):
        el2n.select(digits(), 1, digits_context(), end="middle")  # type: ignore[arg-type]
    broken = np.full((2, 5, 3), 1 / 3, dtype=np.float16)
    broken[1, 3, 0] = np.nan
    with pytest.raises(ValueError, match="image 3 are not finite"):
        el2n_scores(scored(broken, np.zeros(5, dtype=np.int64)))


# Herding


def naive_distances(rows: np.ndarray, picks: list[int]) -> np.ndarray:
    """||mean - mean of picks and candidate|| of every row that is not picked yet (inf for the others)."""
    out = np.full(len(rows), np.inf)
    for row in set(range(len(rows))) - set(picks):
        out[row] = np.linalg.norm(rows.mean(0) - rows[[*picks, row]].mean(0))
    return out


def assert_every_pick_is_best(rows: np.ndarray, picks: np.ndarray) -> None:
    scale = max(1.0, np.abs(rows).max())
    for turn, pick in enumerate(picks.tolist()):
        distances = naive_distances(rows, picks[:turn].tolist())
        assert distances[pick] <= distances.min() + 1e-4 * scale


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 1000), st.sampled_from(["normal", "twice", "zeros"]))
def test_each_herding_pick_is_the_nearest_to_the_mean(n, d, seed, kind):
    rows = np.random.default_rng(seed).normal(size=(n, d))
    if kind == "twice":
        rows = np.concatenate([rows, rows])
    elif kind == "zeros":
        rows[::2] = 0
    picks = herding.herd(rows, len(rows))
    assert sorted(picks) == list(range(len(rows)))
    assert_every_pick_is_best(rows, picks)


def test_herding_of_digits_equals_the_naive_greedy():
    features, train = digits_context().features(), digits()
    picks = herding.select(train, 8, digits_context())
    for label in range(10):
        own = train.class_indices(label)
        rows, done = features[own].astype(np.float64), []
        for _ in range(8):
            done.append(int(np.argmin(naive_distances(rows, done))))
        assert picks[label * 8 : label * 8 + 8].tolist() == own[done].tolist()


def test_herding_follows_the_class_mean_better_than_random_does():
    train, context = digits(), digits_context()
    features = context.features()

    def miss(picks: np.ndarray) -> float:
        groups = [(features[picks[train.labels[picks] == c]], features[train.labels == c]) for c in range(10)]
        return sum(float(np.linalg.norm(some.mean(0) - every.mean(0))) for some, every in groups)

    assert miss(herding.select(train, 10, context)) < 0.5 * miss(uniform.select(train, 10, context))


def test_identical_rows_are_picked_in_order():
    assert herding.herd(np.tile(np.random.default_rng(0).normal(size=33), (70, 1)), 5).tolist() == [0, 1, 2, 3, 4]


def test_unit_norm_ignores_the_length_of_a_feature(monkeypatch):
    train, features = digits(), digits_context().features()
    picks = herding.select(train, 5, digits_context(), unit_norm=True)
    stretched = features * np.random.default_rng(0).uniform(0.5, 2, (len(features), 1)).astype(np.float32)
    monkeypatch.setattr(FakeContext, "features", lambda _: stretched)
    assert np.array_equal(picks, herding.select(train, 5, digits_context(), unit_norm=True))


def test_herding_names_the_image_whose_feature_is_not_finite(monkeypatch):
    features = digits_context().features().copy()
    features[77, 0] = np.nan
    monkeypatch.setattr(FakeContext, "features", lambda _: features)
    with pytest.raises(ValueError, match="image 77 is not finite"):
        herding.select(digits(), 2, digits_context())
