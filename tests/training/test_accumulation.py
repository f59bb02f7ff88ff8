"""Accumulated gradients: chunk by chunk through the student, one step per batch."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bench.protocol.recipe import Loss, Optimizer, Recipe
from bench.training.loop import make_optimizer
from bench.training.losses import batch_loss
from tests.worlds.lessons import SGD, N, close, feed, hard, network, online, run, soft, stored, task, weights


def chunks(n: int, chunk: int) -> list[range]:
    """Rows of each chunk of a batch; a chunk of one image joins the one before it."""
    cut = [range(start, min(start + chunk, n)) for start in range(0, n, chunk)]
    if len(cut) > 1 and len(cut[-1]) == 1:
        cut[-2:] = [range(cut[-2].start, n)]
    return cut


def naive(student: nn.Module, recipe: Recipe, reader, data) -> list[float]:
    """The loop with nothing clever in it; returns the mean loss of each epoch."""
    student.train().to(memory_format=torch.channels_last)
    optimizer = make_optimizer(student, recipe.optimizer)
    source, losses = feed(recipe, reader, data=data), []
    for epoch in range(recipe.epochs):
        for group in optimizer.param_groups:
            group["lr"] = recipe.optimizer.lr * 0.5 * (1 + math.cos(math.pi * epoch / recipe.epochs))
        total = 0.0
        for x, target in source.epoch(epoch):
            optimizer.zero_grad()
            for rows in chunks(len(x), recipe.batch // recipe.accumulation):
                part = slice(rows.start, rows.stop)
                loss = batch_loss(student(x[part]), target[part], recipe.loss)
                share = 1 / recipe.accumulation if recipe.accumulation_weight == "nominal" else len(rows) / len(x)
                (share * loss).backward()
                total += loss.item() * len(rows)
            optimizer.step()
        losses.append(total / len(data[0]))
    return losses


@pytest.mark.parametrize("weight", ["nominal", "images"])
@pytest.mark.parametrize(
    ("n", "batch", "accumulation"), [(23, 10, 2), (21, 10, 2), (23, 12, 4), (16, 8, 8), (19, 40, 4)]
)
def test_batch_norm_and_gradients_are_those_of_a_plain_loop_over_chunks(weight, n: int, batch: int, accumulation: int):
    recipe = hard(2, batch=batch, accumulation=accumulation, accumulation_weight=weight, optimizer=SGD)
    student, plain, whole = network(), network(), network()
    log = run(student, recipe, data=task(n))
    assert log.losses == pytest.approx(naive(plain, recipe, None, task(n)), rel=1e-5)
    assert close(weights(student), weights(plain))
    run(whole, hard(2, batch=batch, optimizer=SGD), data=task(n))
    assert not close(list(student.buffers()), list(whole.buffers()))  # the statistics are those of chunks


@pytest.mark.parametrize(
    "loss", [Loss(name="kl", temperature=4, hard_weight=0.2), Loss(name="soft-ce"), Loss(name="mse", hard_weight=0.1)]
)
def test_without_batch_norm_chunks_change_nothing(loss: Loss):
    """23 images in batches of 10: chunks of 5 and a last batch of 3 weigh as their images."""
    whole, cut, teacher = network(norm=False), network(norm=False), network(norm=False, seed=3)
    logs = [
        run(student, soft(3, loss=loss, batch=10, accumulation=parts, optimizer=SGD), reader=stored(batch=10))
        for student, parts in ((whole, 1), (cut, 2))
    ]
    assert close(weights(whole), weights(cut), atol=1e-5)
    assert logs[0].losses == pytest.approx(logs[1].losses, rel=1e-5)
    assert (logs[0].steps, logs[0].images_seen) == (logs[1].steps, logs[1].images_seen) == (9, 3 * N)
    whole, cut = network(norm=False), network(norm=False)
    for student, parts in ((whole, 1), (cut, 5)):
        run(student, online(3, loss=loss, batch=10, accumulation=parts, optimizer=SGD), teacher=teacher)
    assert close(weights(whole), weights(cut), atol=1e-5)


def test_class_labels_in_chunks_change_nothing_without_batch_norm():
    whole, cut = network(norm=False), network(norm=False)
    run(whole, hard(3, batch=10, optimizer=SGD))
    run(cut, hard(3, batch=10, accumulation=5, optimizer=SGD))
    assert close(weights(whole), weights(cut), atol=1e-5)


def test_a_short_last_batch_weighs_less_under_the_nominal_rule():
    """Three images in a batch meant for two chunks of five: one chunk, half its gradient."""
    moves = []
    for weight in ("nominal", "images"):
        student = network(norm=False)
        spec = Optimizer(name="sgd", lr=0.1, weight_decay=0.0)
        recipe = hard(1, batch=10, accumulation=2, accumulation_weight=weight, optimizer=spec)
        before = weights(student)
        run(student, recipe, data=task(3))
        moves.append([a - b for a, b in zip(weights(student), before, strict=True)])
    assert close(moves[0], [move / 2 for move in moves[1]], atol=1e-7)
    assert max(move.abs().max() for move in moves[0]) > 1e-4
