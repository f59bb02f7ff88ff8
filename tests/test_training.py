"""The training loop: what it shows when, what it minimises, and that it gives the same bits again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bench.augment import View, Views
from bench.errors import UserError
from bench.feed import Feed
from bench.recipe import Augment, Loss, Optimizer, Recipe, Schedule
from bench.render import normalise, render
from bench.training import TrainingDiverged, evaluate, make_optimizer, schedule_factor, train

MEAN, STD, N, SIZE, CLASSES = (0.5,), (0.25,), 23, 8, 3
CROP_MIX = Augment(crop_scale=(0.5, 1.0), mix="cutmix")


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def task(n: int = N, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise with a bright row that tells the class."""
    labels = torch.arange(n) % CLASSES
    images = torch.randint(0, 120, (n, 1, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    for image, label in zip(images, labels, strict=True):
        image[0, 1 + 2 * int(label)] = 250
    return images, labels


def network(dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()]
        return nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(8 * (SIZE // 2) ** 2, CLASSES))


class Stored:
    """A label reader over a table; remembers what was asked of it."""

    def __init__(self, views: Sequence[View], logits: torch.Tensor, available: Sequence[int] | None = None) -> None:
        self.views, self.logits = views, logits
        self.available = np.arange(len(views)) if available is None else np.asarray(available)
        self.asked: list[list[int]] = []

    def rows(self, views: Sequence[int]) -> torch.Tensor:
        self.asked.append(list(views))
        return self.logits[:, list(views)]


def stored(k: int = 5, available: Sequence[int] | None = None, augment: Augment = CROP_MIX, batch: int = 5) -> Stored:
    views = Views(augment, N, SIZE, mirror=False, batch=batch, seed=4, count=k)
    return Stored(views, torch.randn(N, k, CLASSES, generator=torch.Generator().manual_seed(1)), available)


def hard(epochs: int = 2, **more) -> Recipe:
    return Recipe(**{"labels": "hard", "epochs": epochs, "batch": 5, **more})


def soft(epochs: int = 2, augment: Augment = CROP_MIX, **more) -> Recipe:
    loss = Loss(name="kl", temperature=4.0)
    return Recipe(
        **{"labels": "stored", "views": 5, "epochs": epochs, "batch": 5, "augment": augment, "loss": loss} | more
    )


def run(student: nn.Module, recipe: Recipe, *, replicate: int = 0, data=None, **more):
    images, labels = data or task()
    named = {"coordinates": ("story", replicate), "mean": MEAN, "std": STD, "mirror": False}
    return train(student, images, labels, recipe, **named, **more)


def feed(recipe: Recipe, reader: Stored | None = None, replicate: int = 0, block_bytes: int = 2**20) -> Feed:
    images, labels = task()
    names = {"coordinates": ("story", replicate), "mean": MEAN, "std": STD, "mirror": False, "block_bytes": block_bytes}
    return Feed(images, labels, recipe, device=torch.device("cpu"), reader=reader, **names)


def weights(student: nn.Module) -> list[torch.Tensor]:
    return [value.clone() for value in student.state_dict().values()]


def same(left: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_a_student_learns_and_is_tested():
    student = network()
    images, labels = task(60)
    before = evaluate(student, images, labels, mean=MEAN, std=STD)
    log = run(student, hard(20, optimizer=Optimizer(lr=1e-2)), data=(images, labels))
    after = evaluate(student, *task(90, seed=9), mean=MEAN, std=STD, batch=7)
    assert (log.steps, log.images_seen, len(log.losses)) == (20 * 12, 1200, 20)
    assert before.accuracy < 0.7 < 0.95 < after.accuracy
    assert log.losses[-1] < 0.2 * log.losses[0]


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


@pytest.mark.parametrize("augment", [Augment(crop_scale=(0.5, 1)), CROP_MIX, Augment(mix="mixup", mix_unit="batch")])
def test_an_epoch_shows_every_image_once_in_its_view_with_its_own_labels(augment: Augment):
    reader = stored(5, augment=augment)
    source, (images, _) = feed(soft(7, augment), reader), task()
    for epoch in range(7):
        view = reader.views[epoch % 5]
        shown = render(images, view, np.arange(N), mean=MEAN, std=STD)
        wanted = torch.softmax(reader.logits[:, epoch % 5] / 4.0, dim=1)
        seen = []
        for x, target in source.epoch(epoch):
            rows = [int((target.probabilities[i] - wanted).abs().sum(1).argmin()) for i in range(len(x))]
            assert torch.allclose(x, shown[rows], atol=1e-5)
            assert torch.allclose(target.probabilities, wanted[rows], atol=1e-6)
            seen += rows
        assert sorted(seen) == list(range(N))
        if view.order is not None:
            assert seen == view.order.tolist()


def test_labels_are_decoded_a_window_at_a_time_and_never_again_within_it():
    reader = stored(5)
    source = feed(soft(10), reader, block_bytes=2 * 4 * N * CLASSES)
    for epoch in range(10):
        list(source.epoch(epoch))
    assert reader.asked == [[0], [1, 2], [3, 4], [0, 1], [2, 3], [4]]
    roomy = stored(5)
    source = feed(soft(10), roomy)
    for epoch in range(10):
        list(source.epoch(epoch))
    assert roomy.asked[1:] == [[1, 2, 3, 4, 0]]


@pytest.mark.parametrize("unit", ["image", "batch"])
def test_pruned_labels_are_drawn_from_the_pool_batch_by_batch(unit: str):
    augment = Augment(crop_scale=(0.5, 1.0), mix="cutmix", mix_unit=unit)
    reader, (images, _) = stored(5, [1, 4], augment), task()
    source, used = feed(soft(6, augment), reader), []
    for epoch in range(6):
        for x, target in source.epoch(epoch):
            matches = []
            for view in (1, 4):
                wanted = torch.softmax(reader.logits[:, view] / 4.0, dim=1)
                gap = (target.probabilities[:, None] - wanted).abs().sum(2)
                if gap.min(1).values.max() < 1e-5:
                    rows = gap.argmin(1).numpy()
                    shown = render(images, reader.views[view], rows, mean=MEAN, std=STD)
                    assert torch.allclose(x, shown, atol=1e-5)
                    matches.append(view)
            assert len(matches) == 1
            used += matches
    assert {1, 4} == set(used)
    assert {view for asked in reader.asked for view in asked} == {1, 4}


def test_order_and_views_do_not_depend_on_the_images():
    """Two methods hand in different images: the student sees them in the same order and the same crops."""
    source = feed(hard(2, augment=CROP_MIX))
    other = feed(hard(2, augment=CROP_MIX))
    for (_, mine), (_, theirs) in zip(source.epoch(1), other.epoch(1), strict=True):
        assert torch.equal(mine.classes, theirs.classes)
        assert torch.equal(mine.lam, theirs.lam)


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
    make_optimizer(list(student.parameters()), recipe.optimizer).step()
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


def test_a_perfect_student_has_no_kl():
    """The logged loss is the divergence itself, not the cross-entropy that the gradient comes from."""
    reader = stored(1, augment=Augment())
    reader.logits = torch.zeros(N, 1, CLASSES)
    student = network()
    nn.init.zeros_(student[-1].weight)
    nn.init.zeros_(student[-1].bias)
    log = run(student, soft(3, Augment(), optimizer=Optimizer(lr=1e-9)), reader=reader)
    assert log.losses == pytest.approx([0, 0, 0], abs=1e-5)


def test_the_schedule_ends_where_it_should():
    assert schedule_factor(Schedule(), 0, 300) == 1
    assert schedule_factor(Schedule(), 299, 300) == pytest.approx(2.74e-5, rel=1e-2)
    assert schedule_factor(Schedule(zeta=2), 299, 300) == pytest.approx(0.5026, abs=1e-4)
    assert schedule_factor(Schedule(name="constant"), 299, 300) == 1


def test_only_weights_decay_unless_told_otherwise():
    parameters = list(network().parameters())
    groups = make_optimizer(parameters, Optimizer(weight_decay=0.5)).param_groups
    assert [(g["weight_decay"], {p.ndim for p in g["params"]}) for g in groups] == [(0.5, {2, 4}), (0.0, {1})]
    assert [g["weight_decay"] for g in make_optimizer(parameters, Optimizer(decay="all")).param_groups] == [0.01]


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
        (hard(loss=Loss(name="kl")), None, None, "kl is for stored"),
        (soft(), stored(5, []), None, "no view at all"),
        (hard(), None, (torch.zeros(3, 1, 8, 8), torch.zeros(3, dtype=torch.int64)), "images must be uint8"),
        (hard(), None, (torch.zeros(3, 1, 8, 8, dtype=torch.uint8), torch.zeros(3)), "labels must be int64"),
    ],
)
def test_what_does_not_go_together_is_refused(recipe, reader, data, message: str):
    with pytest.raises(UserError, match=message):
        run(network(), recipe, data=data, reader=reader)


@pytest.mark.gpu
def test_training_runs_on_a_gpu():
    student = network()
    log = run(student, soft(5), reader=stored(), device="cuda")
    assert np.isfinite(log.losses).all()
    assert evaluate(student, *task(), mean=MEAN, std=STD).n == N
