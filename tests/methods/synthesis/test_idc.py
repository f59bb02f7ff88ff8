"""IDC: tiles enlarged as the published code does, its distance by hand, and its loop written out a second time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from methods._formation import coloured_and_moved, formed, mixed_boxes
from methods._gradient_matching import loss_gradients
from methods._random_networks import RandomNetworks
from methods._siamese import Transformation
from methods.synthesis import idc
from tests.worlds.fakes import FakeContext, FakeTrain, SmallNet, digits, digits_context

SMALL = {"width": 4, "batch": 8, "seen": 70, "lr": 1.0}
MEAN, SPREAD = 0.3, 0.35  # of the context's normalisation, of pixels between 0 and 1


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, size: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 1, size, size, generator=generator(seed))


# Tiles


@pytest.mark.parametrize(("size", "factor"), [(8, 2), (8, 3), (28, 2), (28, 3), (5, 5), (7, 2)])
def test_every_tile_becomes_an_image_as_by_the_published_code(size, factor):
    stored, expected = images(3, size), []
    upsample = nn.Upsample(size=(size, size), mode="bilinear")
    rest = size % factor
    padded = F.pad(stored, (0, factor - rest, 0, factor - rest), value=0.5) if rest else stored
    tile = int(np.ceil(size / factor))
    for row in range(factor):
        for column in range(factor):
            expected.append(
                upsample(padded[:, :, row * tile : row * tile + tile, column * tile : column * tile + tile])
            )
    assert torch.equal(formed(stored, factor), torch.cat(expected))


def test_a_factor_of_one_is_the_images_themselves_and_a_flat_tile_a_flat_image():
    stored = images(2)
    assert formed(stored, 1) is stored
    quarters = torch.zeros(1, 1, 8, 8)
    quarters[..., :4, :4], quarters[..., :4, 4:], quarters[..., 4:, :4], quarters[..., 4:, 4:] = 0.1, 0.2, 0.3, 0.4
    for image, value in zip(formed(quarters, 2), (0.1, 0.2, 0.3, 0.4), strict=True):
        torch.testing.assert_close(image, torch.full((1, 8, 8), value))


def test_mixed_images_are_their_partners_inside_one_box_and_the_share_is_its_area():
    shares = []
    for seed in range(40):
        before = images(6, seed=seed)
        after, partners, share = mixed_boxes(before, generator(seed))
        theirs = after == before[partners]
        box = (theirs & (before != before[partners]))[partners != torch.arange(6)].all(dim=0)[0]
        rows, columns = (torch.nonzero(box.any(dim=axis)).flatten() for axis in (1, 0))
        assert int(box.sum()) == len(rows) * len(columns)  # one rectangle
        assert torch.equal(after[:, :, ~box], before[:, :, ~box])
        if (partners != torch.arange(6)).any():
            assert share == pytest.approx(1 - int(box.sum()) / 64)
            shares.append(share)
    assert min(shares) < 0.5
    assert max(shares) > 0.9


def test_images_of_a_batch_are_coloured_and_moved_each_in_its_own_way():
    same = images(1).expand(6, -1, -1, -1)
    changed = coloured_and_moved(same, generator())
    assert changed.shape == same.shape
    assert len({each.numpy().tobytes() for each in changed}) == 6


# The distance


@pytest.mark.parametrize(("metric", "power"), [("l1", 1), ("mse", 2)])
def test_the_distance_is_summed_over_convolutions_alone(metric, power):
    rng = np.random.default_rng(0)
    ours, theirs = ([rng.normal(size=shape) for shape in ((4, 2, 3, 3), (4,), (5, 8), (5,))] for _ in range(2))
    expected = (np.abs(ours[0] - theirs[0]) ** power).sum()
    distance = idc.matching_distance([torch.tensor(x) for x in ours], [torch.tensor(x) for x in theirs], metric)
    assert float(distance) == pytest.approx(expected, rel=1e-12)


def test_the_gradient_by_a_stored_pixel_goes_through_its_tile():
    train = FakeTrain(np.zeros((3, 1, 8, 8), np.uint8), np.arange(3))
    net = RandomNetworks(train, 4, torch.device("cpu")).draw(generator()).double()
    wanted = loss_gradients(net, images(6, seed=1).double(), 1, graph=False)
    stored = images(1, seed=2).double()

    def distance(x: torch.Tensor) -> torch.Tensor:
        return idc.matching_distance(loss_gradients(net, formed(x, 2), 1, graph=True), wanted, "mse")

    assert torch.autograd.gradcheck(distance, stored.requires_grad_(True), eps=1e-6, atol=1e-7, rtol=1e-4)


# The whole method


def published(iterations: int, inner: int, metric: str, *, mixing: bool) -> torch.Tensor:
    """uint8 images as condense.py learns them for factor 2 and two images a class; only where numbers are drawn from is
    this project's."""
    train, ctx = digits(), digits_context()
    choice, weights, order = ctx.torch("real images"), ctx.torch("networks"), ctx.torch("order")

    def class_sample(label: int, count: int) -> torch.Tensor:
        members = train.class_indices(label)
        return train.images(members[torch.randperm(len(members), generator=choice)[:count].numpy()]).float() / 255

    def aug(x: torch.Tensor) -> torch.Tensor:
        x = (x - MEAN) / SPREAD
        for name in ("color", "crop", "cutout") if mixing else ("color", "crop"):
            x = Transformation(name, tuple(torch.rand(3, generator=choice, dtype=torch.float64).tolist()))(x)
        return x

    data = torch.zeros(20, 1, 8, 8)
    for label in range(10):
        parts = class_sample(label, 8)
        for k, (row, column) in enumerate(((0, 0), (0, 4), (4, 0), (4, 4))):
            small = F.interpolate(parts[2 * k : 2 * k + 2], size=(4, 4))
            data[2 * label : 2 * label + 2, :, row : row + 4, column : column + 4] = small
    data.requires_grad_(True)
    optim_img = torch.optim.SGD([data], lr=1.0 * 2 / 10, momentum=0.5)
    labels = torch.from_numpy(train.labels.copy())
    networks = RandomNetworks(train, 4, torch.device("cpu"))
    for it in range(iterations):
        if it % inner == 0:
            model = networks.draw(weights)
            optim_net = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
            data.data = torch.clamp(data.data, min=0.0, max=1.0)
        for label in range(10):
            img = class_sample(label, 8)
            both = aug(torch.cat([img, formed(data[2 * label : 2 * label + 2], 2)]))
            target = torch.full((8,), label)
            g_real = torch.autograd.grad(F.cross_entropy(model(both[:8]), target), model.parameters())
            loss_syn = F.cross_entropy(model(both[8:]), target)
            g_syn = torch.autograd.grad(loss_syn, model.parameters(), create_graph=True)
            loss = torch.zeros(())
            for a, b in zip(g_real, g_syn, strict=True):
                if a.dim() in (1, 2):
                    continue
                loss = loss + ((a.detach() - b).abs().sum() if metric == "l1" else (a.detach() - b).pow(2).sum())
            optim_img.zero_grad()
            loss.backward()
            optim_img.step()
        if (it + 1) % inner:
            left = torch.randperm(len(train), generator=order)[:70]
            while len(left):
                rows, left = left[:64], left[64:]
                x = coloured_and_moved((train.images(rows.numpy()).float() / 255 - MEAN) / SPREAD, order)
                y = labels[rows]
                optim_net.zero_grad()
                if mixing and float(torch.rand((), generator=order)) < 0.5:
                    x, other, ratio = mixed_boxes(x, order)
                    output = model(x)
                    mixed = F.cross_entropy(output, y) * ratio + F.cross_entropy(output, y[other]) * (1.0 - ratio)
                    mixed.backward()
                else:
                    F.cross_entropy(model(x), y).backward()
                optim_net.step()
    return (data.detach().clamp(0, 1) * 255).round().to(torch.uint8)


@pytest.mark.parametrize(("metric", "mixing"), [("l1", True), ("mse", False)])
def test_the_images_are_those_of_the_published_loop(metric, mixing):
    condensed = idc.synthesize(
        digits(), 2, digits_context(), iterations=5, inner=3, factor=2, metric=metric, mixing=mixing, **SMALL
    )
    expected = published(5, 3, metric, mixing=mixing)
    assert condensed.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert int((condensed.images.int() - expected.int()).abs().max()) <= 1


def test_without_tiles_the_start_is_real_images_and_the_steps_move_them():
    train = digits()
    stands = idc.synthesize(train, 1, digits_context(), iterations=1, factor=1, **{**SMALL, "lr": 1e-9})
    known = {image.numpy().tobytes() for image in train.images(np.arange(len(train)))}
    assert all(image.numpy().tobytes() in known for image in stands.images)
    moved = idc.synthesize(train, 1, digits_context(), iterations=1, factor=1, **SMALL)
    assert not torch.equal(stands.images, moved.images)


def test_a_class_with_fewer_images_than_tiles_gives_each_before_any_comes_again():
    flat = np.repeat(np.arange(1, 7, dtype=np.uint8) * 40, 64).reshape(6, 1, 8, 8)  # three images of each class
    train = FakeTrain(flat, np.arange(6) % 2)
    stands = idc.synthesize(train, 1, FakeContext(train, SmallNet(1, 2)), iterations=1, **{**SMALL, "lr": 1e-9})
    for image, values in zip(stands.images, ({40, 120, 200}, {80, 160, 240}), strict=True):
        tiles = [int(image[0, row, column]) for row in (0, 4) for column in (0, 4)]
        assert set(tiles) == values
    with pytest.raises(ValueError, match="3 images, too few for ipc 4"):
        idc.synthesize(train, 4, FakeContext(train, SmallNet(1, 2)), iterations=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"factor": 9}, "factor is 9; an image of 8 px"),
        ({"factor": 0}, "factor is 0; it must be at least 1"),
        ({"metric": "cosine"}, "metric is 'cosine'"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"seen": -1}, "seen is -1"),
        ({"lr": 1e30, "factor": 1, "iterations": 3}, "take a smaller one"),
    ],
)
def test_arguments_out_of_range_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        idc.synthesize(digits(), 1, digits_context(), **{"iterations": 1, "width": 4, "batch": 8, **wrong})
