"""Learning rates: every epoch of every schedule is what torch's own schedulers and the published formulas say."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as theirs

import bench.training.loop
from bench.protocol.recipe import Optimizer, Schedule
from bench.training.rates import factor
from tests.worlds.lessons import hard, network, run

WARM = {"warmup": 5, "warmup_start": 0.01}


def rates(schedule: Schedule, epochs: int) -> list[float]:
    return [factor(schedule, epoch, epochs) for epoch in range(epochs)]


def torchs(make, epochs: int) -> list[float]:
    """The rate of every epoch under a scheduler of torch that is stepped after each of them."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler, seen = make(optimizer), []
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def warm(rest):
    """torch's way of a warm-up of five epochs."""
    return lambda o: theirs.SequentialLR(o, [theirs.LinearLR(o, 0.01, total_iters=5), rest(o)], [5])


def edc_ssrs(e: int, epochs: int, zeta: float) -> float:
    """The smoothing schedule as EDC's code has it."""
    if e <= epochs * 5 / 6:
        return 0.5 * (1 + math.cos(math.pi * e / zeta / epochs))
    return 0.5 * (1 + math.cos(math.pi * 5 / zeta / 6)) * (6 * epochs - 6 * e) / (6 * epochs)


@pytest.mark.trains
@pytest.mark.parametrize("epochs", [6, 100, 300, 400])
@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (Schedule(), lambda e: lambda o: theirs.CosineAnnealingLR(o, T_max=e)),
        (Schedule(zeta=2), lambda e: lambda o: theirs.CosineAnnealingLR(o, T_max=2 * e)),
        (Schedule(**WARM), lambda e: warm(lambda o: theirs.CosineAnnealingLR(o, T_max=e - 5))),
        (
            Schedule(name="linear"),
            lambda e: lambda o: theirs.LinearLR(o, start_factor=1, end_factor=1 / e, total_iters=e - 1),
        ),
        (Schedule(name="linear", **WARM), lambda e: warm(lambda o: theirs.LambdaLR(o, lambda k: 1 - k / (e - 5)))),
        (
            Schedule(name="multistep", milestones=(3, 90, 250), gamma=0.5),
            lambda _: lambda o: theirs.MultiStepLR(o, [3, 90, 250], gamma=0.5),
        ),
        (
            Schedule(name="multistep", milestones=(30, 60), **WARM),
            lambda _: warm(lambda o: theirs.MultiStepLR(o, [25, 55], gamma=0.1)),
        ),
        (Schedule(name="constant"), lambda _: lambda o: theirs.ConstantLR(o, factor=1)),
        (Schedule(name="constant", **WARM), lambda _: lambda o: theirs.LinearLR(o, 0.01, total_iters=5)),
        (Schedule(name="ssrs", zeta=2), lambda e: lambda o: theirs.LambdaLR(o, lambda k: edc_ssrs(k, e, 2))),
        (Schedule(name="ssrs", zeta=1.5), lambda e: lambda o: theirs.LambdaLR(o, lambda k: edc_ssrs(k, e, 1.5))),
        (
            Schedule(name="ssrs", zeta=2, **WARM),
            lambda e: warm(lambda o: theirs.LambdaLR(o, lambda k: edc_ssrs(k, e - 5, 2))),
        ),
    ],
)
def test_every_epoch_has_the_rate_of_torchs_scheduler(schedule: Schedule, make, epochs: int):
    assert rates(schedule, epochs) == pytest.approx(torchs(make(epochs), epochs), rel=1e-9, abs=1e-12)


def test_the_published_ends_are_met():
    assert rates(Schedule(), 300)[-1] == pytest.approx(2.7e-5, rel=0.02)
    assert rates(Schedule(zeta=2), 300)[-1] == pytest.approx(0.503, abs=5e-4)
    assert rates(Schedule(name="multistep", milestones=(2, 3)), 4) == pytest.approx([1, 1, 0.1, 0.01])


def test_the_smoothing_schedule_jumps_after_five_sixths():
    seen = rates(Schedule(name="ssrs", zeta=2), 300)
    assert (seen[250], seen[251]) == pytest.approx((0.629, 0.103), abs=1e-3)
    assert seen[299] == pytest.approx(seen[251] / 49)


class TheirALRS:
    """The rule as its authors' code has it: thresholds of 0.02, and a factor of 0.9."""

    def __init__(self, optimizer):
        self.optimizer, self.last_loss = optimizer, 999

    def step(self, loss: float) -> None:
        delta = self.last_loss - loss
        if delta < 0.02 and delta / self.last_loss < 0.02:
            for group in self.optimizer.param_groups:
                group["lr"] *= 0.9
        self.last_loss = loss


LOSS_DRIVEN = Schedule(name="loss-driven", gamma=0.9)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.one_of(st.floats(1e-3, 5), st.floats(0.99, 1.01)), max_size=12))
def test_the_loss_driven_schedule_is_the_published_one(losses):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    alrs = TheirALRS(optimizer)
    for epoch, loss in enumerate(losses):
        alrs.step(loss)
        ours = factor(LOSS_DRIVEN, epoch + 1, 20, losses[: epoch + 1])
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"])


def test_a_loss_driven_rate_falls_where_the_loss_hardly_does():
    assert factor(LOSS_DRIVEN, 0, 9) == 1
    assert factor(LOSS_DRIVEN, 2, 9, [2.0, 1.0]) == 1
    assert factor(LOSS_DRIVEN, 2, 9, [2.0, 1.985]) == 0.9  # less than .02, and less than 2 %
    assert factor(LOSS_DRIVEN, 2, 9, [0.2, 0.185]) == 1  # less than .02, but 7.5 %
    assert factor(LOSS_DRIVEN, 4, 9, [1.0, 1.5, 1.5, 0.5]) == pytest.approx(0.81)  # it rose, and stood
    warm = Schedule(name="loss-driven", gamma=0.9, warmup=2, warmup_start=0.5)
    assert factor(warm, 1, 9, [1.0]) == 0.75
    assert factor(warm, 3, 9, [1.0, 1.0, 1.0]) == 1  # what stood still in the warm-up does not count
    assert factor(warm, 4, 9, [1.0, 1.0, 1.0, 1.0]) == 0.9


@pytest.mark.trains
def test_the_loop_hands_the_losses_of_past_epochs_to_the_schedule(monkeypatch):
    steps = record(monkeypatch)
    schedule = Schedule(name="loss-driven", gamma=0.5, loss_fall=10.0, loss_fall_share=0.99)
    log = run(network(), hard(4, optimizer=Optimizer(lr=0.02), schedule=schedule))
    expected = [0.02 * factor(schedule, epoch, 4, log.losses[:epoch]) for epoch in range(4) for _ in range(5)]
    assert [rate for _, rate in steps] == pytest.approx(expected)
    assert 0 < min(expected) < 0.02


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(["cosine", "ssrs", "linear", "constant"]),
    zeta=st.floats(1, 4),
    epochs=st.integers(3, 1000),
    warmup=st.integers(0, 2),
    at=st.floats(0, 1, exclude_max=True),
)
def test_a_rate_is_positive_never_above_the_base_and_falls_after_the_warm_up(name, zeta, epochs, warmup, at):
    schedule = Schedule(name=name, zeta=zeta, warmup=warmup)
    e = warmup + at * (epochs - warmup)
    assert 0 <= factor(schedule, e, epochs) <= 1
    assert factor(schedule, warmup, epochs) == 1
    assert factor(schedule, min(epochs, e + 0.5), epochs) <= factor(schedule, e, epochs)


def record(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """(which optimiser, its rate) at every step that the training loop takes from now on."""
    steps: list[tuple[int, float]] = []
    made: list[torch.optim.Optimizer] = []
    original = bench.training.loop.make_optimizer

    def watched(*args):
        optimizer = original(*args)
        made.append(optimizer)
        number = len(made)
        optimizer.register_step_pre_hook(lambda o, *_: steps.append((number, o.param_groups[0]["lr"])))
        return optimizer

    monkeypatch.setattr(bench.training.loop, "make_optimizer", watched)
    return steps


@pytest.mark.trains
def test_the_loop_sets_the_rate_once_an_epoch_or_at_every_step(monkeypatch):
    steps = record(monkeypatch)
    for per, progress in (("epoch", [0] * 5 + [1] * 5 + [2] * 5), ("step", [k / 5 for k in range(15)])):
        steps.clear()
        schedule = Schedule(warmup=1, warmup_start=0.1, per=per)
        run(network(), hard(3, optimizer=Optimizer(lr=0.02), schedule=schedule))
        assert [rate for _, rate in steps] == pytest.approx([0.02 * factor(schedule, e, 3) for e in progress])


@pytest.mark.trains
def test_a_restart_begins_with_a_fresh_optimiser_at_every_milestone(monkeypatch):
    steps = record(monkeypatch)
    schedule = Schedule(name="multistep", milestones=(1, 3), restart=True)
    run(network(), hard(4, batch=23, optimizer=Optimizer(name="sgd", lr=1.0, momentum=0.9), schedule=schedule))
    assert steps == [(1, 1.0), (2, pytest.approx(0.1)), (2, pytest.approx(0.1)), (3, pytest.approx(0.01))]
