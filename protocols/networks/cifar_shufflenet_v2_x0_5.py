"""ShuffleNetV2 x0.5 of torchvision with EDC's stem for 32 px: a convolution of stride 1, no pooling, 8 in all."""

from __future__ import annotations

from typing import Any

from torch import nn

from protocols.networks._cifar_stem import first_convolution, with_stem

CITATION = (
    "N. Ma et al.: ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design. ECCV 2018; "
    "stem: S. Shao, Z. Zhou, H. Chen, Z. Shen: Elucidating the Design Space of Dataset Condensation. NeurIPS 2024."
)


def build(channels: int, size: int, num_classes: int) -> nn.Module:
    """ShuffleNetV2 x0.5 for small images.

    Args:
        channels: of the images.
        size: pixels, height and width of the images.
        num_classes: logits.

    Raises:
        UserError: it cannot take images of this size.
    """

    def put(network: Any) -> None:
        network.conv1 = first_convolution(channels, network.conv1[0].out_channels)  # without batch norm, as in the code
        network.maxpool = nn.Identity()

    return with_stem("cifar_shufflenet_v2_x0_5", "shufflenet_v2_x0_5", put, channels, size, num_classes)
