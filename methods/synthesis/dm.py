"""DM: images whose mean features in random networks are those of the real images of their class."""

from __future__ import annotations

import torch

from bench.api import Condensed, Context, Train
from methods._random_networks import Pixels, RandomNetworks, RealImages, above_zero, at_least
from methods._siamese import draw_transformation
from protocols.networks.convnet import ConvNet

TEACHER = False  # the features are those of random networks
CITATION = "Zhao and Bilen, Dataset Condensation with Distribution Matching, WACV 2023, and its code."
PUBLISHED = {
    "mnist": {"iterations": 20000, "lr": 1.0, "batch": 256, "width": 128},
    "cifar10": {"iterations": 20000, "lr": 1.0, "batch": 256, "width": 128},
    "cifar100": {"iterations": 20000, "lr": 1.0, "batch": 256, "width": 128},
}

_REAL_AT_ONCE = 1024  # images of whole classes that go through a network together


def mean_feature_distance(network: ConvNet, real: list[torch.Tensor], learnt: list[torch.Tensor]) -> torch.Tensor:
    """Sum over classes of the squared distance between the mean features of real and of learnt images.

    Args:
        network: gives features [n, d].
        real: normalised [n, c, s, s] for each class; no gradient flows there.
        learnt: the same for the learnt images; a class may have another number of them.
    """
    with torch.no_grad():
        wanted = _means(network, real)
    return (wanted - _means(network, learnt)).square().sum()


def _means(network: ConvNet, classes: list[torch.Tensor]) -> torch.Tensor:
    parts = network.features(torch.cat(classes)).split([len(images) for images in classes])
    return torch.stack([part.mean(dim=0) for part in parts])


def synthesize(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    iterations: int = 200,
    lr: float = 0.3,
    batch: int = 64,
    width: int = 32,
    augment: bool = True,
) -> Condensed:
    """Learn `ipc` images of every class, starting from real ones.

    Every iteration has a new random ConvNet and, for each class, new real images and a new transformation of both.

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives the normalisation and the generators; the teacher is not used.
        iterations: steps, each with a network of its own; at least 1.
        lr: of SGD with momentum 0.5; above 0. The published 1.0 is for networks four times as wide and 32 pixels; 0.3
            was chosen on digits held out from the training split, where 1.0 oscillates.
        batch: real images per class and step (all of a smaller class); at least 1.
        width: channels of the networks; at least 1.
        augment: transform real and learnt images alike (DSA), as published.

    Returns:
        Condensed with uint8 images [num_classes * ipc, channels, size, size], class after class.

    Raises:
        ValueError: an argument is out of range, or a class has fewer than `ipc` images.
    """
    at_least(iterations=(iterations, 1), batch=(batch, 1), width=(width, 1))
    above_zero(lr=lr)
    reals = RealImages(train, ipc, ctx)
    streams = [ctx.torch("class", label) for label in range(train.num_classes)]
    pixels = Pixels(torch.cat([reals.some(label, ipc, stream) for label, stream in enumerate(streams)]), ctx, lr)
    networks, weights = RandomNetworks(train, width, ctx.device), ctx.torch("networks")
    losses = []
    for _ in range(iterations):
        network = networks.draw(weights)
        total, gradients = 0.0, list[torch.Tensor]()
        for labels in torch.arange(train.num_classes).split(max(1, _REAL_AT_ONCE // max(batch, ipc))):
            own = pixels.images.detach()[int(labels[0]) * ipc : (int(labels[-1]) + 1) * ipc].requires_grad_(True)
            real, learnt = [], []
            for label, images in zip(labels.tolist(), own.split(ipc), strict=True):
                sample = reals.some(label, batch, streams[label])
                if augment:
                    transformation = draw_transformation(streams[label], mirror=train.mirror)
                    sample, images = transformation(sample), transformation(images)
                real.append(sample)
                learnt.append(images)
            loss = mean_feature_distance(network, real, learnt)
            gradients += torch.autograd.grad(loss, own)
            total += float(loss.detach())
        pixels.step(torch.cat(gradients))
        losses.append(total / train.num_classes)
    return pixels.condensed(train.num_classes, losses)
