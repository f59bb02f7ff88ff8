"""DM, DC and DSA: the formulas on hand-made input, the same transformation for both sides, and images worth more."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from methods import _siamese
from methods._gradient_matching import gradient_distance, loss_gradients
from methods._random_networks import Pixels, RandomNetworks, RealImages
from methods._siamese import OPERATIONS, Transformation, draw_transformation
from methods.synthesis import dc, dm, dsa, noise
from tests.worlds.fakes import FakeContext, FakeTrain, digits, digits_context, trained_teacher

LEARNERS = [dm, dc, dsa]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, channels: int = 3, size: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, channels, size, size, generator=generator(seed))


def network(channels: int = 1, size: int = 8):
    train = FakeTrain(np.zeros((3, channels, size, size), np.uint8), np.arange(3))
    return RandomNetworks(train, 4, torch.device("cpu")).draw(generator())


# The matching distances


def test_the_feature_distance_is_the_sum_over_classes_of_squared_distances_of_means():
    net = network()
    real, learnt = [images(n, 1, 8, n) for n in (5, 7)], [images(n, 1, 8, n) for n in (2, 3)]
    expected = 0.0
    for theirs, ours in zip(real, learnt, strict=True):
        a, b = ([net.features(x[None])[0].tolist() for x in side] for side in (theirs, ours))
        for d in range(len(a[0])):
            expected += (sum(row[d] for row in a) / len(a) - sum(row[d] for row in b) / len(b)) ** 2
    assert float(dm.mean_feature_distance(net, real, learnt).detach()) == pytest.approx(expected, rel=1e-4)


def test_the_gradient_distance_has_a_cosine_for_each_output_unit_of_each_weight():
    rng = np.random.default_rng(0)
    shapes = [(4, 2, 3, 3), (4,), (5, 8), (5,)]
    ours, theirs = ([rng.normal(size=shape) for shape in shapes] for _ in range(2))
    expected = 0.0
    for a, b in ((ours[0], theirs[0]), (ours[2], theirs[2])):
        for unit in range(len(a)):
            x, y = a[unit].ravel(), b[unit].ravel()
            expected += 1 - x @ y / (np.linalg.norm(x) * np.linalg.norm(y) + 1e-6)
    found = gradient_distance([torch.tensor(x) for x in ours], [torch.tensor(x) for x in theirs])
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_equal_gradients_have_no_distance_opposite_ones_two_a_unit_and_biases_none():
    weight, bias = torch.randn(6, 5, generator=generator()), torch.ones(6)
    assert float(gradient_distance([weight, bias], [weight, -bias])) == pytest.approx(0, abs=1e-4)
    assert float(gradient_distance([-weight, bias], [weight, bias])) == pytest.approx(12, abs=1e-4)


def test_a_unit_without_gradient_counts_one_and_gives_no_nan():
    dead = torch.zeros(2, 3, requires_grad=True)
    distance = gradient_distance([dead], [torch.ones(2, 3)])
    (gradient,) = torch.autograd.grad(distance, dead)
    assert float(distance.detach()) == 2
    assert torch.isfinite(gradient).all()


def test_the_gradient_of_the_distance_by_the_pixels_is_that_of_finite_differences():
    net = network().double()
    wanted = loss_gradients(net, images(6, 1, 8, 1).double(), 1, graph=False)
    start = images(1, 1, 8, 2).double()

    def distance(x: torch.Tensor) -> torch.Tensor:
        return gradient_distance(loss_gradients(net, x, 1, graph=True), wanted)

    x = start.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(distance(x), x)
    step = torch.zeros_like(start)
    step[0, 0, 3, 4] = 1e-6
    numeric = float((distance(start + step) - distance(start - step)).detach()) / 2e-6
    assert float(gradient[0, 0, 3, 4]) == pytest.approx(numeric, rel=1e-4, abs=1e-7)


# Siamese augmentation


@pytest.mark.parametrize("operation", OPERATIONS)
def test_real_and_learnt_images_are_transformed_in_the_same_way(operation):
    both = images(5)
    for seed in range(6):
        values = tuple(torch.rand(3, generator=generator(seed), dtype=torch.float64).tolist())
        change = Transformation(operation, values)
        whole = change(both)
        assert whole.shape == both.shape
        for index in range(len(both)):
            assert torch.allclose(change(both[index : index + 1])[0], whole[index], atol=1e-6)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_gradient_flows_through_every_transformation(operation):
    x = images(2).requires_grad_(True)
    Transformation(operation, (0.7, 0.2, 0.9))(x).square().sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0


def test_the_middle_of_every_range_changes_nothing():
    x = images(3)
    assert torch.allclose(Transformation("color", (0.5, 0.5, 0.5))(x), x, atol=1e-5)
    assert torch.equal(Transformation("crop", (0.5, 0.5, 0))(x), x)
    assert torch.allclose(Transformation("rotate", (0.5, 0, 0))(x), x, atol=1e-5)
    one = (1 - 1 / 1.2) / (1.2 - 1 / 1.2)
    assert torch.allclose(Transformation("scale", (one, one, 0))(x), x, atol=1e-5)
    assert torch.equal(Transformation("flip", (0.5, 0, 0))(x), x)


def test_flip_crop_and_cutout_are_what_their_names_say():
    x = images(2)
    assert torch.equal(Transformation("flip", (0.49, 0, 0))(x), torch.flip(x, [3]))
    shifted = Transformation("crop", (0.0, 0.999, 0))(x)  # the corner of the image padded by 2 of 16 pixels
    assert torch.equal(shifted[..., 2:, :-2], x[..., :-2, 2:])
    assert float(shifted[..., :2, :].abs().sum()) == 0
    assert float(shifted[..., -2:].abs().sum()) == 0
    erased = Transformation("cutout", (0.5, 0.5, 0))(x)
    assert int((erased == 0).sum()) == 8 * 8 * x.shape[1] * len(x)
    corner = Transformation("cutout", (0.0, 0.0, 0))(x)  # centred at the corner: a quarter is left
    assert int((corner == 0).sum()) == 4 * 4 * x.shape[1] * len(x)


def test_colours_follow_the_formula_of_the_paper():
    x = images(1)
    b, s, c = 0.9, 0.1, 0.8
    y = x + (b - 0.5)
    grey = y.mean(1, keepdim=True)
    y = (y - grey) * (2 * s) + grey
    y = (y - y.mean()) * (c + 0.5) + y.mean()
    assert torch.allclose(Transformation("color", (b, s, c))(x), y, atol=1e-5)


def test_characters_are_never_mirrored_and_every_operation_comes_up():
    draws = partial(draw_transformation, generator())
    assert {draws(mirror=False).operation for _ in range(200)} == set(OPERATIONS) - {"flip"}
    assert {draws(mirror=True).operation for _ in range(200)} == set(OPERATIONS) == set(_siamese._APPLY)


# Networks, pixels, whole methods


def test_weights_are_within_torchs_bounds_and_no_global_generator_is_touched():
    train, state = digits(), torch.get_rng_state()
    networks, source = RandomNetworks(train, 16, torch.device("cpu")), generator()
    first = [p.detach().clone() for p in networks.draw(source).parameters()]
    second = list(networks.draw(source).parameters())
    assert torch.equal(torch.get_rng_state(), state)
    for before, now in zip(first, second, strict=True):
        if now.ndim > 1:
            bound = now[0].numel() ** -0.5
            assert not torch.equal(before, now)
            assert 0.5 * bound < float(now.detach().abs().max()) <= bound
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torchs = torch.nn.Linear(first[-2].shape[1], 10).weight
    assert float(first[-2].detach().std()) == pytest.approx(float(torchs.detach().std()), rel=0.1)


@pytest.mark.parametrize(("size", "blocks"), [(4, 1), (8, 1), (16, 2), (28, 3), (32, 3), (64, 4)])
def test_the_last_map_has_about_four_pixels_a_side_as_in_the_literature(size, blocks):
    net = network(size=size)
    assert sum(isinstance(m, torch.nn.Conv2d) for m in net.modules()) == blocks
    assert net(torch.zeros(2, 1, size, size)).shape == (2, 3)


def test_pixels_follow_sgd_with_momentum_inside_the_valid_range():
    context = digits_context()
    pixels = Pixels(torch.zeros(1, 1, 1, 2), context, lr=0.1)
    for _ in range(2):
        pixels.step(torch.tensor([[[[-1.0, 100.0]]]]))
    assert pixels.images.flatten().tolist() == pytest.approx([0.1 + 0.15, -0.3 / 0.35])


def test_real_images_are_of_their_class_and_no_image_comes_twice():
    train = FakeTrain(
        np.arange(12, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 8, 8), np.uint8), np.arange(12) % 2
    )
    reals = RealImages(train, 2, FakeContext(train, trained_teacher()))
    some = (reals.some(1, 4, generator()) * 0.35 + 0.3) * 255
    values = some[:, 0, 0, 0].round().int().tolist()
    assert len(set(values)) == 4
    assert all(value % 2 for value in values)
    assert len(reals.some(0, 99, generator())) == 6


@pytest.mark.parametrize("method", LEARNERS)
def test_the_learnt_images_are_ipc_a_class_and_repeat_bit_for_bit(method):
    first, again, other = (
        method.synthesize(digits(), 2, digits_context(replicate=r), iterations=4, width=4, batch=8) for r in (0, 0, 1)
    )
    assert first.images.shape == (20, 1, 8, 8)
    assert first.images.dtype == torch.uint8
    assert first.labels.tolist() == [c for c in range(10) for _ in range(2)]
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)


@pytest.mark.parametrize("method", LEARNERS)
def test_the_loss_falls(method):
    made = method.synthesize(digits(), 1, digits_context(), iterations=40, width=16, batch=32)
    assert made.provenance["loss_last_tenth"] < 0.9 * made.provenance["loss_first_tenth"]


def test_classes_in_parts_give_the_images_of_all_at_once(monkeypatch):
    whole = dm.synthesize(digits(), 1, digits_context(), iterations=3, width=4, batch=8)
    monkeypatch.setattr(dm, "_REAL_AT_ONCE", 24)
    parts = dm.synthesize(digits(), 1, digits_context(), iterations=3, width=4, batch=8)
    assert int((whole.images.int() - parts.images.int()).abs().max()) <= 1


def test_dsa_is_dc_but_for_the_transformations(monkeypatch):
    settings = {"iterations": 3, "width": 4, "batch": 8}
    plain = dc.synthesize(digits(), 1, digits_context(), **settings)
    assert not torch.equal(plain.images, dsa.synthesize(digits(), 1, digits_context(), **settings).images)
    drawn: list[Transformation] = []

    def draw(source: torch.Generator, *, mirror: bool) -> Transformation:
        drawn.append(Transformation("flip", (0.9, 0.0, 0.0)))  # leaves everything as it is
        assert not mirror
        return drawn[-1]

    monkeypatch.setattr("methods._gradient_matching.draw_transformation", draw)
    assert torch.equal(plain.images, dsa.synthesize(digits(), 1, digits_context(), **settings).images)
    assert len(drawn) == 3 * 10  # one for each step and class


def test_a_network_lives_for_outer_steps_and_is_trained_between_them(monkeypatch):
    drawn: list[int] = []
    original = RandomNetworks.draw
    monkeypatch.setattr(RandomNetworks, "draw", lambda self, g: drawn.append(1) or original(self, g))
    trained: list[int] = []
    monkeypatch.setattr(torch.optim.SGD, "zero_grad", lambda *_, **__: trained.append(1))
    dc.synthesize(digits(), 1, digits_context(), iterations=5, width=4, batch=8, outer=2, inner=3)
    assert len(drawn) == 3
    assert len(trained) == 2 * 3


@pytest.mark.parametrize("method", LEARNERS)
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"iterations": 0}, "iterations is 0; it must be at least 1"),
        ({"batch": 0}, "batch is 0; it must be at least 1"),
        ({"width": 0}, "width is 0; it must be at least 1"),
        ({"lr": 0.0}, "lr is 0.0; it must be above 0"),
    ],
)
def test_arguments_out_of_range_are_refused(method, argument, message):
    with pytest.raises(ValueError, match=message):
        method.synthesize(digits(), 1, digits_context(), **argument)


def test_noise_has_the_data_sets_mean_and_deviation_and_std_scales_it():
    train = digits()
    context = digits_context()  # normalises by 0.3 and 0.35
    made = noise.synthesize(train, 40, context, std=0.5)
    pixels = made.images.double() / 255
    assert made.labels.bincount().tolist() == [40] * 10
    assert float(pixels.mean()) == pytest.approx(0.3, abs=0.015)  # a little is cut at black
    assert float(pixels.std()) == pytest.approx(0.175, abs=0.02)
    assert float((noise.synthesize(train, 40, context).images == 0).double().mean()) == pytest.approx(0.195, abs=0.02)
    flat = pixels.flatten(1)
    assert abs(float(torch.corrcoef(flat)[0, 1:].mean())) < 0.05
    with pytest.raises(ValueError, match=r"std is 0\.0; it must be above 0"):
        noise.synthesize(train, 1, context, std=0.0)
    with pytest.raises(ValueError, match="ipc is 0; it must be at least 1"):
        noise.synthesize(train, 0, context)


def test_cross_entropy_gradients_are_those_of_the_mean_over_the_batch():
    net, x = network(), images(4, 1, 8)
    found = loss_gradients(net, x, 2, graph=False)
    parts = [
        torch.autograd.grad(F.cross_entropy(net(one[None]), torch.tensor([2])), list(net.parameters())) for one in x
    ]
    for index, gradient in enumerate(found):
        assert torch.allclose(gradient, sum(part[index] for part in parts) / 4, atol=1e-5)
