"""VGG11 with batch norm for images of 32 px, in any width: eight convolutions, five max-poolings, one linear layer."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from bench.errors import UserError

CITATION = (
    "K. Simonyan, A. Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition. ICLR 2015, "
    "configuration A; for small images with one linear layer: Z. Liu et al.: Learning Efficient Convolutional Networks "
    "through Network Slimming. ICCV 2017."
)
PLAN = (
    1,
    0,
    2,
    0,
    4,
    4,
    0,
    8,
    8,
    0,
    8,
    8,
    0,
)  # channels as multiples of the width; 0 is a pooling, which halves the map
SMALLEST = 32  # pixels: five poolings leave one


class VGG(nn.Module):
    """A chain of layers. Images below 32 px are enlarged to 32 px first, bilinearly, as normalised floats."""

    def __init__(self, channels: int, num_classes: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = channels
        for multiple in PLAN:
            if not multiple:
                layers.append(nn.MaxPool2d(2))
                continue
            outputs = multiple * width
            layers += [
                nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            inputs = outputs
        self.blocks = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(inputs, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Penultimate activations float32 [n, 8 * width]."""
        if x.shape[-1] < SMALLEST:
            x = F.interpolate(x, size=(SMALLEST, SMALLEST), mode="bilinear", align_corners=False)
        activations: torch.Tensor = self.blocks(x)
        return activations

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits float32 [n, num_classes]."""
        logits: torch.Tensor = self.classifier(self.features(x))
        return logits


def build(channels: int, size: int, num_classes: int, *, width: int = 64) -> nn.Module:  # noqa: ARG001 (any size)
    """VGG11-BN; 9.2 million parameters with the defaults and 10 classes.

    Args:
        channels: of the images.
        size: pixels, height and width of the images; below 32 they are enlarged.
        num_classes: logits.
        width: channels of the first convolution; the others have 2, 4, 4, 8, 8, 8, 8 times as many.

    Raises:
        UserError: a value out of range.
    """
    if width < 1:
        raise UserError(f"vgg: width={width}; allowed: 1 or more")
    return VGG(channels, num_classes, width)
