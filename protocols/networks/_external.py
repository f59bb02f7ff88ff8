"""What the classifiers of timm and torchvision share: their wrapper, and the small-image stem.

The stem rule: a ResNet that is built for images of 64 px or less gets a 3x3 convolution of stride 1 without bias in
place of its 7x7 (or deep) stem of stride 2, and no max pooling, as in the published CIFAR and Tiny-ImageNet protocols
(RDED, SRe2L, DD-Ranking). It applies to the libraries' class `ResNet` with all that is built on it (ResNeXt, wide,
squeeze-and-excitation and -D variants), and to nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bench.errors import UserError

SMALL = 64  # pixels: the largest image that gets the small stem


class External(nn.Module):
    """A library's classifier. The input of its last classifying layer are the features."""

    def __init__(self, model: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.model = model
        self._last = _last_layer(model, num_classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Penultimate activations float32 [n, d] (averaged over the map where the last layer is a convolution)."""
        caught: list[torch.Tensor] = []
        layer = self.model.get_submodule(self._last)
        handle = layer.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
        try:
            self.model(x)
        finally:
            handle.remove()
        activations = caught[-1]
        return activations.mean(dim=(2, 3)) if activations.ndim == 4 else activations

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits float32 [n, num_classes]."""
        return self.model(x)


def wrap(name: str, create: Callable[[], nn.Module], channels: int, size: int, num_classes: int) -> nn.Module:
    """The network that `create` makes, tried on one image.

    Raises:
        UserError: it cannot take images of this size, or is no classifier.
    """
    try:
        network = External(create(), num_classes).eval()
        with torch.no_grad():
            shape = tuple(network(torch.zeros(1, channels, size, size)).shape)
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError, ZeroDivisionError) as error:
        # The libraries raise all of these for an image that is too small or not a multiple of a patch.
        raise UserError(f"network {name!r} cannot take {channels}x{size}x{size} images: {error}") from error
    if shape != (1, num_classes):
        raise UserError(f"network {name!r} is no classifier: it gives {shape} for one image, not (1, {num_classes})")
    return network.train()


def small_stem(network: Any, channels: int) -> None:
    """Puts the small stem in place of a ResNet's own."""
    width = network.bn1.num_features
    network.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()


def _last_layer(model: nn.Module, num_classes: int) -> str:
    """Dotted name of the last linear layer or convolution with `num_classes` outputs."""
    found = [
        name
        for name, module in model.named_modules()
        if (isinstance(module, nn.Linear) and module.out_features == num_classes)
        or (isinstance(module, nn.Conv2d) and module.out_channels == num_classes)
    ]
    if not found:
        raise ValueError(f"it has no linear layer with {num_classes} outputs")
    return found[-1]
