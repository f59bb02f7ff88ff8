"""The recovery engine: batches, starts, SRe2L's loss, CDA's curriculum, DWA's ascent, each against a naive version."""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from methods._recovery.ascent import adjusted
from methods._recovery.batches import class_by_class, from_noise, from_real, joined, one_of_each
from methods._recovery.batchnorm import batch_norm_objective, running_loss
from methods._recovery.curriculum import draw_curriculum, smallest_shares
from methods._recovery.engine import Batch, recover_set
from methods._recovery.jitter import Jitter
from methods._recovery.ranges import check
from methods._recovery.taps import Taps
from tests.worlds.fakes import digits, digits_context, trained_teacher

STILL = Jitter(None, False, (0, 0))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Batches


def test_a_batch_of_sre2l_holds_one_image_of_each_of_its_classes():
    rows = one_of_each(5, 2, 3)
    assert [r.tolist() for r in rows] == [[0, 2, 4], [6, 8], [1, 3, 5], [7, 9]]  # row = label * ipc + slot


def test_a_batch_of_neighbours_holds_whole_classes_where_they_fit():
    assert [r.tolist() for r in class_by_class(3, 2, 4)] == [[0, 1, 2, 3], [4, 5]]


def test_only_batches_of_one_size_are_joined_and_none_is_lost():
    batches = one_of_each(5, 4, 3)
    groups = list(joined(batches, 7))
    assert all(len({len(rows) for rows in group}) == 1 for group in groups)
    assert all(sum(map(len, group)) <= 7 for group in groups)
    assert sorted(torch.cat([rows for group in groups for rows in group]).tolist()) == list(range(20))
    assert [len(group) for group in joined(batches, 1)] == [1] * 8  # a batch is never cut


def test_the_noise_of_an_image_does_not_depend_on_its_batch():
    start = from_noise(digits(), 3, digits_context())
    together = start(torch.tensor([4, 20, 7]))
    assert torch.equal(together[2], start(torch.tensor([7]))[0])
    assert not torch.equal(together[0], together[2])
    assert abs(float(start(torch.arange(30)).std()) - 1) < 0.1


def test_real_starts_are_images_of_the_class_each_once():
    train, context = digits(), digits_context()
    start = from_real(train, 3, context)(torch.arange(30))
    known = context.normalise(train.images(np.arange(len(train)))).flatten(1)
    found = [int((known == image).all(dim=1).nonzero()[0]) for image in start.flatten(1)]
    assert train.labels[found].tolist() == [label for label in range(10) for _ in range(3)]
    assert len(set(found)) == 30
    with pytest.raises(ValueError, match="too few for ipc 500"):
        from_real(train, 500, context)


# SRe2L's loss


def test_the_loss_of_each_group_is_the_published_sum_over_all_batch_norms():
    teacher = trained_teacher()
    images = random(6, 1, 8, 8).float()
    with Taps(teacher, nn.BatchNorm2d) as taps:
        teacher(images)
        got = running_loss(taps.take(), 2, r_var=11.0)
    first, second = teacher.body[1], teacher.body[5]
    for group in range(2):
        own = images[3 * group : 3 * group + 3]
        inputs = [teacher.body[0](own), teacher.body[:5](own)]
        total = 0.0
        for weight, layer, values in zip((10, 1), (first, second), inputs, strict=True):
            channels = values.transpose(0, 1).flatten(1).double().numpy()
            gap_mean = channels.mean(axis=1) - layer.running_mean.numpy()
            gap_var = channels.var(axis=1) - layer.running_var.numpy()
            total += weight * (11 * np.sqrt((gap_var**2).sum()) + np.sqrt((gap_mean**2).sum()))
        assert float(got[group]) == pytest.approx(total, rel=1e-5)


def test_batches_recovered_together_equal_batches_recovered_alone():
    context, images = digits_context(), random(6, 1, 8, 8).float()
    labels = torch.tensor([1, 5, 8, 1, 5, 8])

    def slope(rows: slice, groups: int) -> torch.Tensor:
        own = images[rows].clone().requires_grad_(True)
        with batch_norm_objective(context.teacher, Batch(labels[rows], own, groups), [STILL], r_bn=0.3) as loss:
            return torch.autograd.grad(loss(own, 0)[0], own)[0]

    alone = torch.cat([slope(slice(0, 3), 1), slope(slice(3, 6), 1)])
    assert torch.allclose(slope(slice(0, 6), 2), alone, atol=1e-6)


def test_hooks_go_away_with_the_objective_even_after_an_error():
    teacher = trained_teacher()
    batch = Batch(torch.tensor([0]), torch.zeros(1, 1, 8, 8), 1)
    with (
        pytest.raises(RuntimeError),
        batch_norm_objective(teacher, batch, [STILL], r_bn=1.0) as loss,
    ):
        loss(torch.zeros(1, 5, 8, 8), 0)  # five channels instead of one
    assert not any(layer._forward_pre_hooks for layer in teacher.modules())


def test_a_teacher_without_running_statistics_is_refused():
    for layers in ([], [nn.BatchNorm2d(1, track_running_stats=False)]):
        with pytest.raises(ValueError, match="no BatchNorm2d layer with running statistics"):
            Taps(nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 10)))


def test_the_engine_puts_every_row_in_its_place_and_tells_the_trace():
    """An objective with a known minimum: every image goes to the normalised grey of its class."""
    train, context = digits(), digits_context()

    def objective(batch: Batch):
        wanted = context.normalise((batch.labels * 20.0)[:, None, None, None])

        def loss(images: torch.Tensor, _: int) -> tuple[torch.Tensor, torch.Tensor]:
            gap = (images - wanted).square().sum()
            return gap, gap / len(images) * batch.groups

        return nullcontext(loss)

    made = recover_set(
        train,
        2,
        context,
        batches=one_of_each(10, 2, 4),
        start=from_noise(train, 2, context),
        objective=objective,
        iterations=60,
        lr=0.2,
        join=True,
    )
    assert made.labels.tolist() == [label for label in range(10) for _ in range(2)]
    greys = made.images.float().mean(dim=(1, 2, 3))
    assert torch.allclose(greys, made.labels * 20.0, atol=1.5)
    falls = made.provenance["matching_loss_by_tenth"]
    assert len(falls) == 10
    assert falls == sorted(falls, reverse=True)


# CDA's curriculum


def test_the_curriculum_falls_by_half_a_cosine_and_stays():
    shares = smallest_shares(8, 0.08, 0.5)
    assert shares[0] == 1
    assert shares[2] == pytest.approx((1 + 0.08) / 2)  # half way
    assert shares[1] == pytest.approx(0.08 + 0.92 * (1 + math.cos(math.pi / 4)) / 2)
    assert shares[4:] == pytest.approx([0.08] * 4)


def test_crops_become_smaller_along_the_curriculum():
    generator = torch.Generator().manual_seed(0)
    jitters = draw_curriculum(400, 32, generator, roll=4, crop_scale=0.08, milestone=1.0, mirror=False)
    areas = np.array([1.0 if j.box is None else j.box[2] * j.box[3] / 1024 for j in jitters]).reshape(4, 100)
    assert list(areas.mean(axis=1)) == sorted(areas.mean(axis=1), reverse=True)
    assert areas[0].min() > 0.7
    assert areas[3].min() < 0.2


# DWA's ascent


def test_one_step_of_the_ascent_is_the_gradient_over_its_norm():
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False)).eval()
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    with torch.no_grad():
        teacher[1].weight.copy_(weight)
    teacher.requires_grad_(False)
    image, label = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([0])
    share = 1 / (1 + math.exp(1.0))  # softmax of logits (1, 2)
    slope = torch.tensor([[(share - 1) * 1, (share - 1) * 2], [(1 - share) * 1, (1 - share) * 2]])
    moved = adjusted(teacher, image, label, rho=0.3, steps=1)
    assert torch.allclose(moved[1].weight, weight + 0.3 * slope / slope.norm(), atol=1e-6)
    assert torch.equal(teacher[1].weight, weight)


def test_the_ascent_raises_the_loss_and_leaves_the_teacher_as_it_was():
    teacher, train = trained_teacher(), digits()
    images = digits_context().normalise(train.images(np.arange(20)))
    labels = torch.as_tensor(train.labels[:20].copy())
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    losses = [
        float(F.cross_entropy(adjusted(teacher, images, labels, rho=rho, steps=4)(images), labels))
        for rho in (0.0, 0.05, 0.2)
    ]
    assert losses == sorted(losses)
    assert losses[0] < losses[2]
    assert losses[0] == pytest.approx(float(F.cross_entropy(teacher(images), labels)))
    moved = adjusted(teacher, images, labels, rho=0.2, steps=4)
    gaps = [a - b for a, b in zip(moved.parameters(), teacher.parameters(), strict=True)]
    away = math.sqrt(sum(float(gap.square().sum()) for gap in gaps))
    assert 0 < away <= 0.2 * (1 + 1e-5)
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
    assert torch.equal(moved.body[1].running_var, teacher.body[1].running_var)
    assert not any(parameter.requires_grad for parameter in moved.parameters())


# Ranges


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"iterations": 0}, "iterations is 0; it must be at least 1"),
        ({"lr": float("nan")}, "lr is nan; it must be above 0"),
        ({"rho": -1.0}, "rho is -1.0; it must be at least 0"),
        ({"category": 1.5}, "category is 1.5; it must be a share, 0 to 1"),
        ({"momentum": 1.0}, "momentum is 1.0; it must be at least 0 and below 1"),
        ({"crop_scale": 0.0}, "crop_scale is 0.0; it must be above 0 and at most 1"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(argument, message):
    check(iterations=1, lr=0.1, rho=0, category=1, momentum=0, crop_scale=1)
    with pytest.raises(ValueError, match=message):
        check(**argument)
