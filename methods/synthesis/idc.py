"""IDC: mosaics whose enlarged tiles push a network that real images train where the real images of their class do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bench.api import Condensed, Context, Train
from methods._formation import coloured_and_moved, formed, mixed_boxes
from methods._gradient_matching import LR_NETWORK, loss_gradients
from methods._mosaic import mosaics
from methods._order import one_of
from methods._random_networks import MOMENTUM, RandomNetworks, RealImages, above_zero, at_least
from methods._recovery.loop import valid_range
from methods._siamese import Transformation

CITATION = (
    "Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022, and its code "
    "(snu-mllab/Efficient-Dataset-Condensation: condense.py, misc/reproduce.py)."
)
# The code counts 2000 networks of 100 steps; iterations here count steps of the images.
PUBLISHED = {
    "cifar10": {"iterations": 200000, "inner": 100, "lr": 0.005, "metric": "mse", "seen": 2000, "width": 128},
    "svhn": {"iterations": 200000, "inner": 100, "lr": 0.005, "metric": "mse", "seen": 500, "width": 128},
    "fashion-mnist": {"iterations": 200000, "inner": 100, "lr": 0.0001, "metric": "l1", "seen": 500, "width": 128},
    "mnist": {
        "iterations": 200000, "inner": 100, "lr": 0.0001, "metric": "l1", "seen": 500, "width": 128, "mixing": False,
    },
}  # fmt: skip
_NETWORK_MOMENTUM = 0.9
_WEIGHT_DECAY = 0.0005
_NETWORK_BATCH = 64
_MIX_PROBABILITY = 0.5


def matching_distance(learnt: Sequence[torch.Tensor], real: Sequence[torch.Tensor], metric: str) -> torch.Tensor:
    """Sum over the convolutions' weights of |difference| ("l1") or of its square ("mse") of two gradients.

    Linear layers, biases and norms do not count, as in the code.
    """
    total = torch.zeros((), device=real[0].device)
    for ours, theirs in zip(learnt, real, strict=True):
        if theirs.ndim == 4:
            difference = ours - theirs
            total = total + (difference.abs() if metric == "l1" else difference.square()).sum()
    return total


def synthesize(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    iterations: int = 200,
    inner: int = 20,
    factor: int = 2,
    lr: float = 0.1,
    metric: Literal["l1", "mse"] = "l1",
    batch: int = 64,
    learnt_batch: int = 128,
    seen: int = 128,
    mixing: bool = True,
    width: int = 32,
) -> Condensed:
    """Learn `ipc` mosaics of every class, of which each tile is enlarged to an image of its own.

    For every class and step, real images and those that its mosaics stand for go through one random colour, crop and
    cutout, the same for all. The mosaics follow the gradient of the distance between the two gradients of the loss.
    After each step the network is trained on real images, with CutMix. With `factor` 1 it is IDC-I: no mosaics.
    A class that has fewer images than tiles gives some of them again.

    Students see mosaics as they are unless a protocol takes them apart, one tile a step:
    `--protocol dsa-v1:recipe.augment.patch_grid=2,recipe.augment.patches=extract` does so for two tiles a side.

    Deviations: the published evaluation trains on all tiles of an image in every epoch (batch 64, 1000 epochs, DSA and
    CutMix); no protocol here does. The networks are DC's ConvNet; ResNetAP-10, for ImageNet, is not here.

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives the normalisation and the generators; the teacher is not used.
        iterations: steps of the images; at least 1.
        inner: steps of the images on one network; at least 1.
        factor: tiles a side of a stored image; at least 1, at most the size.
        lr: of pixels between 0 and 1 at ten images a class, SGD with momentum 0.5; above 0. It grows with `ipc`, as in
            the code. On digits held out from the training split (IDC-I, ipc 1, dsa-v1, two sets each) 0.01, 0.1 and 1
            gave 85, 89 and 87 % by "l1"; 0.1 and 1 gave 85 and 88 % by "mse"; random images gave 71 %.
        metric: of the distance: "l1" or "mse".
        batch: real images per class and step (all of a smaller class); at least 1.
        learnt_batch: at most so many of a class's enlarged tiles are drawn for a step; at least 1.
        seen: real images that the network is trained on after each step; 0 leaves it as it was drawn.
        mixing: cutout in matching and CutMix in the network's training; published without for MNIST with tiles.
        width: channels of the networks; at least 1.

    Returns:
        Condensed with uint8 images [num_classes * ipc, channels, size, size], class after class.

    Raises:
        ValueError: an argument is out of range, a class has fewer than `ipc` images, or the distance is no longer
            finite.
    """
    at_least(iterations=(iterations, 1), inner=(inner, 1), factor=(factor, 1), batch=(batch, 1), width=(width, 1))
    at_least(learnt_batch=(learnt_batch, 1), seen=(seen, 0))
    above_zero(lr=lr)
    one_of("metric", metric, "l1", "mse")
    if factor > train.size:
        raise ValueError(f"factor is {factor}; an image of {train.size} px has at most so many tiles a side")
    choice, weights, order = ctx.torch("real images"), ctx.torch("networks"), ctx.torch("order")
    reals = RealImages(train, ipc, ctx)
    low, high = valid_range(ctx, train.channels)
    classes = range(train.num_classes)
    starts = [mosaics(_some_or_again(reals, label, ipc * factor**2, choice), train.size, factor) for label in classes]
    pixels = ((torch.cat(starts) - low) / (high - low)).requires_grad_(True)
    optimizer = torch.optim.SGD([pixels], lr=lr * ipc / 10, momentum=MOMENTUM)
    networks = RandomNetworks(train, width, ctx.device)
    losses: list[float] = []
    for iteration in range(iterations):
        if iteration % inner == 0:
            network = networks.draw(weights)
            trainer = torch.optim.SGD(
                network.parameters(), lr=LR_NETWORK, momentum=_NETWORK_MOMENTUM, weight_decay=_WEIGHT_DECAY
            )
            with torch.no_grad():
                pixels.clamp_(0, 1)
        total = 0.0
        for label in classes:
            real = reals.some(label, batch, choice)
            learnt = formed(pixels[label * ipc : (label + 1) * ipc], factor) * (high - low) + low
            if len(learnt) > learnt_batch:
                learnt = learnt[torch.randperm(len(learnt), generator=choice)[:learnt_batch].to(ctx.device)]
            real, learnt = (_together([real, learnt], choice, mixing)).split([len(real), len(learnt)])
            wanted = loss_gradients(network, real, label, graph=False)
            distance = matching_distance(loss_gradients(network, learnt, label, graph=True), wanted, metric)
            total += float(distance.detach())
            # The momentum of the other classes moves them at this step too: one optimiser for all, as in the code.
            (pixels.grad,) = torch.autograd.grad(distance, pixels)
            optimizer.step()
        losses.append(total / train.num_classes)
        if not math.isfinite(losses[-1]):
            raise ValueError(
                f"at iteration {iteration} the distance is no longer finite; lr is {lr}: take a smaller one"
            )
        if seen and (iteration + 1) % inner and iteration + 1 < iterations:
            _train_on_real(network, trainer, train, ctx, order, seen=seen, mixing=mixing)
    tenth = max(1, iterations // 10)
    return Condensed(
        images=(pixels.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu(),
        labels=torch.arange(train.num_classes).repeat_interleave(ipc),
        provenance={
            "loss_first_tenth": float(np.mean(losses[:tenth])),
            "loss_last_tenth": float(np.mean(losses[-tenth:])),
        },
    )


def _some_or_again(reals: RealImages, label: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """Exactly `count` random images of a class: no image twice before all of them were taken."""
    parts = [reals.some(label, count, generator)]
    while (left := count - sum(map(len, parts))) > 0:
        parts.append(reals.some(label, left, generator))
    return torch.cat(parts)


def _together(sides: list[torch.Tensor], generator: torch.Generator, cutout: bool) -> torch.Tensor:
    """All images after one colour, one crop and, with `cutout`, one erased square, drawn once for all."""
    images = torch.cat(sides)
    for operation in ("color", "crop", "cutout") if cutout else ("color", "crop"):
        first, second, third = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        images = Transformation(operation, (first, second, third))(images)
    return images


def _train_on_real(
    network: nn.Module,
    trainer: torch.optim.Optimizer,
    train: Train,
    ctx: Context,
    generator: torch.Generator,
    *,
    seen: int,
    mixing: bool,
) -> None:
    """Steps on `seen` random images of all classes, 64 a step, half of the batches with CutMix."""
    labels = torch.from_numpy(train.labels.copy())
    for rows in torch.randperm(len(train), generator=generator)[:seen].split(_NETWORK_BATCH):
        images = ctx.normalise(train.images(rows.numpy()).to(ctx.device))
        images, own = coloured_and_moved(images, generator), labels[rows].to(ctx.device)
        trainer.zero_grad()
        if mixing and float(torch.rand((), generator=generator)) < _MIX_PROBABILITY:
            images, partners, share = mixed_boxes(images, generator)
            logits = network(images)
            theirs = own[partners.to(ctx.device)]
            loss = share * F.cross_entropy(logits, own) + (1 - share) * F.cross_entropy(logits, theirs)
        else:
            loss = F.cross_entropy(network(images), own)
        loss.backward()
        trainer.step()
