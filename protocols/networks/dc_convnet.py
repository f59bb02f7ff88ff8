"""ConvNet-D as in the code of DC, DSA and DM: the first convolution pads images of one channel by three pixels."""

from __future__ import annotations

import torch
from torch import nn

from bench.errors import UserError

CITATION = (
    "B. Zhao, K. R. Mopuri, H. Bilen: Dataset Condensation with Gradient Matching. ICLR 2021; network as in its code, "
    "VICO-UoE/DatasetCondensation at 53f63a6 (networks.py, utils.py)."
)
GREY_FRAME = 2  # pixels that a padding of 3 instead of 1 adds on every side


class DCConvNet(nn.Module):
    """Blocks of 3x3 convolution with bias, GroupNorm with a group per channel, ReLU and 2x2 average pooling.

    28 pixels of one channel become 32, 16, 8, 4; as the frame is zero after normalisation, it has the mean grey.
    """

    def __init__(self, channels: int, side: int, num_classes: int, depth: int, width: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for index in range(depth):
            padding = 1 + GREY_FRAME if index == 0 and channels == 1 else 1
            blocks += [
                nn.Conv2d(channels if index == 0 else width, width, 3, padding=padding),
                nn.GroupNorm(width, width),
                nn.ReLU(inplace=True),
                nn.AvgPool2d(2),
            ]
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(width * (side >> depth) ** 2, num_classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Penultimate activations float32 [n, d]: the last map, flattened."""
        return self.blocks(x).flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits float32 [n, num_classes]."""
        return self.classifier(self.features(x))


def build(channels: int, size: int, num_classes: int, *, depth: int = 3, width: int = 128) -> nn.Module:
    """The published network: 317,706 parameters and 2048 features for one channel, 28 px and ten classes.

    Args:
        channels: of the images; where there is one, the first map is 4 pixels larger than the image.
        size: pixels, height and width of the images.
        num_classes: logits.
        depth: blocks; each halves the map (the source takes 3 at 28 and 32 px, 4 at 64).
        width: channels of every block.

    Raises:
        UserError: a value out of range, or a map that shrinks below one pixel.
    """
    side = size + (2 * GREY_FRAME if channels == 1 else 0)
    deepest = side.bit_length() - 1
    if not 1 <= depth <= deepest:
        raise UserError(
            f"dc_convnet: depth={depth} does not fit maps of {side} px, each block halves them; allowed: 1 to {deepest}"
        )
    if width < 1:
        raise UserError(f"dc_convnet: width={width}; allowed: 1 or more")
    return DCConvNet(channels, side, num_classes, depth, width)
