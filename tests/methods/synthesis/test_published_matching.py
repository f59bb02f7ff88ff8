"""dc-paper and dsa-paper against the loop of the published code, written out here, and what sets them apart."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bench.augment import draw_operation, operate
from methods._published_matching import PublishedNetworks, real_gradients
from methods._siamese import OPERATIONS, draw_transformation
from methods.synthesis import dc_paper, dsa_paper
from protocols.networks.dc_convnet import build
from tests.worlds.fakes import FakeTrain, digits, digits_context

BOTH = [dc_paper, dsa_paper]
TINY = {"iterations": 4, "width": 4, "batch": 8, "outer": 2, "inner": 3}


def distance(gw_syn: list[torch.Tensor], gw_real: list[torch.Tensor]) -> torch.Tensor:
    """`match_loss` with dis_metric "ours" of utils.py: `distance_wb` for every layer."""
    total = torch.tensor(0.0)
    for gws, gwr in zip(gw_syn, gw_real, strict=True):
        shape = gwr.shape
        if len(shape) == 4:  # conv, out*in*h*w
            gwr, gws = gwr.reshape(shape[0], -1), gws.reshape(shape[0], -1)
        elif len(shape) == 1:  # batchnorm or instancenorm, groupnorm x, bias
            continue
        total = total + torch.sum(1 - torch.sum(gwr * gws, -1) / (gwr.norm(dim=-1) * gws.norm(dim=-1) + 0.000001))
    return total


def published(ipc: int, networks: int, outer: int, inner: int, momentum: float, *, start: str, dsa: bool):
    """The images as main.py learns them, in normalised space; only where numbers are drawn from is this project's."""
    train, ctx = digits(), digits_context()
    choice, weights, order = ctx.torch("real images"), ctx.torch("networks"), ctx.torch("order")

    def get_images(c: int, n: int) -> torch.Tensor:
        members = train.class_indices(c)
        return ctx.normalise(train.images(members[torch.randperm(len(members), generator=choice)[:n].numpy()]))

    if start == "real":
        image_syn = torch.cat([get_images(c, ipc) for c in range(10)])
    else:
        image_syn = torch.cat([torch.randn(ipc, 1, 8, 8, generator=choice) for c in range(10)])
    image_syn.requires_grad_(True)
    label_syn = torch.arange(10).repeat_interleave(ipc)
    optimizer_img = torch.optim.SGD([image_syn], lr=0.1, momentum=0.5)
    drawn = PublishedNetworks(train, 4, torch.device("cpu"))
    for _ in range(networks):
        net = copy.deepcopy(drawn.draw(weights))
        net_parameters = list(net.parameters())
        optimizer_net = torch.optim.SGD(net.parameters(), lr=0.01, momentum=momentum)
        for ol in range(outer):
            loss = torch.tensor(0.0)
            for c in range(10):
                img_real = get_images(c, 8)
                lab_real = torch.ones(len(img_real), dtype=torch.long) * c
                img_syn = image_syn[c * ipc : (c + 1) * ipc]
                lab_syn = torch.ones(ipc, dtype=torch.long) * c
                if dsa:
                    both = draw_transformation(choice, mirror=False)
                    img_real, img_syn = both(img_real), both(img_syn)
                gw_real = torch.autograd.grad(F.cross_entropy(net(img_real), lab_real), net_parameters)
                gw_real = [g.detach().clone() for g in gw_real]
                gw_syn = torch.autograd.grad(F.cross_entropy(net(img_syn), lab_syn), net_parameters, create_graph=True)
                loss = loss + distance(list(gw_syn), gw_real)
            optimizer_img.zero_grad()
            loss.backward()
            optimizer_img.step()
            if ol == outer - 1:
                break
            image_syn_train = image_syn.detach().clone()
            for _ in range(inner):
                rows = torch.randperm(len(image_syn_train), generator=order)  # fewer than 256 images: one batch
                img, lab = image_syn_train[rows], label_syn[rows]
                if dsa:
                    number = int(torch.randint(2**62, (), generator=order))
                    img = operate(img, *draw_operation(number, OPERATIONS[:-1], len(img)))
                optimizer_net.zero_grad()
                F.cross_entropy(net(img), lab).backward()
                optimizer_net.step()
    return image_syn.detach()


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize(("start", "momentum"), [("noise", 0.5), ("real", 0.0)])
def test_the_images_are_those_of_the_published_loop(method, start, momentum):
    made = method.synthesize(digits(), 2, digits_context(), **TINY, start=start, momentum=momentum)
    expected = published(2, 2, 2, 3, momentum, start=start, dsa=method is dsa_paper)
    torch.testing.assert_close((made.images / 255 - 0.3) / 0.35, expected, atol=2e-4, rtol=0)
    assert made.labels.tolist() == [c for c in range(10) for _ in range(2)]


@pytest.mark.parametrize("method", BOTH)
def test_another_momentum_start_or_number_of_epochs_gives_other_images(method):
    base = method.synthesize(digits(), 1, digits_context(), **TINY).images
    for other in ({"momentum": 0.0}, {"inner": 1}, {"start": "real" if method is dc_paper else "noise"}):
        assert not torch.equal(base, method.synthesize(digits(), 1, digits_context(), **{**TINY, **other}).images)


@pytest.mark.parametrize("method", BOTH)
def test_pixels_are_free_and_levels_are_their_roundings(method):
    free, levels = (
        method.synthesize(digits(), 1, digits_context(), **TINY, start="noise", pixels=p) for p in ("float", "levels")
    )
    assert (free.images.dtype, levels.images.dtype) == (torch.float32, torch.uint8)
    assert float(free.images.min()) < -20
    assert float(free.images.max()) > 275
    outside = ((free.images < 0) | (free.images > 255)).float().mean()
    assert free.provenance["pixels_outside_black_and_white"] == pytest.approx(float(outside), abs=1e-6)
    assert torch.equal(levels.images, free.images.round().clamp(0, 255).to(torch.uint8))


@pytest.mark.parametrize("method", BOTH)
def test_the_same_replicate_gives_the_same_bits_and_another_one_other_images(method):
    first, again, other = (
        method.synthesize(digits(), 1, digits_context(replicate=r), **TINY).images for r in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("method", BOTH)
def test_the_loss_falls(method):
    made = method.synthesize(digits(), 1, digits_context(), iterations=40, width=16, batch=32)
    assert made.provenance["loss_last_tenth"] < 0.9 * made.provenance["loss_first_tenth"]


def test_networks_are_the_published_ones_with_torch_s_initialisation():
    train = FakeTrain(np.zeros((10, 1, 28, 28), np.uint8), np.arange(10))
    network = PublishedNetworks(train, 128, torch.device("cpu")).draw(torch.Generator().manual_seed(0))
    plain = build(1, 28, 10)
    assert [p.shape for p in network.parameters()] == [p.shape for p in plain.parameters()]
    assert sum(p.numel() for p in network.parameters()) == 317_706
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = 1 / math.sqrt(module.weight[0].numel())
            for values in (module.weight, module.bias):
                assert float(values.detach().abs().max()) <= bound
                assert float(values.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.35)
        elif isinstance(module, nn.GroupNorm):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()


def test_gradients_of_real_images_in_parts_are_those_of_all_at_once():
    network = build(1, 8, 3, depth=1, width=4)
    images = torch.randn(37, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = torch.autograd.grad(F.cross_entropy(network(images), torch.full((37,), 2)), list(network.parameters()))
    for ours, theirs in zip(real_gradients(network, images, 2), whole, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"iterations": 0}, "iterations is 0; it must be at least 1"),
        ({"momentum": -0.1}, "momentum is -0.1; it must be at least 0"),
        ({"lr": 0.0}, "lr is 0.0; it must be above 0"),
        ({"start": "grey"}, "start"),
        ({"pixels": "png"}, "pixels"),
    ],
)
def test_arguments_out_of_range_are_refused(method, argument, message):
    with pytest.raises(ValueError, match=message):
        method.synthesize(digits(), 1, digits_context(), **argument)
