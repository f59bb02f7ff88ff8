"""Network slimming: a network keeps the channels whose batch norms have the largest scales.

Source: Z. Liu et al., Learning Efficient Convolutional Networks through Network Slimming, ICCV 2017. Scales are
compared over all layers of a network, so layers keep different numbers of channels. What is left out is gone, with the
weights that read it; nothing stands in for it, and the network has to be trained again.
"""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise

import torch
from torch import nn

from bench.errors import UserError


def slimmed(network: nn.Module, kept: float) -> nn.Module:
    """A copy with `kept` of the network's channels, of every layer at least one; parameters are to be trained.

    Args:
        network: a chain of layers, its children and those of its nn.Sequential, in the order in which an image passes
            them, where every batch norm follows a convolution.
        kept: share of all channels behind a batch norm, in (0, 1]; of equal scales the first stay.

    Raises:
        UserError: the network is no such chain.
    """
    slim = deepcopy(network)
    layers = _chain(slim)
    norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm2d)]
    scales = [norm.weight.detach().abs() for norm in norms]
    count = max(1, round(kept * sum(map(len, scales))))
    chosen = torch.zeros(sum(map(len, scales)), dtype=torch.bool)
    chosen[torch.argsort(torch.cat(scales).cpu(), descending=True, stable=True)[:count]] = True
    for mine, scale in zip(torch.split(chosen, [len(scale) for scale in scales]), scales, strict=True):
        mine[scale.argmax()] = True  # a layer without channels would cut the network in two
    left = iter(torch.split(chosen, [len(scale) for scale in scales]))
    inputs: torch.Tensor | None = None  # places of the channels that come in; None: all
    before = 0  # channels that came in before
    for place, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            follower = layers[place + 1] if place + 1 < len(layers) else None
            outputs = next(left).nonzero().flatten() if isinstance(follower, nn.BatchNorm2d) else None
            before = layer.out_channels
            _cut(layer, "weight", inputs, 1)
            _cut(layer, "weight", outputs, 0)
            _cut(layer, "bias", outputs, 0)
            layer.out_channels, layer.in_channels = layer.weight.shape[:2]
            inputs = outputs
        elif isinstance(layer, nn.BatchNorm2d):
            for name in ("weight", "bias", "running_mean", "running_var"):
                _cut(layer, name, inputs, 0)
            layer.num_features = len(layer.weight)
        elif isinstance(layer, nn.Linear) and inputs is not None:
            area = layer.in_features // before
            _cut(layer, "weight", (inputs[:, None] * area + torch.arange(area)).flatten(), 1)
            layer.in_features, inputs = layer.weight.shape[1], None
    return slim.requires_grad_(True)


def parameters_of(network: nn.Module) -> int:
    """How many parameters a network has."""
    return sum(parameter.numel() for parameter in network.parameters())


def _chain(network: nn.Module) -> list[nn.Module]:
    """The layers of a network in the order in which an image passes them. Raises UserError where it is no chain."""
    layers = [
        layer
        for child in network.children()
        for layer in (list(child) if isinstance(child, nn.Sequential) else [child])
    ]
    normed = [first for first, layer in pairwise(layers) if isinstance(layer, nn.BatchNorm2d)]
    plain = (
        normed
        and not any(list(layer.children()) for layer in layers)
        and sum(map(parameters_of, layers)) == parameters_of(network)
        and all(isinstance(first, nn.Conv2d) for first in normed)
        and all(layer.groups == 1 for layer in layers if isinstance(layer, nn.Conv2d))
    )
    if not plain:
        raise UserError(
            f"{type(network).__name__} cannot be slimmed: it is no chain of layers in which batch norm follows "
            "convolutions. The network vgg is one."
        )
    return layers


def _cut(layer: nn.Module, name: str, places: torch.Tensor | None, dim: int) -> None:
    """Keep these places of a tensor of a layer; None: all."""
    tensor = getattr(layer, name)
    if places is None or tensor is None:
        return
    left = tensor.detach().index_select(dim, places.to(tensor.device)).clone()
    if isinstance(tensor, nn.Parameter):
        setattr(layer, name, nn.Parameter(left))
    else:
        layer.register_buffer(name, left)
