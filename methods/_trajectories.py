"""Trajectories of weights: of experts on the training split, epoch by epoch, and of a student on learnt images.

G. Cazenavette et al., Dataset Distillation by Matching Training Trajectories, CVPR 2022; code
GeorgeCazenavette/mtt-distillation (buffer.py, distill.py at 1a6f630).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from bench.api import Context, Train
from bench.augment import draw_operation, operate, without_flip
from methods._published_matching import PublishedNetworks
from methods._siamese import OPERATIONS

Weights = Sequence[torch.Tensor]  # of a network, in the order of its parameters


class Experts:
    """Networks trained on the real split by plain SGD, with their weights before training and after each epoch.

    They take 4 * experts * (epochs + 1) * parameters bytes of the machine's memory, whatever the device.
    """

    def __init__(self, train: Train, ctx: Context, *, width: int, lr: float, batch: int, augment: bool) -> None:
        self._train, self._ctx = train, ctx
        self._lr, self._batch, self._augment = lr, batch, augment
        self._networks, self._weights = PublishedNetworks(train, width, ctx.device), ctx.torch("networks")
        self._order = ctx.torch("order of experts")
        self.trajectories: list[list[Weights]] = []
        self.last_losses: list[float] = []  # of each expert: the mean over its last epoch

    def record(self, epochs: int) -> nn.Module:
        """Train one more expert for so many epochs; returns its network, which the next one overwrites.

        Momentum, weight decay and schedule: none. Every batch of the whole split, shuffled anew in each epoch, is
        changed by one operation of DSA, with parameters of each image's own.
        """
        network = self._networks.draw(self._weights)
        trainer = torch.optim.SGD(network.parameters(), lr=self._lr)
        trajectory = [_copied(network)]
        labels = torch.from_numpy(self._train.labels.copy())
        for _ in range(epochs):
            total = 0.0
            for rows in torch.randperm(len(self._train), generator=self._order).split(self._batch):
                images = self._ctx.normalise(self._train.images(rows.numpy()).to(self._ctx.device))
                if self._augment:
                    images = changed(images, self._order, mirror=self._train.mirror)
                trainer.zero_grad()
                loss = F.cross_entropy(network(images), labels[rows].to(self._ctx.device))
                loss.backward()
                trainer.step()
                total += float(loss.detach()) * len(rows)
            trajectory.append(_copied(network))
        self.trajectories.append(trajectory)
        self.last_losses.append(total / len(self._train))
        return network

    def stretch(self, expert: int, start: int, epochs: int) -> tuple[Weights, Weights]:
        """(an expert's weights after `start` epochs, and `epochs` later), on the context's device."""
        first, last = (self.trajectories[expert][epoch] for epoch in (start, start + epochs))
        return [each.to(self._ctx.device) for each in first], [each.to(self._ctx.device) for each in last]


def changed(images: torch.Tensor, generator: torch.Generator, *, mirror: bool) -> torch.Tensor:
    """Normalised [n, c, s, s] after one operation of DSA a batch, as its evaluation applies it; differentiable."""
    drawn = int(torch.randint(2**62, (), generator=generator))
    return operate(images, *draw_operation(drawn, without_flip(OPERATIONS, mirror=mirror), len(images)))


def shuffled(images: int, batch: int, steps: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Rows int64 of `steps` batches: all images in random order, batch by batch, and then in another order."""
    left: list[torch.Tensor] = []
    for _ in range(steps):
        if not left:
            left = list(torch.randperm(images, generator=generator).split(batch))
        yield left.pop()


def student_weights(
    network: nn.Module,
    start: Weights,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    rate: torch.Tensor,
) -> Weights:
    """Weights after one step of gradient descent a batch, differentiable by images, labels and rate.

    The graph of all steps is held until it is differentiated.

    Args:
        network: gives the architecture; its weights are neither read nor changed.
        start: weights, in the order of its parameters.
        batches: (images [n, c, s, s], labels: classes int64 [n], or probabilities [n, C]).
        rate: learning rate, a tensor without dimensions.
    """
    names = [name for name, _ in network.named_parameters()]
    weights: Weights = [each.detach().requires_grad_(True) for each in start]
    for images, labels in batches:
        logits = functional_call(network, dict(zip(names, weights, strict=True)), (images,))
        gradients = torch.autograd.grad(F.cross_entropy(logits, labels), list(weights), create_graph=True)
        weights = [each - rate * gradient for each, gradient in zip(weights, gradients, strict=True)]
    return weights


def trajectory_distance(student: Weights, start: Weights, target: Weights) -> torch.Tensor:
    """|student - target|^2 / |start - target|^2 over all weights: 1 of a student that has not moved, 0 at the target.

    An expert that has not moved either (a single class has no gradient) gives 0 for a student that stands there too.
    """
    left, way = _squared_distance(student, target), _squared_distance(start, target)
    return left / way.clamp_min(torch.finfo(way.dtype).tiny)


def _squared_distance(ours: Weights, theirs: Weights) -> torch.Tensor:
    return torch.stack([(a - b).square().sum() for a, b in zip(ours, theirs, strict=True)]).sum()


def _copied(network: nn.Module) -> Weights:
    return [each.detach().to("cpu", copy=True) for each in network.parameters()]
