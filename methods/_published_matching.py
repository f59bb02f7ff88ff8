"""Gradient matching with the choices of the published code: what `dc-paper` and `dsa-paper` share.

VICO-UoE/DatasetCondensation at 53f63a6, main.py and utils.py. It differs from the engine of `dc` and `dsa`
(methods/_gradient_matching.py) in the network, the start, the range of the pixels, the momentum of the network and, for
DSA, the augmentation of its training; the distance and the step of the images are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bench.api import Condensed, Context, Stepped, Train
from bench.augment import draw_operation, operate, without_flip
from methods._gradient_matching import LR_NETWORK, gradient_distance, loss_gradients
from methods._order import one_of
from methods._random_networks import LAST_MAP, MOMENTUM, RandomNetworks, RealImages, above_zero, at_least
from methods._recovery.loop import to_uint8, valid_range
from methods._siamese import OPERATIONS, draw_transformation
from protocols.networks.convnet import ConvNet
from protocols.networks.dc_convnet import build

_TRAINED_AT_ONCE = 256  # learnt images in a step of the network
_REAL_AT_ONCE = 16  # real images that go through a network together: their maps fit the cache


@dataclass(frozen=True)
class Settings:
    """The parameters of `dc-paper` and `dsa-paper`; see there."""

    iterations: int
    lr: float
    batch: int
    width: int
    outer: int
    inner: int
    momentum: float
    start: str
    pixels: str
    augment: bool  # DSA

    def check(self) -> None:
        """Raise ValueError for the first value that is out of range."""
        at_least(iterations=(self.iterations, 1), batch=(self.batch, 1), width=(self.width, 1))
        at_least(outer=(self.outer, 0), inner=(self.inner, 0), momentum=(self.momentum, 0))
        above_zero(lr=self.lr)
        one_of("start", self.start, "noise", "real")
        one_of("pixels", self.pixels, "float", "levels")


class PublishedNetworks(RandomNetworks):
    """As RandomNetworks, with the network of the published code."""

    def __init__(self, train: Train, width: int, device: torch.device) -> None:
        depth = max(1, round(math.log2(train.size / LAST_MAP)))
        with torch.device("meta"):  # without values, and without random numbers
            empty = build(train.channels, train.size, train.num_classes, depth=depth, width=width)
        self._network = empty.to_empty(device=device)  # type: ignore[assignment]


class KeptNetworks(PublishedNetworks):
    """PublishedNetworks whose present network is a part of a state that is kept."""

    @property
    def network(self) -> ConvNet:
        """Without values before the first is drawn."""
        return self._network


def match_published(train: Train, ipc: int, ctx: Context, settings: Settings) -> Condensed:
    """Learn `ipc` images of every class as the published code does.

    Raises:
        ValueError: a value is out of range, or a class has too few images.
    """
    settings.check()
    steps = settings.outer or min(ipc, 10)  # on one network
    classes, mirror = range(train.num_classes), train.mirror
    reals = RealImages(train, ipc if settings.start == "real" else 1, ctx)
    # One stream for all classes: a class has its own row of the classifier, so that its number matters in any case.
    choice, weights, order = ctx.torch("real images"), ctx.torch("networks"), ctx.torch("order")
    images = torch.cat([_start(settings.start, train, ipc, reals, label, choice) for label in classes])
    images = images.to(ctx.device).requires_grad_(True)
    targets = torch.arange(train.num_classes, device=ctx.device).repeat_interleave(ipc)
    optimizer = torch.optim.SGD([images], lr=settings.lr, momentum=MOMENTUM)
    networks = KeptNetworks(train, settings.width, ctx.device)
    network = networks.network
    trainer = torch.optim.SGD(network.parameters(), lr=LR_NETWORK, momentum=settings.momentum)
    losses: list[float] = []
    state: dict[str, Stepped] = {"images": images, "pixels": optimizer, "network": network, "trainer": trainer}
    state |= {"choice": choice, "weights": weights, "order": order, "losses": losses}
    for iteration in ctx.steps(settings.iterations, state):
        if iteration % steps == 0:
            networks.draw(weights)
            trainer.state.clear()  # no momentum of the network before
        total, gradients = 0.0, list[torch.Tensor]()
        for label, each in enumerate(images.detach().split(ipc)):
            real, learnt = reals.some(label, settings.batch, choice), each.clone().requires_grad_(True)
            shown = learnt
            if settings.augment:  # Siamese: the same change for all real and learnt images of the class
                both = draw_transformation(choice, mirror=mirror)
                real, shown = both(real), both(learnt)
            given = loss_gradients(network, shown, label, graph=True)
            distance = gradient_distance(given, real_gradients(network, real, label))
            gradients += torch.autograd.grad(distance, learnt)
            total += float(distance.detach())
        images.grad = torch.cat(gradients)
        optimizer.step()
        losses.append(total / train.num_classes)
        if (iteration + 1) % steps and iteration + 1 < settings.iterations:
            for _ in range(settings.inner):
                train_network(network, trainer, images.detach(), targets, order, settings.augment, mirror=mirror)
    return _condensed(images.detach(), targets.cpu(), ctx, settings.pixels, losses)


def real_gradients(network: nn.Module, images: torch.Tensor, label: int) -> list[torch.Tensor]:
    """Gradients of the mean cross-entropy of images [n, c, s, s] of one class, a few images at a time."""
    parameters = list(network.parameters())
    sums = [torch.zeros_like(each) for each in parameters]
    for part in images.split(_REAL_AT_ONCE):
        targets = torch.full((len(part),), label, device=part.device)
        loss = F.cross_entropy(network(part), targets, reduction="sum") / len(images)
        torch._foreach_add_(sums, torch.autograd.grad(loss, parameters))
    return sums


def train_network(
    network: nn.Module,
    trainer: torch.optim.Optimizer,
    images: torch.Tensor,
    targets: torch.Tensor,
    order: torch.Generator,
    augment: bool,
    *,
    mirror: bool,
) -> None:
    """One epoch on the learnt images; with `augment`, one operation a batch with parameters of each image's own."""
    for rows in torch.randperm(len(images), generator=order).split(_TRAINED_AT_ONCE):
        shown = images[rows]
        if augment:
            drawn = int(torch.randint(2**62, (), generator=order))
            shown = operate(shown, *draw_operation(drawn, without_flip(OPERATIONS, mirror=mirror), len(shown)))
        trainer.zero_grad()
        F.cross_entropy(network(shown), targets[rows.to(images.device)]).backward()
        trainer.step()


def _start(start: str, train: Train, ipc: int, reals: RealImages, label: int, stream: torch.Generator) -> torch.Tensor:
    """Normalised [ipc, c, s, s]: real images of the class, or noise of the data set's mean and spread."""
    if start == "real":
        return reals.some(label, ipc, stream)
    return torch.randn(ipc, train.channels, train.size, train.size, generator=stream)


def _condensed(images: torch.Tensor, labels: torch.Tensor, ctx: Context, pixels: str, losses: list[float]) -> Condensed:
    low, high = valid_range(ctx, images.shape[1])
    outside = float(((images < low) | (images > high)).float().mean())
    levels = ((images - low) / (high - low) * 255).float().cpu()
    tenth = max(1, len(losses) // 10)
    return Condensed(
        images=to_uint8(images, low, high) if pixels == "levels" else levels,
        labels=labels,
        provenance={
            "loss_first_tenth": float(np.mean(losses[:tenth])),
            "loss_last_tenth": float(np.mean(losses[-tenth:])),
            "pixels_outside_black_and_white": outside,
        },
    )
