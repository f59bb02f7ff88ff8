"""MTT: its distance and its gradient by hand, a student that follows an expert, and the loop of the published code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from methods._trajectories import Experts, changed, shuffled, student_weights, trajectory_distance
from methods.synthesis import mtt
from protocols.networks.dc_convnet import build
from tests.worlds.fakes import FakeContext, FakeTrain, SmallNet, digits, digits_context

SMALL = {"width": 4, "experts": 2, "max_start_epoch": 2, "expert_batch": 200}
TINY = {**SMALL, "iterations": 3, "steps": 3}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(seed: int = 0) -> nn.Module:
    """The published ConvNet for grey images of 4 px and three classes, in float64."""
    net = build(1, 4, 3, depth=1, width=2).double()
    with torch.no_grad():
        for each in net.parameters():
            each.copy_(torch.randn(each.shape, generator=generator(seed), dtype=torch.float64) * 0.5)
    return net


def weights(net: nn.Module) -> list[torch.Tensor]:
    return [each.detach().clone() for each in net.parameters()]


def images(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 1, 4, 4, generator=generator(seed), dtype=torch.float64)


# The distance


def test_the_distance_is_a_share_of_the_experts_way_over_all_weights_together():
    rng = np.random.default_rng(0)
    student, start, target = ([rng.normal(size=shape) for shape in ((2, 3), (4,), ())] for _ in range(3))
    flat = [np.concatenate([each.ravel() for each in side]) for side in (student, start, target)]
    expected = ((flat[0] - flat[2]) ** 2).sum() / ((flat[1] - flat[2]) ** 2).sum()
    found = trajectory_distance(*([torch.tensor(each) for each in side] for side in (student, start, target)))
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_a_student_that_stands_still_is_at_distance_one_and_one_at_the_target_at_none():
    start, target = [torch.zeros(3), torch.ones(2, 2)], [torch.ones(3), torch.zeros(2, 2)]
    assert float(trajectory_distance(start, start, target)) == 1
    assert float(trajectory_distance(target, start, target)) == 0


def test_where_the_expert_has_not_moved_the_distance_is_finite_and_has_no_gradient():
    student = [torch.zeros(3, requires_grad=True)]
    distance = trajectory_distance(student, [torch.zeros(3)], [torch.zeros(3)])
    (gradient,) = torch.autograd.grad(distance, student)
    assert float(distance.detach()) == 0
    assert gradient.tolist() == [0, 0, 0]


# The student


def test_the_students_steps_are_those_of_sgd():
    net, batches = network(), [(images(4, seed), torch.tensor([0, 1, 2, seed % 3])) for seed in range(3)]
    ours = student_weights(net, weights(net), batches, torch.tensor(0.1, dtype=torch.float64))
    trainer = torch.optim.SGD(net.parameters(), lr=0.1)
    for batch, labels in batches:
        trainer.zero_grad()
        F.cross_entropy(net(batch), labels).backward()
        trainer.step()
    for found, expected in zip(ours, net.parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-10)


def test_the_gradients_by_pixels_labels_and_rate_are_those_of_finite_differences():
    net, target = network(), weights(network(1))
    rate = torch.tensor(0.2, dtype=torch.float64)
    labels = torch.randn(5, 3, generator=generator(3), dtype=torch.float64)

    def distance(pixels: torch.Tensor, logits: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        batches = [(pixels[rows], logits[rows].softmax(dim=1)) for rows in (slice(0, 3), slice(2, 5), slice(0, 5))]
        start = weights(net)
        return trajectory_distance(student_weights(net, start, batches, step), start, target)

    given = [each.requires_grad_(True) for each in (images(5, 2), labels, rate)]
    assert torch.autograd.gradcheck(distance, given, eps=1e-6, atol=1e-7, rtol=1e-4)


def test_the_students_network_keeps_its_weights():
    net = network()
    before = weights(net)
    student_weights(net, weights(network(1)), [(images(3), torch.tensor([0, 1, 2]))], torch.tensor(0.5))
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_a_student_on_the_experts_own_batches_and_rate_follows_it_exactly():
    """Teacher-forced: real images as the learnt ones, one batch an epoch, nothing augmented. Then the loss is zero."""
    train = FakeTrain(np.random.default_rng(0).integers(0, 256, (12, 1, 8, 8), np.uint8), np.arange(12) % 3)
    ctx = FakeContext(train, SmallNet(1, 3))
    experts = Experts(train, ctx, width=4, lr=0.3, batch=len(train), augment=False)
    net = experts.record(4)
    start, target = experts.stretch(0, 1, 2)
    whole = (ctx.normalise(train.images(np.arange(12))), torch.from_numpy(train.labels.copy()))
    followed = trajectory_distance(student_weights(net, start, [whole] * 2, torch.tensor(0.3)), start, target)
    slower = trajectory_distance(student_weights(net, start, [whole] * 2, torch.tensor(0.2)), start, target)
    assert float(followed.detach()) < 1e-9
    assert float(slower.detach()) > 0.05


def test_a_pass_shows_every_image_once_before_any_comes_again():
    rows = list(shuffled(10, 4, 6, generator()))
    assert [len(each) for each in rows] == [2, 4, 4] * 2  # the rest of a pass comes first, as in the published code
    for turn in (rows[:3], rows[3:]):
        assert sorted(torch.cat(turn).tolist()) == list(range(10))
    assert not torch.equal(torch.cat(rows[:3]), torch.cat(rows[3:]))


# Experts


def test_experts_are_trained_by_plain_sgd_and_recorded_before_training_and_after_each_epoch():
    train, ctx = digits(), digits_context()
    experts = Experts(train, ctx, width=4, lr=0.05, batch=256, augment=True)
    experts.record(2)
    experts.record(2)
    assert [len(each) for each in experts.trajectories] == [3, 3]
    fresh = digits_context()
    again = Experts(train, fresh, width=4, lr=0.05, batch=256, augment=True)
    net, order = again._networks.draw(fresh.torch("networks")), fresh.torch("order of experts")
    labels = torch.from_numpy(train.labels.copy())
    for epoch in range(3):
        for found, expected in zip(experts.trajectories[0][epoch], net.parameters(), strict=True):
            torch.testing.assert_close(found, expected.detach())
        for rows in torch.randperm(len(train), generator=order).split(256):
            shown = changed(ctx.normalise(train.images(rows.numpy())), order, mirror=False)
            gradients = torch.autograd.grad(F.cross_entropy(net(shown), labels[rows]), list(net.parameters()))
            with torch.no_grad():
                for each, gradient in zip(net.parameters(), gradients, strict=True):
                    each -= 0.05 * gradient
    first, second = (trajectory[0][0] for trajectory in experts.trajectories)
    assert not torch.equal(first, second)  # another start


# The whole method


def published(iterations: int, *, learnt_labels: bool) -> tuple[torch.Tensor, float, torch.Tensor]:
    """Images (normalised), rate and logits as distill.py learns them, with one flat vector of weights; only where
    numbers are drawn from is this project's."""
    train, ctx = digits(), digits_context()
    experts = Experts(train, ctx, width=4, lr=0.01, batch=200, augment=True)
    for _ in range(2):
        net = experts.record(3)
    choice, order = ctx.torch("images and experts"), ctx.torch("order")
    image_syn = torch.cat(
        [
            ctx.normalise(train.images(own[torch.randperm(len(own), generator=choice)[:2].numpy()]))
            for own in (train.class_indices(c) for c in range(10))
        ]
    )
    label_syn = torch.arange(10).repeat_interleave(2)
    logits = net(image_syn).detach().requires_grad_(True)
    image_syn.requires_grad_(True)
    syn_lr = torch.tensor(0.02).requires_grad_(True)
    optimizers = [
        torch.optim.SGD([image_syn], lr=50.0, momentum=0.5),
        torch.optim.SGD([syn_lr], lr=1e-4, momentum=0.5),
        torch.optim.SGD([logits], lr=2.0, momentum=0.5),
    ]
    shapes = [p.shape for p in net.parameters()]
    names = [name for name, _ in net.named_parameters()]

    def flat(parameters) -> torch.Tensor:
        return torch.cat([p.reshape(-1) for p in parameters])

    for _ in range(iterations):
        expert, start_epoch = int(torch.randint(2, (), generator=choice)), int(torch.randint(2, (), generator=choice))
        starting_params = flat(experts.trajectories[expert][start_epoch])
        target_params = flat(experts.trajectories[expert][start_epoch + 2])
        student_params = [starting_params.clone().requires_grad_(True)]
        indices_chunks: list[torch.Tensor] = []
        for _ in range(3):
            if not indices_chunks:
                indices_chunks = list(torch.split(torch.randperm(20, generator=order), 12))
            these_indices = indices_chunks.pop()
            x = changed(image_syn[these_indices], order, mirror=False)
            parts = student_params[-1].split([s.numel() for s in shapes])
            named = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
            this_y = logits[these_indices].softmax(1) if learnt_labels else label_syn[these_indices]
            ce_loss = F.cross_entropy(torch.func.functional_call(net, named, (x,)), this_y)
            grad = torch.autograd.grad(ce_loss, student_params[-1], create_graph=True)[0]
            student_params.append(student_params[-1] - syn_lr * grad)
        param_loss = F.mse_loss(student_params[-1], target_params, reduction="sum")
        param_loss = param_loss / F.mse_loss(starting_params, target_params, reduction="sum")
        for optimizer in optimizers:
            optimizer.zero_grad()
        param_loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    return image_syn.detach(), float(syn_lr.detach()), logits.detach()


@pytest.mark.parametrize("labels", ["class", "learnt"])
def test_images_and_rate_are_those_of_the_published_loop(labels):
    made = mtt.synthesize(
        digits(), 2, digits_context(), **TINY, expert_lr=0.01, lr=50.0, lr_rate=1e-4, batch=12, labels=labels
    )
    images_, rate, logits = published(3, learnt_labels=labels == "learnt")
    torch.testing.assert_close((made.images / 255 - 0.3) / 0.35, images_, atol=1e-3, rtol=0)
    assert made.provenance["learnt_rate"] == pytest.approx(rate, rel=1e-5)
    assert rate != pytest.approx(0.02, rel=1e-4)  # it is learnt
    assert made.labels.tolist() == [c for c in range(10) for _ in range(2)]
    if labels == "class":
        assert made.soft_labels is None
    else:
        torch.testing.assert_close(made.soft_labels, logits, atol=1e-4, rtol=1e-4)
        assert made.soft_labels.dtype == torch.float32


def test_the_same_replicate_gives_the_same_bits_and_another_one_other_images():
    first, again, other = (mtt.synthesize(digits(), 1, digits_context(replicate=r), **TINY).images for r in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_student_comes_closer_to_its_experts():
    made = mtt.synthesize(digits(), 1, digits_context(), iterations=40, steps=6, width=8, experts=1, max_start_epoch=1)
    assert made.provenance["loss_last_tenth"] < 0.8 * made.provenance["loss_first_tenth"] < 0.8
    assert made.provenance["learnt_rate"] != 0.02
    assert 0 < made.provenance["expert_loss"] < 2


def test_pixels_are_free_and_levels_are_their_roundings():
    free, levels = (mtt.synthesize(digits(), 1, digits_context(), **TINY, start="noise", pixels=p).images
                    for p in ("float", "levels"))  # fmt: skip
    assert (free.dtype, levels.dtype) == (torch.float32, torch.uint8)
    assert float(free.min()) < -20
    assert float(free.max()) > 275
    assert torch.equal(levels, free.round().clamp(0, 255).to(torch.uint8))


def test_without_augmentation_or_with_other_experts_the_images_are_others():
    base = mtt.synthesize(digits(), 1, digits_context(), **TINY).images
    for other in ({"augment": False}, {"expert_lr": 0.02}, {"expert_epochs": 1}, {"start": "noise"}, {"steps": 2}):
        assert not torch.equal(base, mtt.synthesize(digits(), 1, digits_context(), **{**TINY, **other}).images)


def test_a_student_that_diverges_is_an_error_that_says_what_to_lower():
    with pytest.raises(ValueError, match=r"no longer finite; lr is 1e\+30 and rate is 0\.02: take smaller ones"):
        mtt.synthesize(digits(), 1, digits_context(), **TINY, lr=1e30)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"iterations": 0}, "iterations is 0; it must be at least 1"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"expert_epochs": 0}, "expert_epochs is 0"),
        ({"max_start_epoch": 0}, "max_start_epoch is 0"),
        ({"experts": 0}, "experts is 0"),
        ({"batch": -1}, "batch is -1; it must be at least 0"),
        ({"lr": 0.0}, "lr is 0.0; it must be above 0"),
        ({"rate": -0.1}, "rate is -0.1; it must be above 0"),
        ({"lr_rate": -1e-5}, "lr_rate is -1e-05; it must be at least 0"),
        ({"labels": "hard"}, "labels"),
        ({"start": "grey"}, "start"),
        ({"pixels": "png"}, "pixels"),
    ],
)
def test_arguments_out_of_range_are_refused(argument, message):
    with pytest.raises(ValueError, match=message):
        mtt.synthesize(digits(), 1, digits_context(), **argument)
