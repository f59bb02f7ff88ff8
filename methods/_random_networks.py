"""What DM, DC and DSA share: freshly initialised ConvNets, a start from real images, batches of real images."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from bench.api import Condensed, Context, Train
from methods._quota import class_members
from methods._recovery.loop import to_uint8, valid_range
from protocols.networks.convnet import ConvNet

LAST_MAP = 4  # pixels a side after the last block: three blocks at 32 pixels, four at 64, as in the literature
MOMENTUM = 0.5  # of SGD, for the images and for the networks


class RandomNetworks:
    """ConvNets with instance norm, one after the other in the same memory, each with new weights.

    The weights are torch's own initialisation (uniform within 1 / sqrt(fan-in)), drawn from a generator of ours: no
    global generator is touched.
    """

    def __init__(self, train: Train, width: int, device: torch.device) -> None:
        depth = max(1, round(math.log2(train.size / LAST_MAP)))
        with torch.device("meta"):  # without values, and without random numbers
            empty = ConvNet(train.channels, train.size, train.num_classes, depth, width, "instance")
        self._network = empty.to_empty(device=device)

    def draw(self, generator: torch.Generator) -> ConvNet:
        """The next network; the one before it is overwritten."""
        for module in self._network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                bound = 1 / math.sqrt(module.weight[0].numel())
                for parameter in module.parameters():
                    values = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
                    parameter.data.copy_(values)
            elif isinstance(module, nn.GroupNorm):
                module.reset_parameters()
        return self._network


class RealImages:
    """Random training images of a class, normalised."""

    def __init__(self, train: Train, ipc: int, ctx: Context) -> None:
        self._train, self._ctx = train, ctx
        self._members = [members for _, members in class_members(train, ipc)]

    def some(self, label: int, count: int, generator: torch.Generator) -> torch.Tensor:
        """float32 [min(count, images of the class), c, s, s], no image twice."""
        own = self._members[label]
        chosen: np.ndarray = own[torch.randperm(len(own), generator=generator)[:count].numpy()]
        return self._ctx.normalise(self._train.images(chosen).to(self._ctx.device))


class Pixels:
    """The images that are learnt: SGD with momentum, kept between black and white after every step.

    The literature's code lets pixels leave that range and cuts them when it saves the images; what is handed in here
    are 256 values, so the range holds throughout.
    """

    def __init__(self, start: torch.Tensor, ctx: Context, lr: float) -> None:
        self.images = start.clone().requires_grad_(True)
        self._low, self._high = valid_range(ctx, start.shape[1])
        self._optimizer = torch.optim.SGD([self.images], lr=lr, momentum=MOMENTUM)

    def step(self, gradient: torch.Tensor) -> None:
        """One step down the gradient, and back into the valid range."""
        self.images.grad = gradient
        self._optimizer.step()
        with torch.no_grad():
            self.images.copy_(torch.minimum(torch.maximum(self.images, self._low), self._high))

    def condensed(self, classes: int, losses: list[float]) -> Condensed:
        """What the method hands in; `losses` of every step, of which the provenance tells the two ends."""
        tenth = max(1, len(losses) // 10)
        return Condensed(
            images=to_uint8(self.images.detach(), self._low, self._high),
            labels=torch.arange(classes).repeat_interleave(len(self.images) // classes),
            provenance={
                "loss_first_tenth": float(np.mean(losses[:tenth])),
                "loss_last_tenth": float(np.mean(losses[-tenth:])),
                "deviations": "pixels stay within black and white at every step",
            },
        )


def at_least(**limits: tuple[float, float]) -> None:
    """Raise ValueError for the first argument (value, least) that is below its least."""
    for name, (value, least) in limits.items():
        if not value >= least:
            raise ValueError(f"{name} is {value}; it must be at least {least}")


def above_zero(**values: float) -> None:
    """Raise ValueError for the first argument that is not above zero."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}; it must be above 0")
