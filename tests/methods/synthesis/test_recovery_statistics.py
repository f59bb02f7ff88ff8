"""Statistics of several backbones: patches, pools, moving averages, distances and the terms of G-VBSM and EDC."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from methods._recovery.engine import Batch
from methods._recovery.jitter import Jitter
from methods._recovery.patches import patch_moments
from methods._recovery.several import MovingMoments, Step, several_backbones, weighted_distance
from methods._recovery.survey import Backbone, LayerTaps, layer_moments, pooled, survey
from methods._recovery.terms import Flatness, FlatStatistics, densification, sharpness
from protocols.networks import build
from tests.worlds.fakes import FakeTrain, digits, digits_context, trained_teacher

STILL = Jitter(None, False, (0, 0))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def surveyed() -> Backbone:
    return survey(digits(), digits_context(), trained_teacher(), 4)


# Patches and pools


def test_patch_moments_are_those_of_each_square_over_images_channels_and_pixels():
    inputs = random(3, 2, 8, 12)
    mean, var = patch_moments(inputs, 4)
    assert mean.shape == var.shape == (1, 6)
    for row in range(2):
        for column in range(3):
            square = inputs[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].numpy()
            assert float(mean[0, 3 * row + column]) == pytest.approx(square.mean())
            assert float(var[0, 3 * row + column]) == pytest.approx(square.var())


@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(
    ("shape", "side", "groups"),
    [
        ((6, 3, 8, 12), 4, 1),
        ((6, 16, 28, 28), 4, 3),
        ((4, 1, 8, 8), 4, 4),
        ((5, 32, 4, 4), 4, 1),
        ((2, 2, 36, 36), 2, 2),
        ((1, 1, 1, 1), 1, 1),
        ((3, 2, 7, 5), 4, 1),
    ],
)
def test_patch_moments_and_their_gradient_are_torchs_own_to_the_bit(order, shape, side, groups):
    """Also where there are more patches than are taken at once, of one pixel, and of maps that patches do not fit."""
    values = (torch.randn(*shape, generator=torch.Generator().manual_seed(1)) * 3 + 1).contiguous(memory_format=order)
    ours, theirs = values.clone().requires_grad_(), values.clone().requires_grad_()
    large = theirs
    if shape[2] % side or shape[3] % side:
        size = [-(-length // side) * side for length in shape[2:]]
        large = F.interpolate(theirs, size=size, mode="bilinear", align_corners=False)
    patches = large.unflatten(3, (-1, side)).unflatten(2, (-1, side)).unflatten(0, (groups, -1))
    var, mean = torch.var_mean(patches, dim=(1, 2, 4, 6), correction=0)
    ours_of = patch_moments(ours, side, groups)
    assert torch.equal(ours_of[0], mean.reshape(groups, -1))
    assert torch.equal(ours_of[1], var.reshape(groups, -1))
    weights = torch.linspace(-1, 2, mean.numel()).reshape(groups, -1)
    ((ours_of[0] * weights).sum() + (ours_of[1] * weights.flip(1)).sum()).backward()
    ((mean.reshape(groups, -1) * weights).sum() + (var.reshape(groups, -1) * weights.flip(1)).sum()).backward()
    assert torch.equal(ours.grad, theirs.grad)


def test_a_map_that_patches_do_not_fit_is_enlarged_first():
    inputs = random(2, 3, 7, 2)
    large = F.interpolate(inputs, size=(8, 4), mode="bilinear", align_corners=False)
    assert all(torch.equal(a, b) for a, b in zip(patch_moments(inputs, 4), patch_moments(large, 4), strict=True))
    assert patch_moments(inputs, 16)[0].shape == (1, 1)


def test_pooled_statistics_are_those_of_all_images_together():
    inputs = random(10, 3, 4, 4) + torch.arange(10)[:, None, None, None]  # images with means of their own
    parts = [inputs[:1], inputs[1:4], inputs[4:]]

    def statistics(images: torch.Tensor) -> list:
        channels = images.transpose(0, 1).flatten(1)
        return [[(channels.mean(1)[None], channels.var(1, correction=0)[None]), patch_moments(images, 2)]]

    got = pooled([statistics(part) for part in parts], torch.tensor([0.1, 0.3, 0.6]))
    for own, whole in zip(got[0], statistics(inputs)[0], strict=True):
        assert all(torch.allclose(a, b) for a, b in zip(own, whole, strict=True))


def test_a_survey_sees_what_enters_every_layer(surveyed):
    train, body = digits(), trained_teacher().body
    images = digits_context().normalise(train.images(train.class_indices(3)))
    entering = [images, body[0](images), body[:4](images), body[:5](images)]  # conv, norm, conv, norm
    assert [len(layer) for layer in surveyed.classes[3]] == [2, 1, 2, 1]
    for layer, values in zip(surveyed.classes[3], entering, strict=True):
        channels = values.transpose(0, 1).flatten(1)
        assert torch.allclose(layer[0][0][0], channels.mean(1), atol=1e-4)
        assert torch.allclose(layer[0][1][0], channels.var(1, correction=0), rtol=1e-3, atol=1e-4)
    mean, var = patch_moments(images, 4)
    assert torch.allclose(surveyed.classes[3][0][1][0], mean, atol=1e-4)
    assert torch.allclose(surveyed.classes[3][0][1][1], var, atol=1e-4)


def test_over_all_images_batch_norms_keep_their_running_statistics_and_convolutions_get_exact_ones(surveyed):
    train, body = digits(), trained_teacher().body
    assert torch.equal(surveyed.overall[1][0][0][0], body[1].running_mean)
    assert torch.equal(surveyed.overall[3][0][1][0], body[5].running_var)
    everything = digits_context().normalise(train.images(np.arange(len(train))))
    assert float(surveyed.overall[0][0][1]) == pytest.approx(float(everything.var(correction=0)), rel=1e-3)


def test_the_statistics_of_a_batch_are_weighted_by_its_classes(surveyed):
    got = surveyed.of(torch.tensor([4, 7, 4, 4]))
    wanted = pooled([surveyed.classes[4], surveyed.classes[7]], torch.tensor([0.75, 0.25]))
    assert all(torch.equal(a[0][0], b[0][0]) for a, b in zip(got, wanted, strict=True))
    means = [surveyed.classes[label][0][0][0] for label in (4, 7)]
    spread = 0.75 * 0.25 * (means[0] - means[1]).square()  # between the classes: a batch has it too
    inner = 0.75 * surveyed.classes[4][0][0][1] + 0.25 * surveyed.classes[7][0][0][1]
    assert torch.allclose(got[0][0][1], inner + spread, atol=1e-5)


def test_an_empty_class_is_named():
    train = FakeTrain(np.zeros((4, 1, 8, 8), dtype=np.uint8), np.array([0, 0, 2, 2]))
    with pytest.raises(ValueError, match="class 1 has no images"):
        survey(train, digits_context(), trained_teacher(), 4)


# Moving averages and distances


def test_a_moving_average_starts_with_the_first_batch_and_passes_the_newest_gradient():
    moving = MovingMoments(0.8)
    values = [torch.tensor([[v]], dtype=torch.float64, requires_grad=True) for v in (1.0, 6.0, 11.0)]
    expected = [1.0, 0.8 * 1 + 0.2 * 6, 0.8 * 2 + 0.2 * 11]
    for value, wanted in zip(values, expected, strict=True):
        ((mean, _),) = moving(0, [(value, value)])
        assert float(mean.detach()) == pytest.approx(wanted)
        (slope,) = torch.autograd.grad(mean.square().sum(), value)
        assert float(slope) == pytest.approx(2 * wanted)  # as if the average were the newest value
    assert float(moving(1, [(values[2], values[2])])[0][0].detach()) == 11  # another layer, another average


def test_the_distance_is_the_weighted_sum_over_targets_layers_and_kinds():
    layers = [[(random(1, 3, seed=s), random(1, 3, seed=s + 1)), (random(1, 2, seed=s + 2),) * 2] for s in (0, 10, 20)]
    targets = [[[(a + k, b - k) for a, b in layer] for layer in layers] for k in (1.0, 3.0)]
    got = weighted_distance([layers[0], None, layers[2]], [(0.25, targets[0]), (0.75, targets[1])])
    # Every value of a target is k away: norms are k sqrt(3) per channel statistic, k sqrt(2) per patch statistic.
    one = 2 * np.sqrt(3) + 2 * np.sqrt(2)
    assert float(got) == pytest.approx((10 + 1) * one * (0.25 * 1 + 0.75 * 3))


def objective(surveyed: Backbone, batch: Batch, images: torch.Tensor, *, turns: int = 1, **options):
    settings = {"r_loss": 0.1, "patch": 4, "momentum": 0.0, "drop": lambda: False, "category": 0.0}
    settings |= {"extra": lambda _: torch.zeros(())} | options
    with several_backbones([surveyed], batch, [STILL] * turns, **settings) as loss:
        return [loss(images, turn) for turn in range(turns)]


def test_the_objective_is_labels_plus_distance_plus_the_methods_own_term(surveyed):
    images, labels = random(4, 1, 8, 8).float(), torch.tensor([0, 1, 2, 3])
    batch = Batch(labels, images, 1)
    ((total, matching),) = objective(surveyed, batch, images, extra=lambda step: step.logits.sum() * 0 + 7)
    teacher = surveyed.network
    one = F.cross_entropy(teacher(images), labels) + 0.1 * matching + 7
    assert float(total) == pytest.approx(float(one), rel=1e-5)
    entering = [images, teacher.body[0](images), teacher.body[:4](images), teacher.body[:5](images)]
    naive = 0.0
    for place, values in enumerate(entering):
        channels = values.transpose(0, 1).flatten(1)
        own = [(channels.mean(1), channels.var(1, correction=0))]
        own += [tuple(v[0] for v in patch_moments(values, 4))] if place in (0, 2) else []
        for (mean, var), (want_mean, want_var) in zip(own, surveyed.overall[place], strict=True):
            gap = (mean - want_mean[0]).norm() + (var - want_var[0]).norm()
            naive += (10 if place == 0 else 1) * float(gap)
    assert float(matching) == pytest.approx(naive, rel=1e-4)
    assert not any(layer._forward_pre_hooks for layer in teacher.modules())


def test_dropped_convolutions_leave_the_batch_norms_and_category_moves_the_target(surveyed):
    train = digits()
    rows = train.class_indices(3)[:64]
    images = digits_context().normalise(train.images(rows))
    batch = Batch(torch.full((len(rows),), 3), images, 1)
    everything, dropped, own = (
        float(objective(surveyed, batch, images, **options)[0][1])
        for options in ({}, {"drop": lambda: True}, {"category": 1.0})
    )
    assert 0 < dropped < everything
    assert own < 0.5 * everything  # images of class 3 look like class 3


def test_what_the_own_term_sends_through_the_network_is_not_matched(surveyed):
    images = random(3, 1, 8, 8).float()
    batch = Batch(torch.tensor([0, 1, 2]), images, 1)
    quiet = objective(surveyed, batch, images, turns=2)
    loud = objective(surveyed, batch, images, turns=2, extra=lambda step: step.network(step.images * 9).sum() * 0)
    assert [float(m) for _, m in quiet] == [float(m) for _, m in loud]


# Terms


def still_step(network: nn.Module, images: torch.Tensor) -> Step:
    """A pass of images that no crop changes; the terms that take it look at its logits alone."""
    logits = network(images)
    return Step(network, STILL, images, images, logits, logits.sum(), lambda _: logits.sum(), [], lambda _: [])


def test_densification_is_the_divergence_of_the_spectra():
    images, labels = random(5, 1, 32, 32) / 8, torch.tensor([0, 1, 0, 0, 1])
    total = 0.0
    for label in (0, 1):
        own = images[labels == label].flatten(1).numpy()
        values = np.linalg.eigvalsh(own @ own.T)
        soft = np.exp(values / 4) / np.exp(values / 4).sum()
        hard = np.exp(values - values.max())
        hard /= hard.sum()
        total += float((soft * np.log(soft / hard)).sum())
    assert float(densification(images, labels)) == pytest.approx(total)
    assert float(densification(images[:1], labels[:1])) == 0  # one image has nothing to differ from


def test_densification_pushes_alike_images_apart():
    images = (torch.ones(2, 1, 32, 32, dtype=torch.float64) + 0.2 * random(2, 1, 32, 32)) / 16
    images.requires_grad_(True)
    (slope,) = torch.autograd.grad(densification(images, torch.tensor([0, 0])), images)
    moved = images.detach() - 0.01 * slope / slope.norm()
    alike = [F.cosine_similarity(*x.flatten(1)[:, None]).item() for x in (images.detach(), moved)]
    assert alike[1] < alike[0]


def test_the_flatness_term_is_active_and_follows_the_moving_average():
    teacher = trained_teacher()
    start, moved = random(3, 1, 8, 8).float(), random(3, 1, 8, 8, seed=1).float()
    flat = Flatness(start, 0.75)

    def term(images: torch.Tensor) -> torch.Tensor:
        return flat(still_step(teacher, images))

    def divergence(images: torch.Tensor, average: torch.Tensor) -> float:
        said, wanted = ((teacher(x) / 4).double().softmax(1) for x in (images, average))
        return float((wanted * (wanted / said).log()).sum(1).mean())

    assert float(term(start)) == pytest.approx(0, abs=1e-6)
    images = moved.clone().requires_grad_(True)
    first = term(images)
    assert float(first.detach()) == pytest.approx(divergence(moved, start), rel=1e-4)
    assert float(torch.autograd.grad(first, images)[0].norm()) > 0
    average = 0.75 * start + 0.25 * moved
    assert float(term(moved)) == pytest.approx(divergence(moved, average), rel=1e-4)
    assert not torch.equal(start, average)  # the start itself is not averaged in place


def test_a_backbone_without_batch_norm_is_matched_at_its_convolutions():
    """Instance norm has no running statistics: the published ensembles have such networks, and an AlexNet."""
    network = build("convnet", channels=1, size=8, num_classes=10, seed=0, norm="instance", depth=2).eval()
    train, context = digits(), digits_context()
    surveyed = survey(train, context, network, 4)
    assert [len(layer) for layer in surveyed.overall] == [2, 2]  # channels and patches of each convolution
    images = context.normalise(train.images(np.arange(len(train.labels))))
    channels = images.transpose(0, 1).flatten(1)
    mean, var = surveyed.overall[0][0]
    assert mean.flatten().tolist() == pytest.approx(channels.mean(1).tolist(), abs=1e-5)
    assert var.flatten().tolist() == pytest.approx(channels.var(1, correction=0).tolist(), rel=1e-5)


def test_a_backbone_with_neither_convolution_nor_batch_norm_is_refused():
    with pytest.raises(ValueError, match="neither a convolution nor a batch norm"):
        survey(digits(), digits_context(), nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), 4)


@pytest.mark.parametrize("runs", [[1, 1, 1, 1, 1, 1], [2, 2, 2], [3, 3], [4, 2], [1, 3, 2]])
def test_the_statistics_of_runs_are_those_of_each_run_alone(runs):
    inputs = random(6, 3, 8, 8)
    got = layer_moments(nn.Conv2d(3, 2, 3), inputs, 4, runs)
    alone = [layer_moments(nn.Conv2d(3, 2, 3), part, 4) for part in inputs.split(runs)]
    for kind, (mean, var) in enumerate(got):
        assert torch.allclose(mean, torch.cat([each[kind][0] for each in alone]), atol=1e-6)
        assert torch.allclose(var, torch.cat([each[kind][1] for each in alone]), atol=1e-6)


def test_category_aware_matching_holds_each_class_to_its_own_statistics(surveyed):
    """EDC, equation 5, written out: sum over classes of p(c) times the distance of the batch's images of c from c."""
    train = digits()
    rows = np.concatenate([train.class_indices(label)[:n] for label, n in ((2, 3), (5, 1), (7, 2))])
    images = digits_context().normalise(train.images(rows))
    batch = Batch(torch.as_tensor(train.labels[rows].copy()), images, 1)
    ((_, matching),) = objective(surveyed, batch, images, category=1.0)
    naive = 0.0
    for label, part in ((2, images[:3]), (5, images[3:4]), (7, images[4:])):
        alone = Batch(torch.full((len(part),), label), part, 1)
        ((_, distance),) = objective(surveyed, alone, part, category=1.0, by_class=False)
        naive += len(part) / len(images) * float(distance)
    assert float(matching) == pytest.approx(naive, rel=1e-5)


def test_the_mixture_of_all_classes_is_the_overall_target_and_the_sum_over_classes_is_not(surveyed):
    """With every class in one batch, the authors' form of the category term says what the overall term says."""
    train = digits()
    rows = np.concatenate([train.class_indices(label)[:2] for label in range(10)])
    images = digits_context().normalise(train.images(rows))
    batch = Batch(torch.arange(10).repeat_interleave(2), images, 1)
    overall, mixture, classes = (
        float(objective(surveyed, batch, images, category=category, by_class=by_class)[0][1])
        for category, by_class in ((0.0, True), (1.0, False), (1.0, True))
    )
    assert mixture == pytest.approx(overall, rel=0.1)
    assert abs(classes - overall) > 0.2 * overall


def test_the_flatness_term_has_both_orders_of_the_divergence():
    torch.manual_seed(0)
    start, moved = torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8)
    network = trained_teacher(8)
    step = still_step(network, moved)
    told = [(network(x) / 2.0).softmax(1) for x in (start, moved)]
    for reverse, (first, second) in ((False, told), (True, told[::-1])):
        wanted = (first * (first / second).log()).sum(1).mean()
        assert float(Flatness(start, 0.5, 2.0, reverse=reverse)(step)) == pytest.approx(float(wanted), rel=1e-4)


def test_equation_5_as_printed_weighs_the_means_of_all_images_alone(surveyed):
    images, labels = random(4, 1, 8, 8).float(), torch.tensor([0, 1, 2, 3])
    batch = Batch(labels, images, 1)
    whole, classes, both, printed = (
        float(objective(surveyed, batch, images, **options)[0][1])
        for options in (
            {},
            {"category": 1.0},
            {"category": 0.25},
            {"category": 0.25, "weighted": False},
        )
    )
    variances = float(objective(surveyed, batch, images, category=1.0, weighted=False)[0][1]) - classes
    assert both == pytest.approx(0.75 * whole + 0.25 * classes, rel=1e-5)
    assert 0 < variances < whole
    assert printed == pytest.approx(both + 0.25 * variances, rel=1e-5)


def test_the_flatness_of_statistics_is_their_distance_from_those_of_the_moving_average(surveyed):
    start, moved = random(3, 1, 8, 8).float(), random(3, 1, 8, 8, seed=1).float()
    flat, values = FlatStatistics(start, 0.75), list[float]()
    batch = Batch(torch.tensor([0, 1, 2]), start, 1)
    objective(surveyed, batch, start, extra=lambda step: values.append(float(flat(step))) or step.loss * 0)
    objective(surveyed, batch, moved, extra=lambda step: values.append(float(flat(step))) or step.loss * 0)
    with LayerTaps(surveyed.network) as taps, torch.no_grad():
        statistics = []
        for images in (moved, start):
            surveyed.network(images)
            statistics.append([layer_moments(*tap, 4) for tap in taps.take()])
    wanted = sum(
        (10 if place == 0 else 1) * float((a - b).norm())
        for place, (now, then) in enumerate(zip(*statistics, strict=True))
        for kind, former in zip(now, then, strict=True)
        for a, b in zip(kind, former, strict=True)
    )
    assert values == [pytest.approx(0, abs=1e-5), pytest.approx(wanted, rel=1e-4)]


def test_sam_is_the_loss_uphill_and_leaves_the_moving_averages_alone(surveyed):
    batch = Batch(torch.tensor([0, 1, 2]), random(3, 1, 8, 8).float(), 1)

    def run(radius: float | None) -> list[tuple[float, float]]:
        """(the loss, the term) of two steps at the same images."""
        images, seen = batch.start.clone().requires_grad_(True), list[tuple[float, float]]()

        def extra(step: Step) -> torch.Tensor:
            term = step.loss * 0 if radius is None else sharpness(step, radius)
            seen.append((float(step.loss.detach()), float(term.detach())))
            return term

        objective(surveyed, batch, images, turns=2, momentum=0.5, extra=extra)
        return seen

    plain, still, uphill = run(None), run(0.0), run(0.05)
    assert [loss for loss, _ in plain] == [loss for loss, _ in still] == [loss for loss, _ in uphill]
    assert all(term == pytest.approx(loss, rel=1e-6) for loss, term in still)
    images = batch.start.clone().requires_grad_(True)
    ((total, _),) = objective(surveyed, batch, images)
    (slope,) = torch.autograd.grad(total, images)
    ((there, _),) = objective(surveyed, batch, images.detach() + 0.05 * slope / slope.norm())
    assert uphill[0][1] == pytest.approx(float(there), rel=1e-5)
    assert uphill[0][1] > uphill[0][0]
