"""An average of the parameters: a plain loop over all steps says the same, and nothing else is averaged."""

from __future__ import annotations

import pytest
import torch

import bench.training.loop
from bench.protocol.recipe import Optimizer, Recipe
from bench.training.loop import make_optimizer
from tests.worlds.lessons import N, close, hard, network, run, same, soft, stored


def test_an_average_of_the_parameters_is_the_result_if_asked_for():
    trail, states = network(), []
    run(trail, hard(3, batch=N), on_epoch_end=lambda _, s: states.append([p.detach().clone() for p in s.parameters()]))
    averaged = network()
    run(averaged, hard(3, batch=N, ema=0.5))
    expected = [p.detach().clone() for p in network().parameters()]
    for state in states:
        expected = [0.5 * a + 0.5 * b for a, b in zip(expected, state, strict=True)]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(averaged.parameters(), expected, strict=True))
    assert same(list(averaged.buffers()), list(trail.buffers()))


@pytest.mark.parametrize(
    "recipe",
    [
        hard(3, ema=0.99),
        soft(2, ema=0.9, optimizer=Optimizer(name="sgd", lr=0.05)),
        hard(2, batch=10, accumulation=2, ema=0.9),
    ],
    ids=["adamw", "sgd", "accumulated"],
)
def test_every_optimiser_step_counts_from_the_first_weights_on(recipe: Recipe, monkeypatch: pytest.MonkeyPatch):
    student, plain, states = network(), network(), []
    original = make_optimizer

    def watched(student, spec):
        optimizer = original(student, spec)
        optimizer.register_step_post_hook(lambda *_: states.append([p.detach().double() for p in student.parameters()]))
        return optimizer

    reader = stored() if recipe.labels == "stored" else None
    log = run(student, recipe, reader=reader)
    monkeypatch.setattr(bench.training.loop, "make_optimizer", watched)
    run(plain, recipe.model_copy(update={"ema": 0.0}), reader=reader)
    assert len(states) == log.steps
    expected = [p.detach().double() for p in network().parameters()]
    for state in states:
        expected = [recipe.ema * a + (1 - recipe.ema) * b for a, b in zip(expected, state, strict=True)]
    assert close([p.detach().double() for p in student.parameters()], expected)
    assert same(list(student.buffers()), list(plain.buffers()))


def test_the_average_remembers_no_step(monkeypatch: pytest.MonkeyPatch):
    """Recorded by autograd, every step would stay in memory until the training ends."""
    original, remembering = torch._foreach_lerp_, []

    def watched(average, parameters, weight):
        original(average, parameters, weight)
        remembering.extend(each.requires_grad for each in average)

    monkeypatch.setattr(torch, "_foreach_lerp_", watched)
    log = run(network(), hard(2, ema=0.9))
    assert len(remembering) == log.steps * len(list(network().parameters()))
    assert not any(remembering)
