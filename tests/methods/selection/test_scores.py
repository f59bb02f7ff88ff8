"""Methods that rank images by a score: each score against its formula by hand and a loop over images."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from scipy.stats import entropy

from methods import _dynamics
from methods.selection import aum, cad_prune, ccs, forgetting, grand, unbalanced, uncertainty
from tests.worlds.fakes import digits, digits_context, scored
from tests.worlds.scored import given


def random_dynamics(epochs: int, count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(float16 [epochs, count, classes], labels): some rows certain, some undecided."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(classes, 0.4), size=(epochs, count)).astype(np.float16)
    share[:, ::7] = np.float16(1 / classes)
    return share, rng.integers(0, classes, count)


def broken(share: np.ndarray, image: int) -> np.ndarray:
    share = share.copy()
    share[-1, image, 0] = np.nan
    return share


# AUM


@pytest.mark.parametrize("space", ["probability", "logit"])
def test_aum_is_the_margin_of_the_label_over_the_best_other_class(space):
    share, labels = random_dynamics(4, 23, 5)
    scores = _dynamics.margins(scored(share, labels), space)
    for image, label in enumerate(labels):
        gaps = []
        for epoch in range(4):
            row = np.maximum(share[epoch, image].astype(float), 2.0**-24)
            row = np.log(row) if space == "logit" else row
            gaps.append(row[label] - np.delete(row, label).max())
        assert scores[image] == pytest.approx(np.sum(gaps) if space == "probability" else np.mean(gaps), abs=1e-6)


def test_the_logit_margin_is_that_of_the_logits():
    logits = np.random.default_rng(0).normal(size=(1, 9, 4)) * 2
    share = (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32)
    labels = np.arange(9) % 4
    rest = np.where(np.eye(4, dtype=bool)[labels], -np.inf, logits[0]).max(1)
    expected = logits[0, np.arange(9), labels] - rest
    assert _dynamics.margins(scored(share, labels), "logit") == pytest.approx(expected, abs=1e-4)


def test_aum_takes_large_margins_as_easy_and_breaks_ties_by_index():
    own = np.array([0.9, 0.2, 0.9, 0.5, 0.1, 0.1])
    share = np.stack([own, 1 - own], axis=1)[None].astype(np.float16)
    train, context = given([0, 0, 0, 0, 1, 1], dynamics=share)
    assert aum.select(train, 2, context, epochs=1).tolist() == [0, 2, 4, 5]
    assert aum.select(train, 1, context, epochs=1, end="hard").tolist() == [1, 4]
    assert context.asked == []


# Forgetting


def naive_events(right: list[bool]) -> int:
    return sum(a and not b for a, b in pairwise(right))


@settings(max_examples=40, deadline=None, derandomize=True)
@drawn(st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=8))
def test_forgetting_counts_the_changes_from_right_to_wrong(histories):
    right = np.array(histories).T
    share = np.where(right[..., None], [0.8, 0.2], [0.3, 0.7])
    events, learnt = _dynamics.forgetting(scored(share, np.zeros(len(histories), dtype=np.int64)))
    assert events.tolist() == [naive_events(history) for history in histories]
    assert learnt.tolist() == [any(history) for history in histories]


def test_a_tie_between_classes_is_not_right():
    assert not _dynamics.forgetting(scored(np.full((3, 2, 4), 0.25), np.array([0, 3])))[1].any()


def history(*rows: str) -> np.ndarray:
    """Dynamics of two classes from words such as '+-+' (right, wrong, right), all labels 0."""
    right = np.array([[letter == "+" for letter in row] for row in rows]).T
    return np.where(right[..., None], [0.8, 0.2], [0.3, 0.7]).astype(np.float16)


def test_an_image_that_was_never_right_is_hard_unless_one_asks_for_the_published_code():
    share = history("----", "+-+-", "-+++", "+-++")
    world = [0, 0, 0, 0]
    train, context = given(world, dynamics=share)
    assert forgetting.select(train, 3, context, epochs=4).tolist() == [2, 3, 1]
    assert forgetting.select(train, 1, context, epochs=4, end="hard").tolist() == [0]
    assert set(forgetting.select(train, 2, context, epochs=4, never="easiest").tolist()) == {0, 2}


def test_equal_counts_are_drawn_by_lot_anew_in_every_replicate():
    share = history(*["-+++"] * 40)
    draws = [given([0] * 40, dynamics=share, replicate=r) for r in (0, 0, 1)]
    first, again, other = (forgetting.select(train, 5, context, epochs=4).tolist() for train, context in draws)
    assert first == again != other


# All classes together


@pytest.mark.parametrize("score", unbalanced.SCORES)
def test_without_balance_the_lowest_scores_of_all_classes_are_taken(score):
    share, labels = random_dynamics(4, 40, 5)
    train, context = given(labels, dynamics=share)
    values = unbalanced.scores(train, context, score=score, epochs=4)
    easy = unbalanced.select(train, 2, context, score=score, epochs=4)
    hard = unbalanced.select(train, 2, context, score=score, epochs=4, end="hard")
    for picks, side in ((easy, values), (hard, -values)):
        assert sorted(side[picks]) == sorted(side)[:10]
        assert len(set(picks.tolist())) == 10
    assert bool(context.asked) == (score in ("forgetting", "random"))


def test_the_scores_without_balance_are_those_of_the_methods_with_it():
    share, labels = random_dynamics(4, 40, 5)
    train, context = given(labels, dynamics=share)
    for score, method in (("aum", aum), ("forgetting", forgetting)):
        parameters = {name: value for name, value in method.select.__kwdefaults__.items() if name != "epochs"}
        theirs = method.scores(train, context, epochs=4, **parameters)
        ours = unbalanced.scores(train, context, score=score, epochs=4)
        assert np.array_equal(np.floor(ours) if score == "forgetting" else ours, theirs)


def test_a_class_may_get_no_image_and_too_few_images_are_named():
    own = np.array([0.9, 0.8, 0.7, 0.1, 0.2, 0.1])
    share = np.stack([own, 1 - own], axis=1)[None].astype(np.float16)
    train, context = given([0, 0, 0, 0, 1, 1], dynamics=share)
    picks = unbalanced.select(train, 2, context, epochs=1)
    assert np.bincount(train.labels[picks], minlength=2).tolist() == [2, 2]
    assert set(unbalanced.select(train, 1, context, epochs=1, end="hard").tolist()) == {2, 3}
    uneven, its = given([0, 0, 0, 1], dynamics=share[:, :4])
    assert set(unbalanced.select(uneven, 1, its, score="aum", epochs=1, end="hard").tolist()) == {1, 2}
    for wrong, message in (
        ({"ipc": 4}, "ipc 4 of 2 classes are 8 images; there are 6"),
        ({"ipc": 0}, "ipc is 0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"score": "grand"}, "score is 'grand'"),
        ({"end": "middle"}, "end is 'middle'"),
    ):
        with pytest.raises(ValueError, match=message):
            unbalanced.select(train, **{"ipc": 2, "ctx": context, **wrong})


# GraNd


@pytest.mark.parametrize("source", ["teacher", "dynamics"])
def test_grand_is_the_norm_of_the_gradient_that_autograd_finds(source):
    rng = np.random.default_rng(1)
    logits, features = rng.normal(size=(12, 3)).astype(np.float32), rng.normal(size=(12, 4)).astype(np.float32)
    labels = np.arange(12) % 3
    norms = []
    for row, feature, label in zip(logits, features, labels, strict=True):
        weight = torch.zeros(3, 5, dtype=torch.float64, requires_grad=True)
        shifted = weight @ torch.tensor([*feature, 1.0], dtype=torch.float64) + torch.tensor(row, dtype=torch.float64)
        torch.nn.functional.cross_entropy(shifted[None], torch.tensor([label])).backward()
        norms.append(float(weight.grad.norm()))
    share = torch.softmax(torch.tensor(logits), 1).numpy()[None].repeat(2, axis=0)
    train, context = given(labels, logits=logits, features=features, dynamics=share)
    picks = grand.select(train, 4, context, source=source, epochs=2)
    hardest = grand.select(train, 1, context, source=source, epochs=2, end="hard")
    for label in range(3):
        own = np.flatnonzero(labels == label)
        assert picks[4 * label : 4 * label + 4].tolist() == own[np.argsort(np.array(norms)[own])].tolist()
        assert hardest[label] == own[np.argmax(np.array(norms)[own])]


def test_an_error_keeps_its_size_where_the_probability_is_one_to_double_precision():
    logits = np.array([[50.0, 0.0], [60.0, 0.0]])
    assert grand.error_lengths(logits, np.array([0, 0])) == pytest.approx(np.sqrt(2) * np.exp([-50.0, -60.0]))


def test_grand_averages_the_errors_of_the_epochs():
    share = np.array([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]])  # errors 0 and sqrt 2; twice sqrt 1/2
    train, context = given([0, 0], dynamics=share, features=np.array([[1.1], [1.0]]))
    assert grand.select(train, 1, context, epochs=1).tolist() == [0]  # no error after the first epoch
    assert grand.select(train, 1, context, epochs=2).tolist() == [1]  # equal errors on average; the shorter feature


# Uncertainty


def test_uncertainties_follow_their_formulas(monkeypatch):
    monkeypatch.setattr(uncertainty, "_CHUNK_VALUES", 21)
    logits = np.random.default_rng(2).normal(size=(17, 6)) * 3
    share = torch.softmax(torch.tensor(logits), 1).numpy()
    two = np.sort(share, axis=1)[:, -2:]
    assert uncertainty.uncertainties(logits, "entropy") == pytest.approx(entropy(share, axis=1))
    assert uncertainty.uncertainties(logits, "margin") == pytest.approx(1 - (two[:, 1] - two[:, 0]))
    assert uncertainty.uncertainties(logits, "confidence") == pytest.approx(1 - two[:, 1])


@pytest.mark.parametrize("score", ["entropy", "margin", "confidence"])
def test_the_high_end_is_the_undecided_one_and_ties_go_to_the_lowest_index(score):
    logits = np.array([[9.0, 0], [0, 0], [1.0, 0], [0, 0], [40.0, 0], [50.0, 0]])
    train, context = given([0, 0, 0, 0, 0, 0], logits=logits)
    assert uncertainty.select(train, 2, context, score=score).tolist() == [1, 3]
    assert uncertainty.select(train, 2, context, score=score, end="low").tolist() == [5, 4]


def test_a_single_class_has_no_uncertainty():
    for score in ("entropy", "margin", "confidence"):
        assert uncertainty.uncertainties(np.array([[3.0], [-2.0]]), score).tolist() == [0, 0]


# CCS


def test_budgets_fill_small_strata_and_share_the_rest():
    assert ccs.budgets(np.array([1, 50, 3, 50]), 20).tolist() == [1, 8, 3, 8]
    assert ccs.budgets(np.array([4, 0, 2]), 6).tolist() == [4, 0, 2]
    assert ccs.budgets(np.array([5, 1, 9, 2]), 2).tolist() == [1, 0, 1, 0]  # the largest strata get the few images


@settings(max_examples=60, deadline=None, derandomize=True)
@drawn(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.floats(0, 1))
def test_budgets_are_whole_within_the_sizes_and_never_favour_a_smaller_stratum(sizes, share):
    sizes, total = np.array(sizes), int(share * sum(sizes))
    found = ccs.budgets(sizes, total)
    assert found.sum() == total
    assert (found <= sizes).all()
    assert (np.diff(found[np.argsort(sizes, kind="stable")]) >= 0).all()


def test_strata_are_equally_wide():
    assert ccs.strata_of(np.array([0.0, 0.9, 1.1, 2.5, 4.0]), 4).tolist() == [0, 0, 1, 2, 3]
    assert ccs.strata_of(np.full(3, 7.0), 4).tolist() == [0, 0, 0]


@pytest.mark.parametrize("score", ["aum", "el2n"])
def test_ccs_drops_the_hardest_and_spreads_over_the_rest(score):
    own = np.linspace(0.98, 0.02, 100)
    share = np.stack([own, 1 - own], axis=1)[None].astype(np.float32)
    train, context = given([0] * 100, dynamics=share)
    picks = ccs.select(train, 7, context, score=score, strata=7, epochs=1)
    assert picks.max() < 70
    assert sorted(picks // 10) == list(range(7))  # one of each tenth
    assert ccs.select(train, 95, context, score=score, epochs=1).max() == 94  # as few are cut as the quota allows


def test_ccs_draws_anew_in_every_replicate():
    share = np.tile(np.float32([0.6, 0.4]), (1, 50, 1))
    draws = []
    for replicate in (0, 0, 1):
        train, context = given([0] * 50, dynamics=share, replicate=replicate)
        draws.append(ccs.select(train, 5, context, epochs=1).tolist())
    assert draws[0] == draws[1] != draws[2]


# CAD-Prune


def test_cad_is_the_mean_deviation_over_the_last_windows():
    own = np.random.default_rng(3).uniform(size=(9, 6))
    scores = cad_prune.cad_scores(own, span=4, window=3)
    for image in range(6):
        parts = [np.std(own[k : k + 4, image], ddof=1) for k in (9 - 4 - 3, 9 - 4 - 2, 9 - 4 - 1)]
        assert scores[image] == pytest.approx(np.mean(parts))


def test_the_run_is_as_long_as_the_students():
    assert cad_prune.matched_epochs(50_000, 1000, 300) == 6  # CIFAR-100 at 10 images per class
    assert cad_prune.matched_epochs(50_000, 5000, 300) == 30
    train, context = digits(), digits_context()
    for ipc, student_epochs, epochs in ((10, 300, 25), (1, 300, 4), (10, 120, 10)):
        _, watched = given(train.labels)
        cad_prune.select(train, ipc, watched, student_epochs=student_epochs)
        assert watched.epochs == [epochs]
    assert len(cad_prune.select(train, 2, context, span=5)) == 20


def test_cad_prune_takes_what_is_being_learnt_and_leaves_the_known_and_the_hopeless():
    known, hopeless, learning = np.full(8, 0.99), np.full(8, 0.01), np.linspace(0, 1, 8)
    own = np.stack([known, learning, hopeless, learning / 2], axis=1)
    train, context = given([0, 0, 0, 0], dynamics=np.stack([own, 1 - own], axis=2))
    assert cad_prune.select(train, 2, context, student_epochs=8 // 2).tolist() == [1, 3]


# All of them

BAD = [
    (aum.select, {"space": "logits"}, 'space is \'logits\'; it must be "probability" or "logit"'),
    (aum.select, {"epochs": 0}, "epochs is 0; it must be at least 1"),
    (forgetting.select, {"never": "no"}, "never is 'no'"),
    (forgetting.select, {"epochs": -1}, "epochs is -1"),
    (grand.select, {"source": "x"}, "source is 'x'"),
    (grand.select, {"epochs": 0}, "epochs is 0"),
    (uncertainty.select, {"score": "x"}, '"entropy", "margin" or "confidence"'),
    (ccs.select, {"cutoff": 1.0}, "cutoff is 1.0; it must be at least 0 and below 1"),
    (ccs.select, {"strata": 0}, "strata is 0"),
    (cad_prune.select, {"span": 1}, "span is 1; it must be 0 or at least 2"),
    (cad_prune.select, {"window": 0}, "window is 0"),
]


@pytest.mark.parametrize(("select", "parameters", "message"), BAD)
def test_a_bad_argument_is_refused_with_what_is_allowed(select, parameters, message):
    with pytest.raises(ValueError, match=message):
        select(digits(), 1, digits_context(), **parameters)


@pytest.mark.parametrize("select", [aum.select, forgetting.select, ccs.select, cad_prune.select, grand.select])
def test_broken_dynamics_name_the_image(select):
    share, _ = random_dynamics(30, 12, 3)
    train, context = given(np.arange(12) % 3, dynamics=broken(np.repeat(share[:1], 30, axis=0), 5))
    with pytest.raises(ValueError, match="image 5 are not finite"):
        select(train, 2, context, **({"student_epochs": 60} if select is cad_prune.select else {"epochs": 30}))


@pytest.mark.parametrize(
    ("select", "what"),
    [
        (uncertainty.select, "logits"),
        (grand.select, "features"),
        (lambda *a: grand.select(*a, source="teacher"), "logits"),
    ],
)
def test_broken_features_and_logits_name_the_image(select, what):
    context = digits_context()
    values = (context.features() if what == "features" else context.logits()).copy()
    values[77, 3] = np.inf
    train, context = given(digits().labels, **{what: values}, dynamics=context.dynamics(10))
    with pytest.raises(ValueError, match="image 77 is not finite"):
        select(train, 1, context)
