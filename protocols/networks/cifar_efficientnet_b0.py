"""EfficientNet-B0 of torchvision with EDC's stem for 32 px: first convolution of stride 1, 16 in all."""

from __future__ import annotations

from typing import Any

from torch import nn

from protocols.networks._cifar_stem import first_convolution, with_stem

CITATION = (
    "M. Tan, Q. V. Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks. ICML 2019; "
    "stem: S. Shao, Z. Zhou, H. Chen, Z. Shen: Elucidating the Design Space of Dataset Condensation. NeurIPS 2024."
)


def build(channels: int, size: int, num_classes: int) -> nn.Module:
    """EfficientNet-B0 for small images.

    Args:
        channels: of the images.
        size: pixels, height and width of the images.
        num_classes: logits.

    Raises:
        UserError: it cannot take images of this size.
    """

    def put(network: Any) -> None:
        network.features[0][0] = first_convolution(channels, network.features[0][0].out_channels)

    return with_stem("cifar_efficientnet_b0", "efficientnet_b0", put, channels, size, num_classes)
