"""What the networks of torchvision with a stem for 32 px share: a first convolution of stride 1.

The stems are those of EDC's code (shaoshitong/EDC, Branch_CIFAR_10/squeeze/train.py): a 3x3 convolution of stride 1
without bias in place of the first one, whose stride is 2; a ShuffleNet also loses batch norm, ReLU and pooling there.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from protocols.networks._external import wrap


def first_convolution(channels: int, width: int) -> nn.Conv2d:
    """The 3x3 convolution of stride 1 without bias."""
    return nn.Conv2d(channels, width, kernel_size=3, stride=1, padding=1, bias=False)


def with_stem(
    name: str,
    model: str,
    put: Callable[[nn.Module], None],
    channels: int,
    size: int,
    num_classes: int,
) -> nn.Module:
    """`model` of torchvision, untrained, with the stem that `put` gives it.

    Raises:
        UserError: it cannot take images of this size.
    """
    import torchvision

    def create() -> nn.Module:
        network: nn.Module = torchvision.models.get_model_builder(model)(weights=None, num_classes=num_classes)
        put(network)
        return network

    return wrap(name, create, channels, size, num_classes)
