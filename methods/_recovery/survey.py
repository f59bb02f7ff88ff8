"""What enters every convolution and batch norm of a network: of a batch, of each class, of the whole training split.

G-VBSM (Shao et al., CVPR 2024): channel means and variances, and at convolutions also those of square patches of the
map, each over images, channels and the patch's pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import nn

from bench.api import Context, Train
from methods._recovery.moments import Moments, group_moments, to_channels_last
from methods._recovery.patches import patch_moments
from methods._recovery.taps import Taps

KINDS = (nn.Conv2d, nn.BatchNorm2d)

# Per layer that ran: [(mean, variance) per channel] and, of a convolution, (mean, variance) per patch as well; all are
# float32 [groups, channels or patches].
Layers = list[Moments]


class LayerTaps(Taps):
    """A context manager that keeps what enters every convolution and every batch norm of a network.

    A network without batch norm, such as an AlexNet or a ConvNet with instance norm, is matched at its convolutions,
    as in the published ensembles.

    Raises:
        ValueError: the network has neither.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = [layer for layer in network.modules() if isinstance(layer, KINDS)]
        if not self._layers:
            raise ValueError(
                f"the backbone ({type(network).__name__}) has neither a convolution nor a batch norm, whose statistics "
                "this method matches; choose others by backbones=NAME+NAME"
            )
        self._kept: list[tuple[nn.Module, torch.Tensor]] = []
        self._handles: list[torch.utils.hooks.RemovableHandle] = []


def layer_moments(layer: nn.Module, inputs: torch.Tensor, patch: int, runs: Sequence[int] = ()) -> Moments:
    """The statistics of a batch [n, c, h, w] that enters a layer.

    Args:
        layer: of KINDS.
        inputs: what enters it.
        patch: side of a patch, pixels of this map.
        runs: lengths of runs of neighbouring images, each a group of its own; none is one group of all.
    """
    parts, start = list[Moments](), 0
    for length, alike in groupby(runs or [len(inputs)]):
        groups = len(list(alike))
        own = inputs[start : start + groups * length] if runs else inputs
        channels = group_moments(own, groups)
        parts.append([channels, patch_moments(own, patch, groups)] if isinstance(layer, nn.Conv2d) else [channels])
        start += groups * length
    if len(parts) == 1:
        return parts[0]
    return [
        (torch.cat([mean for mean, _ in kind]), torch.cat([var for _, var in kind]))
        for kind in zip(*parts, strict=True)
    ]


def pooled(parts: Sequence[Layers], weights: torch.Tensor) -> Layers:
    """The exact statistics of all images together, from those of disjoint parts of them: one group.

    The variance is the mean of the variances plus the variance of the means (the law of total variance).

    Args:
        parts: one group each, of the same layers.
        weights: [parts], shares of the images; they sum to 1.
    """
    out = []
    for layer in zip(*parts, strict=True):
        own = []
        for entry in zip(*layer, strict=True):
            means, variances = (torch.cat(values) for values in zip(*entry, strict=True))
            share = weights.to(means)[:, None]
            mean = (share * means).sum(dim=0, keepdim=True)
            own.append((mean, (share * (variances + (means - mean).square())).sum(dim=0, keepdim=True)))
        out.append(own)
    return out


@dataclass(frozen=True)
class Backbone:
    """A network, and what the training split looks like inside."""

    network: nn.Module
    overall: Layers  # one group; of a batch norm, the running statistics that it works with
    classes: list[Layers]  # one group each

    def of(self, labels: torch.Tensor) -> Layers:
        """The statistics of a large set of real images with the class frequencies of `labels` (int64 [n])."""
        present, counts = labels.cpu().unique(return_counts=True)
        return pooled([self.classes[label] for label in present.tolist()], counts / len(labels))

    def each(self, labels: Sequence[int]) -> Layers:
        """The statistics of single classes, a group each, in this order."""
        layers = zip(*(self.classes[label] for label in labels), strict=True)
        return [
            [
                (torch.cat([mean for mean, _ in kind]), torch.cat([var for _, var in kind]))
                for kind in zip(*layer, strict=True)
            ]
            for layer in layers
        ]


def survey(train: Train, ctx: Context, network: nn.Module, patch: int, *, batch: int = 64) -> Backbone:
    """Show every training image to the network, in eval mode and not augmented.

    Args:
        train: the training split.
        ctx: gives the device and normalisation.
        network: with a convolution or a batch norm.
        patch: side of a patch, pixels of each layer's own map.
        batch: images at a time; no effect on the result but rounding.

    Raises:
        ValueError: a class is empty, or the network has neither convolution nor batch norm.
    """
    classes, counts, layers = list[Layers](), list[int](), list[nn.Module]()
    with LayerTaps(network) as taps, torch.no_grad():
        for label in range(train.num_classes):
            own = train.class_indices(label)
            if not len(own):
                raise ValueError(f"class {label} has no images, so it has no statistics to match")
            parts, sizes = list[Layers](), list[int]()
            for rows, images in train.batches(batch, own):
                network(to_channels_last(ctx.normalise(images.to(ctx.device))))
                taken = taps.take()
                layers = [layer for layer, _ in taken]
                parts.append([layer_moments(layer, inputs, patch) for layer, inputs in taken])
                sizes.append(len(rows))
            classes.append(pooled(parts, torch.tensor(sizes) / len(own)))
            counts.append(len(own))
    everything = pooled(classes, torch.tensor(counts) / sum(counts))
    overall = [_running(layer) or own for layer, own in zip(layers, everything, strict=True)]
    return Backbone(network, overall, classes)


def _running(layer: nn.Module) -> Moments:
    if not isinstance(layer, nn.BatchNorm2d) or layer.running_mean is None or layer.running_var is None:
        return []
    return [(layer.running_mean[None], layer.running_var[None])]
