"""A reference outside the rules: no labels are stored; the teacher is shipped in float16 and asked again every epoch.

It keeps the labels up to the rounding of its weights, and beats every code of labels whose set is large enough. No
compressor could do it: a decoder has no images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

OUTSIDE = (
    "outside the rules: needs the teacher and the images at training time, and a forward pass of the teacher for every "
    "label in every epoch"
)


@dataclass(frozen=True)
class KnownTeacher:
    """A network whose size is known without building it; parameters and running statistics, as functions of C."""

    name: str
    values: int  # floating-point numbers without the last layer
    features: int  # inputs of the last layer
    counters: int  # int64 buffers: batch norm's numbers of batches

    def fp16_bytes(self, classes: int) -> int:
        """What `fp16_bytes` of the network with this many classes gives."""
        return 2 * (self.values + (self.features + 1) * classes) + 8 * self.counters


KNOWN = (
    KnownTeacher("ResNet-18, the literature's teacher", 11_176_512 + 9_600, 512, 20),
    KnownTeacher("EfficientNet-Lite0, of `labels --photos`", 3_371_008 + 42_016, 1280, 49),
)


def fp16_bytes(*networks: nn.Module) -> int:
    """Bytes of all parameters and buffers, floating-point ones in float16, others as they are; without a container."""
    return sum(_bytes(tensor) for network in networks for tensor in network.state_dict().values())


def known_teachers(classes: int) -> Sequence[tuple[str, int]]:
    """(name, bytes in float16) of networks that the literature and this project label with."""
    return [(teacher.name, teacher.fp16_bytes(classes)) for teacher in KNOWN]


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * (2 if tensor.is_floating_point() else tensor.element_size())
