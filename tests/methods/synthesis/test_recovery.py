"""Image recovery: statistics and losses against naive loops, classes together or alone, LPLD on digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from methods._recovery.jitter import Jitter, draw_jitters
from methods._recovery.loop import recover, to_uint8, valid_range
from methods._recovery.losses import matching_loss
from methods._recovery.moments import BatchNormMoments, _distances, class_moments, group_moments, select_groups
from methods.synthesis import lpld
from tests.worlds.fakes import FakeContext, FakeTrain, digits, digits_context, trained_teacher


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def double_context() -> FakeContext:
    """Digits with a teacher in float64, where the order of sums does not show."""
    context = FakeContext(digits(), trained_teacher_in_double())
    context.normalise = lambda images: (images.double() / 255 - 0.3) / 0.35  # type: ignore[method-assign,assignment]
    return context


def trained_teacher_in_double() -> nn.Module:
    teacher = type(trained_teacher())(1, 10).double()
    teacher.load_state_dict(trained_teacher().state_dict())
    return teacher.eval().requires_grad_(False)


# Moments


def test_group_moments_are_the_mean_and_biased_variance_of_each_group():
    inputs = random(12, 5, 4, 3) * 3 + 7
    mean, var = group_moments(inputs, 4)
    for group in range(4):
        own = inputs[3 * group : 3 * group + 3]
        for channel in range(5):
            values = own[:, channel].flatten().numpy()
            assert float(mean[group, channel]) == pytest.approx(values.mean())
            assert float(var[group, channel]) == pytest.approx(values.var())


@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("shape", [(64, 16, 28, 28), (5, 3, 7, 9), (2, 64, 1, 1), (3, 1, 8, 8), (2, 5, 60, 52)])
def test_distances_of_channels_are_torchs_norms_to_the_bit(order, shape):
    images = (torch.randn(*shape, generator=torch.Generator().manual_seed(2)) * 3 + 1).contiguous(memory_format=order)
    centres = images.mean(dim=(2, 3))
    norms = torch.linalg.vector_norm(images - centres[:, :, None, None], dim=(2, 3))
    assert torch.equal(_distances(images.requires_grad_(), centres.detach()), norms)


def test_the_gradient_of_group_moments_is_right():
    inputs = random(6, 2, 3, 3).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: group_moments(x, 3), (inputs,))
    assert torch.autograd.gradcheck(lambda x: group_moments(x, 6), (inputs,))  # one image a group


def test_moments_do_not_depend_on_the_memory_order_and_survive_a_large_mean():
    inputs = random(8, 3, 5, 5).float() + 1000
    plain, last = (group_moments(x, 2)[1] for x in (inputs, inputs.contiguous(memory_format=torch.channels_last)))
    assert torch.allclose(plain, last, rtol=1e-4)
    assert torch.allclose(plain, group_moments(inputs.double(), 2)[1].float(), rtol=1e-3)


def test_hooks_see_the_inputs_of_every_batch_norm_and_are_removed():
    teacher, images = trained_teacher(), random(4, 1, 8, 8).float()
    with BatchNormMoments(teacher) as measured:
        teacher(images)
        (first, _), (second, _) = measured.take(groups=2)
    assert torch.allclose(first, teacher.body[0](images).unflatten(0, (2, 2)).mean(dim=(1, 3, 4)), atol=1e-6)
    assert second.shape == (2, 32)
    assert not any(layer._forward_pre_hooks for layer in teacher.modules())


def test_hooks_are_removed_after_an_error():
    teacher = trained_teacher()
    with pytest.raises(RuntimeError), BatchNormMoments(teacher):
        teacher(torch.zeros(1, 5, 8, 8))  # five channels instead of one
    assert not any(layer._forward_pre_hooks for layer in teacher.modules())


def test_a_teacher_without_batch_norm_is_refused():
    context = FakeContext(digits(), nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    with pytest.raises(ValueError, match="has no BatchNorm2d layer"):
        lpld.synthesize(digits(), 1, context)


@pytest.mark.parametrize("momentum", [0.0, 0.1, 0.6])
def test_class_moments_are_a_running_mean_over_the_batches_of_a_class(momentum):
    train, context = digits(), double_context()
    moments = class_moments(train, context, momentum=momentum, batch=9)
    for label in (0, 7):
        mean = var = torch.zeros(())
        own = train.class_indices(label)
        for turn, start in enumerate(range(0, len(own), 9)):
            entering = context.teacher.body[0](context.normalise(train.images(own[start : start + 9])))
            weight = max(momentum, 1 / (turn + 1))
            mean = (1 - weight) * mean + weight * entering.mean(dim=(0, 2, 3))
            var = (1 - weight) * var + weight * entering.var(dim=(0, 2, 3), correction=0)
        assert torch.allclose(moments[0][0][label], mean)
        assert torch.allclose(moments[0][1][label], var)


def test_an_empty_class_is_named():
    images = np.zeros((4, 1, 8, 8), dtype=np.uint8)
    with pytest.raises(ValueError, match="class 1 has no images"):
        class_moments(FakeTrain(images, np.array([0, 0, 2, 2])), digits_context())


# Losses


def test_matching_loss_is_the_published_sum():
    measured = [(random(3, 4, seed=i), random(3, 4, seed=i + 9)) for i in range(3)]
    wanted = [(random(3, 4, seed=i + 20), random(3, 4, seed=i + 30)) for i in range(3)]
    loss = matching_loss(measured, wanted)
    for group in range(3):
        total = 0.0
        for layer in range(3):
            for kind in range(2):
                gap = (measured[layer][kind][group] - wanted[layer][kind][group]).numpy()
                total += (10 if layer == 0 else 1) * float(np.sqrt((gap**2).sum()))
        assert float(loss[group]) == pytest.approx(total)


def test_matched_statistics_cost_nothing_and_give_no_nan():
    wanted = [(torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64))]
    mean = wanted[0][0].clone().requires_grad_(True)
    loss = matching_loss([(mean, wanted[0][1])], wanted).sum()
    (slope,) = torch.autograd.grad(loss, mean)
    assert float(loss.detach()) == 0
    assert torch.equal(slope, torch.zeros(1, 2, dtype=torch.float64))


# Jitter


def test_a_jitter_crops_mirrors_and_rolls_the_whole_batch_alike():
    images = random(2, 1, 6, 6)
    assert torch.equal(Jitter(None, False, (0, 0))(images), images)
    assert torch.equal(Jitter(None, True, (1, 2))(images), images.flip(3).roll((1, 2), (2, 3)))
    cut = F.interpolate(images[:, :, 1:4, 2:6], size=(6, 6), mode="bilinear", align_corners=False)
    assert torch.equal(Jitter((1, 2, 3, 4), False, (0, 0))(images), cut)


@pytest.mark.parametrize("mirror", [True, False])
def test_jitters_stay_within_their_options(mirror):
    generator = torch.Generator().manual_seed(0)
    jitters = draw_jitters(400, 32, generator, roll=4, crop_scale=0.08, mirror=mirror)
    assert {pixels for jitter in jitters for pixels in jitter.roll} == {0, 1, 2, 3, 4}
    assert any(jitter.mirror for jitter in jitters) == mirror
    boxes = np.array([jitter.box for jitter in jitters])
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= 32).all()
    areas = boxes[:, 2] * boxes[:, 3] / 1024
    assert 0.06 < areas.min() < 0.15
    assert 0.4 < areas.mean() < 0.6
    assert all(jitter.box is None for jitter in draw_jitters(5, 32, generator, roll=0, crop_scale=1, mirror=mirror))


# The loop


def test_the_loop_is_adam_with_a_cosine_and_clipping():
    """Against Adam written out for one pixel."""
    target, low, high = 3.0, torch.tensor(-1.0), torch.tensor(1.5)
    value, first, second = -0.5, 0.0, 0.0
    for step in range(8):
        slope = 2 * (value - target)
        first, second = 0.5 * first + 0.5 * slope, 0.9 * second + 0.1 * slope**2
        rate = 0.7 * (1 + np.cos(np.pi * step / 8)) / 2
        value -= rate * (first / (1 - 0.5 ** (step + 1))) / (np.sqrt(second / (1 - 0.9 ** (step + 1))) + 1e-8)
        value = min(max(value, -1.0), 1.5)
    start = torch.full((1, 1, 1, 1), -0.5, dtype=torch.float64)
    got = recover(start, lambda x, _: ((x - target) ** 2).sum(), low, high, iterations=8, lr=0.7)
    assert float(got) == pytest.approx(value)
    assert float(start) == -0.5


def test_pixels_survive_normalisation_and_back():
    context = digits_context()
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(to_uint8(context.normalise(images), *valid_range(context, 1)), images)


def test_no_gradient_reaches_a_teacher_that_is_not_frozen():
    context = double_context()
    context.teacher.requires_grad_(True)
    wanted = select_groups(class_moments(digits(), context), torch.tensor([0]))
    jitters = [Jitter(None, False, (0, 0))] * 2
    lpld.recover_classes(random(2, 1, 8, 8), torch.tensor([0]), wanted, jitters, context, lr=0.1, r_bn=0.1)
    assert all(weight.grad is None for weight in context.teacher.parameters())


# LPLD


@pytest.mark.parametrize("ipc", [1, 3])
def test_classes_recovered_together_equal_classes_recovered_alone(ipc):
    context = double_context()
    moments = class_moments(digits(), context)
    jitters = draw_jitters(12, 8, torch.Generator().manual_seed(0), roll=1, crop_scale=0.5, mirror=True)
    labels, start = torch.tensor([2, 5, 9]), random(3 * ipc, 1, 8, 8)

    def made(some: slice) -> torch.Tensor:
        own, rows = labels[some], start[some.start * ipc : some.stop * ipc]
        return lpld.recover_classes(rows, own, select_groups(moments, own), jitters, context, lr=0.1, r_bn=0.05)

    alone = torch.cat([made(slice(one, one + 1)) for one in range(3)])
    assert torch.allclose(made(slice(0, 3)), alone, atol=1e-6)


def test_recovered_digits_are_what_they_shall_be_and_match_better_than_noise():
    made = lpld.synthesize(digits(), 4, digits_context(), iterations=100)
    assert made.images.dtype == torch.uint8
    assert made.images.shape == (40, 1, 8, 8)
    assert made.labels.tolist() == [label for label in range(10) for _ in range(4)]
    assert made.provenance["teacher_top1"] >= 0.9
    assert made.provenance["matching_loss_last"] < 0.5 * made.provenance["matching_loss_first"]


def test_the_matching_loss_falls_in_trend():
    context = digits_context()
    labels, trace = torch.tensor([3]), list[float]()
    wanted = select_groups(class_moments(digits(), context), labels)
    jitters = draw_jitters(80, 8, torch.Generator().manual_seed(0), roll=1, crop_scale=1, mirror=False)
    start = random(10, 1, 8, 8).float()
    lpld.recover_classes(start, labels, wanted, jitters, context, lr=0.1, r_bn=0.05, trace=trace)
    quarters = [float(np.mean(trace[at : at + 20])) for at in range(0, 80, 20)]
    assert quarters == sorted(quarters, reverse=True)


def test_matching_pulls_the_statistics_towards_the_class():
    loose, tight = (
        lpld.synthesize(digits(), 3, digits_context(), iterations=60, r_bn=r_bn).provenance["matching_loss_last"]
        for r_bn in (0.0, 0.5)
    )
    assert tight < 0.5 * loose


def test_the_same_replicate_repeats_bit_for_bit_and_another_one_differs():
    first, again, other = (
        lpld.synthesize(digits(), 2, digits_context(replicate=r), iterations=5).images for r in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"iterations": 0}, "iterations is 0; it must be at least 1"),
        ({"lr": 0.0}, "lr is 0.0; it must be above 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"r_bn": -1.0}, "r_bn is -1.0; it must be at least 0"),
        ({"jitter": 2.0}, "jitter is 2.0; it must be a share of the size, 0 to 1"),
        ({"crop_scale": 0.0}, "crop_scale is 0.0; it must be above 0 and at most 1"),
    ],
)
def test_arguments_out_of_range_are_refused(argument, message):
    with pytest.raises(ValueError, match=message):
        lpld.synthesize(digits(), 1, digits_context(), **argument)
    with pytest.raises(ValueError, match="ipc is 0"):
        lpld.synthesize(digits(), 0, digits_context())
