"""ConvNet-D of the condensation literature: D blocks of 3x3 convolution, norm, ReLU and 2x2 average pooling."""

from __future__ import annotations

import torch
from torch import nn

from bench.errors import UserError

CITATION = (
    "S. Gidaris, N. Komodakis: Dynamic Few-Shot Visual Learning without Forgetting. CVPR 2018; "
    "as used by B. Zhao, K. R. Mopuri, H. Bilen: Dataset Condensation with Gradient Matching. ICLR 2021."
)
NORMS = ("batch", "instance", "none")


class ConvNet(nn.Module):
    """Pooling rounds down, so 28 pixels become 14, 7, 3."""

    def __init__(self, channels: int, size: int, num_classes: int, depth: int, width: int, norm: str) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for index in range(depth):
            # A norm with its own shift makes the convolution's bias idle.
            blocks.append(nn.Conv2d(channels if index == 0 else width, width, 3, padding=1, bias=norm == "none"))
            if norm == "batch":
                blocks.append(nn.BatchNorm2d(width))
            elif norm == "instance":
                blocks.append(nn.GroupNorm(width, width))
            blocks += [nn.ReLU(inplace=True), nn.AvgPool2d(2)]
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(width * (size >> depth) ** 2, num_classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Penultimate activations float32 [n, width * (size >> depth) ** 2]."""
        return self.blocks(x).flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits float32 [n, num_classes]."""
        return self.classifier(self.features(x))


def build(
    channels: int, size: int, num_classes: int, *, depth: int = 3, width: int = 32, norm: str = "batch"
) -> nn.Module:
    """ConvNet-D.

    Args:
        channels: of the images.
        size: pixels, height and width of the images.
        num_classes: logits.
        depth: blocks; each halves the map (the literature takes 3 at 32 px, 4 at 64, 5 or 6 at 128).
        width: channels of every block (the literature takes 128).
        norm: "batch" (RDED), "instance" (GroupNorm with a group per channel; DC-BENCH, DD-Ranking) or "none".

    Raises:
        UserError: a value out of range, or a map that shrinks below one pixel.
    """
    deepest = size.bit_length() - 1
    if not 1 <= depth <= deepest:
        raise UserError(
            f"convnet: depth={depth} does not fit images of {size} px, each block halves them; allowed: 1 to {deepest}"
        )
    if width < 1:
        raise UserError(f"convnet: width={width}; allowed: 1 or more")
    if norm not in NORMS:
        raise UserError(f"convnet: norm={norm!r}; allowed: {', '.join(NORMS)}")
    return ConvNet(channels, size, num_classes, depth, width, norm)
