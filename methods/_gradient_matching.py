"""Gradient matching, the engine of DC and DSA: images that push a network where the real images of their class do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from bench.api import Condensed, Context, Train
from methods._random_networks import MOMENTUM, Pixels, RandomNetworks, RealImages, above_zero, at_least
from methods._siamese import Transformation, draw_transformation
from protocols.networks.convnet import ConvNet

LR_NETWORK = 0.01
_TRAINED_AT_ONCE = 256  # learnt images in a step of the network
_EPS = 1e-6  # on the product of two norms, as in the code of DC


def gradient_distance(learnt: Sequence[torch.Tensor], real: Sequence[torch.Tensor]) -> torch.Tensor:
    """Sum over weights and their output units of 1 - cosine of two gradients (DC, equation 9).

    A convolution [out, in, h, w] and a linear layer [out, in] have a cosine for each of `out`; tensors of one dimension
    (biases, norms) do not count, as in the code.
    """
    total = torch.zeros((), device=real[0].device)
    for ours, theirs in zip(learnt, real, strict=True):
        if theirs.ndim > 1:
            a, b = ours.flatten(1), theirs.flatten(1)
            total = total + (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + _EPS)).sum()
    return total


def loss_gradients(network: ConvNet, images: torch.Tensor, label: int, *, graph: bool) -> tuple[torch.Tensor, ...]:
    """Gradients of the mean cross-entropy of images of one class; with `graph` they can be differentiated again."""
    loss = F.cross_entropy(network(images), torch.full((len(images),), label, device=images.device))
    return torch.autograd.grad(loss, list(network.parameters()), create_graph=graph)


def match_gradients(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    iterations: int,
    lr: float,
    batch: int,
    width: int,
    outer: int,
    inner: int,
    augment: bool,
) -> Condensed:
    """Learn `ipc` images of every class, starting from real ones; see the parameters of `dc`.

    Raises:
        ValueError: an argument is out of range, or a class has fewer than `ipc` images.
    """
    at_least(iterations=(iterations, 1), batch=(batch, 1), width=(width, 1), outer=(outer, 0), inner=(inner, 0))
    above_zero(lr=lr)
    reals = RealImages(train, ipc, ctx)
    choice, weights, order = ctx.torch("real images"), ctx.torch("networks"), ctx.torch("order")
    classes = range(train.num_classes)
    pixels = Pixels(torch.cat([reals.some(label, ipc, choice) for label in classes]), ctx, lr)
    networks = RandomNetworks(train, width, ctx.device)
    steps = outer or min(ipc, 10)  # on one network
    targets = torch.arange(train.num_classes, device=ctx.device).repeat_interleave(ipc)
    losses: list[float] = []
    for iteration in range(iterations):
        if iteration % steps == 0:
            network = networks.draw(weights)
            optimizer = torch.optim.SGD(network.parameters(), lr=LR_NETWORK, momentum=MOMENTUM)
        total, gradients = 0.0, list[torch.Tensor]()
        for label, start in enumerate(pixels.images.detach().split(ipc)):
            real, learnt = reals.some(label, batch, choice), start.requires_grad_(True)
            both: Transformation | None = draw_transformation(choice, mirror=train.mirror) if augment else None
            wanted = loss_gradients(network, both(real) if both else real, label, graph=False)
            given = loss_gradients(network, both(learnt) if both else learnt, label, graph=True)
            distance = gradient_distance(given, wanted)
            gradients += torch.autograd.grad(distance, learnt)
            total += float(distance.detach())
        pixels.step(torch.cat(gradients))
        losses.append(total / train.num_classes)
        if (iteration + 1) % steps and iteration + 1 < iterations:
            fixed = pixels.images.detach()
            for _ in range(inner):
                for rows in torch.randperm(len(fixed), generator=order).split(_TRAINED_AT_ONCE):
                    images = fixed[rows]
                    if augment:
                        images = draw_transformation(order, mirror=train.mirror)(images)
                    optimizer.zero_grad()
                    F.cross_entropy(network(images), targets[rows.to(ctx.device)]).backward()
                    optimizer.step()
    return pixels.condensed(train.num_classes, losses)
