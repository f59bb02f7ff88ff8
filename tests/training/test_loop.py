"""The training loop: what it shows when, what it minimises, and that it gives the same bits again."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import VisionTransformer, resnet18

from bench.errors import UserError
from bench.protocol.recipe import Augment, Loss, Optimizer, Recipe, Schedule
from bench.seeds import seed
from bench.training.loop import TrainingDiverged, evaluate, make_optimizer
from bench.views.parameters import Views
from bench.views.render import normalise, render
from tests.worlds.lessons import (
    CLASSES,
    CROP_MIX,
    MEAN,
    SGD,
    SIZE,
    STD,
    N,
    Stored,
    close,
    feed,
    hard,
    network,
    online,
    run,
    same,
    soft,
    stored,
    task,
    weights,
)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_a_student_learns_and_is_tested():
    student = network()
    images, labels = task(60)
    before = evaluate(student, images, labels, mean=MEAN, std=STD)
    log = run(student, hard(20, optimizer=Optimizer(lr=1e-2)), data=(images, labels))
    after = evaluate(student, *task(90, seed=9), mean=MEAN, std=STD, batch=7)
    assert (log.steps, log.images_seen, len(log.losses)) == (20 * 12, 1200, 20)
    assert before.accuracy < 0.7 < 0.95 < after.accuracy
    assert log.losses[-1] < 0.2 * log.losses[0]


@pytest.mark.parametrize(("size", "passes"), [(8, [90]), (64, [90]), (224, [20, 20, 20, 20, 10])])
def test_a_test_of_large_images_takes_few_of_them_a_pass(size: int, passes: list[int]) -> None:
    """256 images of 224 px in one pass took a worker 6 GB."""
    seen = []

    class Counting(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(len(images))
            return images.mean(dim=(1, 2, 3))[:, None] * torch.tensor([1.0, -1.0])

    images = torch.randint(0, 256, (90, 1, size, size), dtype=torch.uint8)
    labels = torch.arange(90) % 2
    tested = evaluate(Counting(), images, labels, mean=(0.5,), std=(0.2,))
    logits = Counting()(normalise(images, (0.5,), (0.2,)))
    assert seen[:-1] == passes
    assert tested.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert tested.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item())


def test_evaluation_is_the_plain_mean_and_leaves_the_mode():
    student, (images, labels) = network(), task()
    student.train()
    seen = evaluate(student, images, labels, mean=MEAN, std=STD, batch=4)
    assert student.training
    with torch.no_grad():
        logits = student.eval()(normalise(images, MEAN, STD))
    assert seen.n == N
    assert seen.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert seen.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)


@pytest.mark.parametrize(
    "recipe", [hard(3, augment=CROP_MIX), soft(3, ema=0.9), soft(3, optimizer=Optimizer(name="sgd"))]
)
def test_the_same_coordinates_give_the_same_bits_and_leave_global_state(recipe: Recipe):
    states, logs = [], []
    for replicate, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)
        student, state = network(dropout=0.3), torch.random.get_rng_state()
        reader = stored() if recipe.labels == "stored" else None
        logs.append(run(student, recipe, replicate=replicate, reader=reader).losses)
        assert torch.equal(state, torch.random.get_rng_state())
        states.append(weights(student))
    assert logs[0] == logs[1] != logs[2]
    assert same(states[0], states[1])
    assert not same(states[0], states[2])


def plain_step(student: nn.Module, recipe: Recipe, reader: Stored | None) -> float:
    """One full-batch epoch written down naively; returns the loss."""
    images, labels = task()
    if reader is None:
        source = feed(recipe)
        view = source._views[0]
    else:
        view = reader.views[0]
    student.to(memory_format=torch.channels_last)
    logits = student(render(images, view, np.arange(N), mean=MEAN, std=STD))
    if reader is not None:
        t = recipe.loss.temperature
        p, q = torch.softmax(reader.logits[:, 0] / t, 1), torch.softmax(logits / t, 1)
        loss = (p * (p.log() - q.log())).sum(1).mean() * (t * t if recipe.loss.times_t_squared else 1)
    elif view.partner is None:
        loss = -torch.log_softmax(logits, 1)[torch.arange(N), labels].mean()
    else:
        lam = torch.from_numpy(view.lam)[:, None]
        mixed = lam * F.one_hot(labels, CLASSES) + (1 - lam) * F.one_hot(labels[view.partner], CLASSES)
        loss = -(mixed * torch.log_softmax(logits, 1)).sum(1).mean()
    loss.backward()
    make_optimizer(student, recipe.optimizer).step()
    return loss.item()


@pytest.mark.parametrize("optimizer", [Optimizer(), Optimizer(name="sgd", lr=0.1, momentum=0.9, nesterov=True)])
@pytest.mark.parametrize(
    "recipe",
    [
        hard(1, augment=Augment(crop_scale=(0.5, 1))),
        hard(1, augment=CROP_MIX),
        hard(1, augment=Augment(mix="mixup")),
        soft(1),
        soft(1, loss=Loss(name="kl", temperature=3.0, times_t_squared=True)),
    ],
)
def test_one_step_is_the_step_of_the_formula(recipe: Recipe, optimizer: Optimizer):
    recipe = recipe.model_copy(update={"batch": N, "optimizer": optimizer})
    naive, student = network(), network()
    expected = plain_step(naive, recipe, stored(batch=N) if recipe.labels == "stored" else None)
    log = run(student, recipe, reader=stored(batch=N) if recipe.labels == "stored" else None)
    assert log.losses[0] == pytest.approx(expected, rel=1e-4)
    # Adam's first step is the sign of the gradient: compare where the gradient is not rounding noise.
    rate = optimizer.lr
    moved = zip(student.parameters(), naive.parameters(), network().parameters(), strict=True)
    agree = torch.cat([((a - b).abs() < 0.02 * rate).flatten() for a, b, _ in moved])
    assert agree.float().mean() > 0.97


def tokens() -> nn.Module:
    """A vision transformer: its class token and its positions are no weights, though they have three dimensions."""
    return VisionTransformer(
        image_size=8, patch_size=4, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=7
    )


@pytest.mark.parametrize("build", [lambda: resnet18(num_classes=7), tokens], ids=["resnet18", "transformer"])
def test_only_weights_decay_unless_told_otherwise(build: Callable[[], nn.Module]):
    """As SRe2L's code says it: a tensor decays if "weight" is in its name and it has two or more dimensions."""
    student = build()
    named = dict(student.named_parameters())
    decayed, others = make_optimizer(student, Optimizer(weight_decay=0.5)).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    expected = {id(p) for name, p in named.items() if "weight" in name and p.ndim > 1}
    assert {id(p) for p in decayed["params"]} == expected
    assert {id(p) for p in others["params"]} == {id(p) for p in named.values()} - expected
    (everything,) = make_optimizer(student, Optimizer(decay="all")).param_groups
    assert everything["weight_decay"] == 0.01
    assert len(everything["params"]) == len(named)


def test_momentum_is_lost_where_the_optimiser_is_made_again():
    """DC-BENCH's schedule beside the plain loop of its code."""
    schedule = Schedule(name="multistep", milestones=(2,), restart=True)
    spec = Optimizer(name="sgd", lr=0.05, momentum=0.9, weight_decay=5e-4, decay="all")
    recipe = hard(4, batch=N, optimizer=spec, schedule=schedule)
    student, naive, source = network(), network(), feed(recipe)
    run(student, recipe)
    naive.to(memory_format=torch.channels_last)
    for epoch in range(4):
        if epoch in (0, 2):
            rate = 0.05 if epoch == 0 else 0.005
            optimizer = torch.optim.SGD(naive.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
        for x, target in source.epoch(epoch):
            optimizer.zero_grad()
            F.cross_entropy(naive(x), target.classes).backward()
            optimizer.step()
    assert close(weights(student), weights(naive))
    carried = network()
    run(carried, recipe.model_copy(update={"schedule": schedule.model_copy(update={"restart": False})}))
    assert not close(weights(student), weights(carried), atol=1e-4)


@pytest.mark.parametrize(
    "loss", [Loss(name="kl", temperature=4, hard_weight=0.1), Loss(name="soft-ce"), Loss(name="mse")]
)
@pytest.mark.parametrize("unit", ["image", "batch"])
def test_a_teacher_asked_online_teaches_what_its_stored_answers_teach(loss: Loss, unit: str):
    augment = Augment(crop_scale=(0.5, 1.0), mix="cutmix", mix_unit=unit)
    teacher, (images, _) = network(norm=False, seed=7), task()
    views = Views(augment, N, SIZE, mirror=False, batch=5, seed=seed("view", "story", 0), count=3)
    with torch.no_grad():
        answers = [teacher(render(images, view, np.arange(N), mean=MEAN, std=STD)) for view in views]
    asked, told = network(), network()
    log = run(asked, online(3, augment=augment, loss=loss, optimizer=SGD), teacher=teacher)
    table = Stored(views, torch.stack(answers, dim=1))
    stored_log = run(told, soft(3, augment, loss=loss, views=3, optimizer=SGD), reader=table)
    assert log.losses == pytest.approx(stored_log.losses, rel=1e-4)
    assert close(weights(asked), weights(told), atol=1e-4)


def test_an_online_teacher_sees_the_students_batches_and_no_gradient():
    seen = []

    def teacher(x: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        seen.append(x.clone())
        return torch.zeros(len(x), CLASSES)

    augment = Augment(crop_scale=(0.5, 1.0), mix="mixup", cutout=0.5)
    run(network(), online(2, augment=augment, batch=10, accumulation=2), teacher=teacher)
    source = feed(hard(2, augment=augment, batch=10))
    assert same(seen, [x for epoch in range(2) for x, _ in source.epoch(epoch)])


def test_the_callback_sees_every_epoch_and_may_evaluate():
    plain, watched, seen = network(), network(), []
    run(plain, hard(3))

    def look(epoch: int, student: nn.Module) -> None:
        seen.append((epoch, evaluate(student, *task(), mean=MEAN, std=STD).n))
        student.eval()

    run(watched, hard(3), on_epoch_end=look)
    assert seen == [(0, N), (1, N), (2, N)]
    assert same(weights(plain), weights(watched))


def test_a_last_batch_of_one_image_joins_the_one_before():
    student = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 4), nn.BatchNorm1d(4), nn.Linear(4, CLASSES))
    assert run(student, hard(1), data=task(11)).steps == 2


def test_divergence_names_the_epoch():
    student = network()
    with torch.no_grad():
        student[-1].weight.fill_(math.nan)
    with pytest.raises(TrainingDiverged, match="epoch 0") as caught:
        run(student, hard(2))
    assert math.isnan(caught.value.loss)


@pytest.mark.parametrize(
    ("recipe", "reader", "data", "message"),
    [
        (soft(), None, None, "no stored label set"),
        (hard(), stored(), None, "a stored label set"),
        (soft(), stored(5, []), None, "no view at all"),
        (online(), None, None, "no teacher"),
        (hard(), None, (torch.zeros(3, 1, 8, 8).double(), torch.zeros(3, dtype=torch.int64)), "images must be uint8"),
        (hard(), None, (torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.zeros(3)), "labels must be int64"),
    ],
)
def test_what_does_not_go_together_is_refused(recipe, reader, data, message: str):
    with pytest.raises(UserError, match=message):
        run(network(), recipe, data=data, reader=reader)


def test_a_teacher_where_nobody_asks_it_is_refused():
    with pytest.raises(UserError, match="a teacher do not go together"):
        run(network(), hard(), teacher=network())


@pytest.mark.gpu
def test_training_runs_on_a_gpu():
    student = network()
    log = run(student, soft(5), reader=stored(), device="cuda")
    assert np.isfinite(log.losses).all()
    assert evaluate(student, *task(), mean=MEAN, std=STD).n == N
