"""Network slimming: what is kept, what the slim network computes, and the penalty on scales."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bench.errors import UserError
from bench.training.slimming import parameters_of, slimmed
from protocols.networks import build
from tests.worlds.lessons import N, hard, network, run


def vgg(channels: int = 1) -> nn.Module:
    """A narrow VGG11-BN whose scales and statistics are all different."""
    net = build("vgg", channels=channels, size=8, num_classes=4, seed=0, width=4)
    draw = torch.Generator().manual_seed(1)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.bias.data, layer.running_mean):
                tensor.copy_(torch.randn(len(tensor), generator=draw))
            layer.running_var.copy_(1 + torch.rand(len(layer.running_var), generator=draw))
    return net.eval()


def norms(net: nn.Module) -> list[nn.BatchNorm2d]:
    return [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]


def masked(net: nn.Module, scales: list[torch.Tensor]) -> None:
    """Silence every channel whose scale is none of those that are kept."""
    for norm, kept in zip(norms(net), scales, strict=True):
        gone = ~torch.isin(norm.weight.data, kept)
        norm.weight.data[gone] = 0.0
        norm.bias.data[gone] = 0.0


@pytest.mark.parametrize("kept", [0.9, 0.5, 0.2])
def test_the_slim_network_computes_what_the_network_with_silent_channels_does(kept: float) -> None:
    net, images = vgg(), torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    slim = slimmed(net, kept)
    whole = net(images)
    masked(net, [norm.weight.data for norm in norms(slim)])
    assert torch.allclose(slim(images), net(images), atol=1e-4)
    assert not torch.allclose(slim(images), whole, atol=1e-2)


def test_the_largest_scales_of_all_layers_stay_and_no_layer_is_empty() -> None:
    net = vgg()
    everything = torch.cat([norm.weight.data.abs() for norm in norms(net)])
    slim = slimmed(net, 0.3)
    left = torch.cat([norm.weight.data.abs() for norm in norms(slim)])
    least = everything.sort(descending=True).values[round(0.3 * len(everything)) - 1]
    assert int((left >= least).sum()) == int((everything >= least).sum())
    for norm in norms(net)[:3]:
        norm.weight.data.mul_(1e-3)  # now none of these layers has a large one
    assert [len(norm.weight) for norm in norms(slimmed(net, 0.3))[:3]] == [1, 1, 1]


def test_all_channels_give_the_same_network_and_fewer_have_fewer_parameters() -> None:
    net, images = vgg(3), torch.randn(2, 3, 8, 8)
    assert torch.equal(slimmed(net, 1.0)(images), net(images))
    sizes = [parameters_of(slimmed(net, kept)) for kept in (1.0, 0.8, 0.4)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == parameters_of(net)
    assert len(set(sizes)) == 3
    conv = next(layer for layer in slimmed(net, 0.4).modules() if isinstance(layer, nn.Conv2d))
    assert (conv.out_channels, conv.in_channels) == conv.weight.shape[:2]


def test_the_network_that_is_slimmed_stays_as_it_was_and_its_copy_learns() -> None:
    net = vgg().requires_grad_(False)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    slim = slimmed(net, 0.5).train()
    slim(torch.randn(4, 1, 8, 8)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in slim.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("name", "more"), [("resnet", {}), ("convnet", {"norm": "none"}), ("torchvision:resnet18", {})]
)
def test_networks_with_branches_or_without_batch_norm_are_refused_in_one_sentence(name: str, more: Any) -> None:
    with pytest.raises(UserError, match=r"cannot be slimmed: it is no chain of layers.* The network vgg is one"):
        slimmed(build(name, channels=1, size=8, num_classes=4, seed=0, **more), 0.5)


def test_maps_of_several_pixels_before_the_last_layer_lose_the_columns_of_their_channel() -> None:
    net = build("convnet", channels=1, size=12, num_classes=4, seed=0, depth=2, width=6).eval()
    draw = torch.Generator().manual_seed(1)
    for norm in norms(net):
        norm.weight.data.copy_(torch.randn(6, generator=draw))
    slim, images = slimmed(net, 0.5), torch.randn(2, 1, 12, 12, generator=draw)
    masked(net, [norm.weight.data for norm in norms(slim)])
    assert torch.allclose(slim(images), net(images), atol=1e-5)
    assert slim.classifier.in_features == 9 * len(norms(slim)[1].weight)


@pytest.mark.trains
def test_the_penalty_takes_the_same_from_every_scale_at_a_step_and_leaves_all_else() -> None:
    plain, sparse = network(), network()
    step = {"epochs": 1, "batch": N, "optimizer": {"name": "sgd", "lr": 0.1}}
    run(plain, hard(**step))
    run(sparse, hard(**step, scale_l1=0.5))
    assert torch.allclose(sparse[1].weight, plain[1].weight - 0.1 * 0.5, atol=1e-6)
    assert torch.equal(sparse[0].weight, plain[0].weight)
    assert torch.equal(sparse[1].bias, plain[1].bias)


def test_small_images_are_enlarged_and_those_of_32_pixels_are_not() -> None:
    net = vgg()
    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    large = nn.functional.interpolate(images, size=(32, 32), mode="bilinear", align_corners=False)
    assert torch.equal(net(images), net(large))
    assert net.features(images).shape == (2, 32)
    with pytest.raises(UserError, match="width=0; allowed: 1 or more"):
        build("vgg", channels=1, size=8, num_classes=4, seed=0, width=0)
