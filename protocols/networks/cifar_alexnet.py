"""AlexNet for small images, as the condensation literature has it: 5x5 stem of stride 1, three poolings, one linear."""

from __future__ import annotations

import torch
from torch import nn

from bench.errors import UserError

CITATION = (
    "A. Krizhevsky, I. Sutskever, G. E. Hinton: ImageNet Classification with Deep Convolutional Neural Networks. "
    "NeurIPS 2012; as in the code of B. Zhao, K. R. Mopuri, H. Bilen: Dataset Condensation with Gradient Matching. "
    "ICLR 2021, which EDC takes over."
)
_POOLINGS = 3


class AlexNet(nn.Module):
    """Five convolutions, no norm and no dropout. Images of one channel are padded to 32 px, as MNIST is there."""

    def __init__(self, channels: int, size: int, num_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 128, kernel_size=5, stride=1, padding=4 if channels == 1 else 2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=2, stride=2),
            nn.Conv2d(128, 192, kernel_size=5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=2, stride=2),
            nn.Conv2d(192, 256, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 192, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(192, 192, kernel_size=3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=2, stride=2),
        )
        side = (size + (4 if channels == 1 else 0)) >> _POOLINGS
        self.classifier = nn.Linear(192 * side * side, num_classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Penultimate activations float32 [n, 192 * side^2]."""
        return self.body(x).flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits float32 [n, num_classes]."""
        return self.classifier(self.features(x))


def build(channels: int, size: int, num_classes: int) -> nn.Module:
    """AlexNet for small images.

    Args:
        channels: of the images.
        size: pixels, height and width of the images; 8 or more.
        num_classes: logits.

    Raises:
        UserError: the map shrinks below one pixel.
    """
    if size < 2**_POOLINGS:
        raise UserError(f"cifar_alexnet: images of {size} px are too small, it halves them three times; allowed: 8 on")
    return AlexNet(channels, size, num_classes)
