"""G-VBSM: images recovered from several backbones in turn, against statistics of convolutions and batch norms."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from bench.api import Condensed, Context, Train
from methods._recovery.batches import class_by_class, from_noise
from methods._recovery.engine import Batch, Loss, recover_set
from methods._recovery.jitter import draw_jitters
from methods._recovery.ranges import check
from methods._recovery.several import several_backbones
from methods._recovery.survey import survey
from methods._recovery.terms import densification

CITATION = (
    "Shao, Yin, Zhou, Zhang, Shen, Generalized Large-Scale Data Condensation via Various Backbone and Statistical "
    "Matching, CVPR 2024, and its code."
)
PUBLISHED = {
    "imagenet1k": {"iterations": 4000, "lr": 0.1, "momentum": 0.4, "drop": 0.0, "patch": 16, "batch": 80},
    "tinyimagenet": {"iterations": 4000, "lr": 0.05, "momentum": 0.8, "drop": 0.4, "patch": 4, "backbones": "5"},
    "cifar10": {"iterations": 4000, "lr": 0.05, "momentum": 0.8, "drop": 0.4, "patch": 4, "backbones": "5"},
    "cifar100": {"iterations": 4000, "lr": 0.05, "momentum": 0.8, "drop": 0.4, "patch": 4, "backbones": "5"},
}
BACKBONES = "backbones"  # the parameter


def synthesize(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    iterations: int = 200,
    lr: float = 0.2,
    r_loss: float = 0.01,
    momentum: float = 0.8,
    drop: float = 0.4,
    densify: float = 1.0,
    backbones: str = "4",
    patch: int = 4,
    jitter: float = 0.125,
    crop_scale: float = 1.0,
    batch: int = 100,
) -> Condensed:
    """Recover `ipc` images of every class from Gaussian noise.

    Deviations: the defaults are the recipe for CIFAR-10 with fewer and larger steps, with rolls in place of its padded
    crops, and with the backbones of the data set. Statistics of the training split are exact and not augmented (the
    code averages those of batches of 64). The last iterate is kept, lossless.

    Args:
        train: the training split; gives the statistics, and whether mirroring is allowed.
        ipc: images per class.
        ctx: gives the backbones and the generators.
        iterations: steps, a backbone each; at least 1.
        lr: Adam's first learning rate, above 0; falls to 0 by a cosine. The published 0.05 is for 4,000 iterations: in
            200 it leaves up to one mnist5k image in five outside its class, and 0.2 none.
        r_loss: weight of the matching of statistics; at least 0.
        momentum: share that the moving averages of the matched statistics keep at each step; at least 0 and below 1.
        drop: chance that a convolution's statistics are left out of a step; at least 0 and below 1.
        densify: weight of data densification; at least 0.
        backbones: how many networks, the teacher and the next ones of the data set's list; "all" of the list; or
            teacher recipes with + between them. Those without batch norm are matched at their convolutions.
        patch: side of the patches at convolutions, in pixels of their maps (16 on ImageNet-1K).
        jitter: largest roll of each axis as a share of the size, rounded down.
        crop_scale: smallest share of the area kept by the random crop of each step; 1 is no crop.
        batch: images that share their statistics, class after class.

    Returns:
        Condensed with uint8 images [num_classes * ipc, channels, size, size], class after class.

    Raises:
        ValueError: an argument is out of range, a class is empty, or a backbone has neither convolution nor batch norm.
        UserError: the data set has fewer backbones, or a name is not known.
    """
    check(ipc=ipc, iterations=iterations, lr=lr, r_loss=r_loss, momentum=momentum, drop=drop, densify=densify)
    check(patch=patch, jitter=jitter, crop_scale=crop_scale, batch=batch)
    surveyed = [survey(train, ctx, network, patch) for network in ctx.teachers(backbones)]
    roll, generator = int(jitter * train.size), ctx.torch("jitter")
    jitters = draw_jitters(iterations, train.size, generator, roll=roll, crop_scale=crop_scale, mirror=train.mirror)
    dropped = ctx.torch("drop")

    def objective(own: Batch) -> AbstractContextManager[Loss]:
        return several_backbones(
            surveyed,
            own,
            jitters,
            r_loss=r_loss,
            patch=patch,
            momentum=momentum,
            drop=lambda: bool(torch.rand((), generator=dropped) < drop),
            category=0.0,
            extra=lambda step: densify * densification(step.shown, own.labels),
        )

    return recover_set(
        train,
        ipc,
        ctx,
        batches=class_by_class(train.num_classes, ipc, batch),
        start=from_noise(train, ipc, ctx),
        objective=objective,
        iterations=iterations,
        lr=lr,
        join=False,
    )
