"""A small ResNet for images of 8 to 64 px: 3x3 stem, three stages of basic blocks, batch norm, average pooling."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from bench.errors import UserError

CITATION = "K. He, X. Zhang, S. Ren, J. Sun: Deep Residual Learning for Image Recognition. CVPR 2016, section 4.2."


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected by a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, inputs, s, s] -> [n, outputs, s / stride, s / stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """The CIFAR layout: widths w, 2w, 4w at full, half and quarter resolution."""

    def __init__(self, channels: int, num_classes: int, width: int, blocks: int, pool: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        stages: list[nn.Module] = []
        inputs = width
        for stage in range(3):
            outputs = width << stage
            for block in range(blocks):
                stages.append(BasicBlock(inputs, outputs, 2 if stage > 0 and block == 0 else 1))
                inputs = outputs
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(pool)
        self.classifier = nn.Linear(inputs * pool * pool, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Penultimate activations float32 [n, 4 * width * pool * pool]."""
        return self.pool(self.stages(self.stem(x))).flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits float32 [n, num_classes]."""
        return self.classifier(self.features(x))


def build(channels: int, size: int, num_classes: int, *, width: int = 32, blocks: int = 1, pool: int = 2) -> nn.Module:
    """A small ResNet; 0.36 million parameters with the defaults and 100 classes.

    Args:
        channels: of the images.
        size: pixels, height and width of the images: 4 * pool or more.
        num_classes: logits.
        width: channels of the first stage; the others have two and four times as many.
        blocks: basic blocks per stage.
        pool: side of the map that is left for the classifier. 1 is the paper's global average, which tells strokes
            apart but not where they are: characters are learned far slower with it.

    Raises:
        UserError: a value out of range.
    """
    if width < 1 or blocks < 1:
        raise UserError(f"resnet: width={width}, blocks={blocks}; allowed: 1 or more of each")
    if not 1 <= pool <= size // 4:
        raise UserError(f"resnet: pool={pool} does not fit images of {size} px; allowed: 1 to {size // 4}")
    return ResNet(channels, num_classes, width, blocks, pool)
