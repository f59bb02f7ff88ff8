"""LPLD: images recovered from the teacher, one class per batch, against that class's own batch-norm statistics."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from bench.api import Condensed, Context, Train
from methods._recovery.jitter import Jitter, draw_jitters
from methods._recovery.loop import recover, to_uint8, valid_range
from methods._recovery.losses import matching_loss
from methods._recovery.moments import BatchNormMoments, Moments, class_moments, select_groups, to_channels_last

CITATION = (
    "Xiao and He, Are Large-scale Soft Labels Necessary for Large-scale Dataset Distillation?, NeurIPS 2024, and its "
    "code; the loss is that of Yin, Xing, Shen, SRe2L, NeurIPS 2023."
)
PUBLISHED = {
    "imagenet1k": {"iterations": 4000, "lr": 0.25, "r_bn": 0.01, "jitter": 0.143, "crop_scale": 0.08},
    "tinyimagenet": {"iterations": 4000, "lr": 0.1, "r_bn": 0.05, "jitter": 0.125, "crop_scale": 0.08},
    "imagenet21k": {"iterations": 2000, "lr": 0.05, "r_bn": 0.25, "jitter": 0.143, "crop_scale": 0.08},
}

_IMAGES_AT_ONCE = {"cpu": 64, "cuda": 1024}  # whole classes are put together up to this size


def _check(ipc: int, iterations: int, lr: float, r_bn: float, jitter: float, crop_scale: float) -> None:
    if ipc < 1:
        raise ValueError(f"ipc is {ipc}; it must be at least 1")
    if iterations < 1:
        raise ValueError(f"iterations is {iterations}; it must be at least 1")
    if not lr > 0:
        raise ValueError(f"lr is {lr}; it must be above 0")
    if not r_bn >= 0:
        raise ValueError(f"r_bn is {r_bn}; it must be at least 0")
    if not 0 <= jitter <= 1:
        raise ValueError(f"jitter is {jitter}; it must be a share of the size, 0 to 1")
    if not 0 < crop_scale <= 1:
        raise ValueError(f"crop_scale is {crop_scale}; it must be above 0 and at most 1 (1 is no crop)")


def recover_classes(
    start: torch.Tensor,
    labels: torch.Tensor,
    wanted: Moments,
    jitters: list[Jitter],
    ctx: Context,
    *,
    lr: float,
    r_bn: float,
    trace: list[float] | None = None,
) -> torch.Tensor:
    """Recover the images of some classes together; the result is the same as for one class after the other.

    The loss of a class is the mean cross-entropy of its images plus `r_bn` times the matching loss of their common
    statistics. The teacher is in eval mode, so nothing else joins two images.

    Args:
        start: normalised [classes * ipc, c, s, s], class after class.
        labels: int64 [classes].
        wanted: moments of these classes, one group a class.
        jitters: one for each iteration.
        ctx: gives the teacher and the valid range.
        lr: of the first step.
        r_bn: weight of the matching loss.
        trace: takes the matching loss of every iteration, summed over the classes.
    """
    classes = len(labels)
    targets = labels.repeat_interleave(len(start) // classes)
    low, high = valid_range(ctx, start.shape[1])
    with BatchNormMoments(ctx.teacher) as measured:

        def loss_of(images: torch.Tensor, iteration: int) -> torch.Tensor:
            logits = ctx.teacher(to_channels_last(jitters[iteration](images)))
            matching = matching_loss(measured.take(classes), wanted).sum()
            if trace is not None:
                trace.append(float(matching.detach()))
            return F.cross_entropy(logits, targets) * classes + r_bn * matching

        return recover(start, loss_of, low, high, iterations=len(jitters), lr=lr)


def synthesize(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    iterations: int = 200,
    lr: float = 0.25,
    r_bn: float = 0.05,
    jitter: float = 0.143,
    crop_scale: float = 1.0,
) -> Condensed:
    """Recover `ipc` images of every class from Gaussian noise.

    With ipc 1 the variance of a "batch" is taken over the pixels of its one image. A class may have fewer images than
    `ipc`, but not none. Deviations: the defaults are for images of 8 to 32 pixels: fewer iterations, and, as in SRe2L's
    recipe for CIFAR, no crop. The last iterate is kept, lossless.

    Args:
        train: the training split; gives the class statistics, and whether mirroring is allowed.
        ipc: images per class; they are optimised as one batch.
        ctx: gives the teacher (with BatchNorm2d layers) and the generators.
        iterations: steps; at least 1.
        lr: Adam's first learning rate, above 0; falls to 0 by a cosine.
        r_bn: weight of the matching of class statistics; at least 0.
        jitter: largest roll of each axis as a share of the size, rounded down (32 of 224 pixels are 0.143).
        crop_scale: smallest share of the area kept by the random crop of each step; 1 is no crop.

    Returns:
        Condensed with uint8 images [num_classes * ipc, channels, size, size], class after class; the provenance tells
        the matching loss per class in the first and the last iteration and the teacher's accuracy on the images.

    Raises:
        ValueError: an argument is out of range, a class is empty, or the teacher has no BatchNorm2d layer.
    """
    _check(ipc, iterations, lr, r_bn, jitter, crop_scale)
    moments = class_moments(train, ctx)
    # The same jitters for every class: it does not matter then which classes are put together.
    jitters = draw_jitters(
        iterations,
        train.size,
        ctx.torch("jitter"),
        roll=int(jitter * train.size),
        crop_scale=crop_scale,
        mirror=train.mirror,
    )
    low, high = valid_range(ctx, train.channels)
    shape = (ipc, train.channels, train.size, train.size)
    total = [0.0] * iterations
    images = []
    for labels in torch.arange(train.num_classes).split(max(1, _IMAGES_AT_ONCE.get(ctx.device.type, 64) // ipc)):
        start = torch.cat([torch.randn(shape, generator=ctx.torch("start", int(label))) for label in labels])
        own, trace = labels.to(ctx.device), list[float]()
        made = recover_classes(
            start.to(ctx.device), own, select_groups(moments, own), jitters, ctx, lr=lr, r_bn=r_bn, trace=trace
        )
        images.append(to_uint8(made, low, high))
        total = [before + now for before, now in zip(total, trace, strict=True)]
    stack = torch.cat(images)
    hard = torch.arange(train.num_classes).repeat_interleave(ipc)
    return Condensed(
        images=stack,
        labels=hard,
        provenance={
            "matching_loss_first": total[0] / train.num_classes,
            "matching_loss_last": total[-1] / train.num_classes,
            "teacher_top1": float((ctx.predict(stack).argmax(dim=1).cpu() == hard).float().mean()),
        },
    )
