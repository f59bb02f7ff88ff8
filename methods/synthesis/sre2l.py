"""SRe2L: images recovered from the teacher, one of each class per batch, against its batch-norm statistics."""

from __future__ import annotations

from functools import partial
from typing import Literal

from bench.api import Condensed, Context, Train
from methods._order import one_of
from methods._recovery.batches import from_noise, from_real, one_of_each
from methods._recovery.batchnorm import batch_norm_objective
from methods._recovery.engine import recover_set
from methods._recovery.jitter import draw_jitters
from methods._recovery.ranges import check

CITATION = (
    "Yin, Xing, Shen, Squeeze, Recover and Relabel: Dataset Condensation at ImageNet Scale From A New Perspective, "
    "NeurIPS 2023, and its code."
)
PUBLISHED = {
    "imagenet1k": {"iterations": 4000, "lr": 0.25, "r_bn": 0.01, "jitter": 0.143, "crop_scale": 0.08, "batch": 100},
    "tinyimagenet": {"iterations": 4000, "lr": 0.1, "r_bn": 1.0, "jitter": 0.0625, "crop_scale": 1.0, "batch": 100},
    "cifar10": {"iterations": 1000, "lr": 0.25, "r_bn": 0.01, "jitter": 0.125, "crop_scale": 1.0, "batch": 100},
    "cifar100": {"iterations": 1000, "lr": 0.25, "r_bn": 0.01, "jitter": 0.125, "crop_scale": 1.0, "batch": 100},
}


def synthesize(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    iterations: int = 200,
    lr: float = 0.25,
    r_bn: float = 0.01,
    jitter: float = 0.125,
    crop_scale: float = 1.0,
    batch: int = 100,
    init: Literal["noise", "real"] = "noise",
) -> Condensed:
    """Recover `ipc` images of every class from Gaussian noise, or from real images.

    Deviations: the defaults are the recipe for CIFAR (no crop) with fewer iterations. The last iterate is kept, as it
    is (the code saves JPEG of quality 75). Where the data set allows no mirroring, there is none. Rolls go down and to
    the right only; the code for Tiny ImageNet rolls to both sides.

    Args:
        train: the training split; gives sizes and whether mirroring is allowed, and the real images.
        ipc: images per class.
        ctx: gives the teacher (with batch norm) and the generators.
        iterations: steps; at least 1.
        lr: Adam's first learning rate, above 0; falls to 0 by a cosine.
        r_bn: weight of the matching of batch-norm statistics; at least 0.
        jitter: largest roll of each axis as a share of the size, rounded down.
        crop_scale: smallest share of the area kept by the random crop of each step, which all images share; 1: no crop.
        batch: images that share their statistics, of as many classes; with fewer classes, one of each.
        init: what recovery starts from: noise, as published, or images of the class drawn at random (Xiao et al.,
            arXiv 2502.06434, Table 21, ask what that is worth).

    Returns:
        Condensed with uint8 images [num_classes * ipc, channels, size, size], class after class.

    Raises:
        ValueError: an argument is out of range, a class has fewer than `ipc` images to start from, or the teacher
            has no batch norm.
    """
    check(ipc=ipc, iterations=iterations, lr=lr, r_bn=r_bn, jitter=jitter, crop_scale=crop_scale, batch=batch)
    one_of("init", init, "noise", "real")
    roll, generator = int(jitter * train.size), ctx.torch("jitter")
    jitters = draw_jitters(
        iterations, train.size, generator, roll=roll, crop_scale=crop_scale, mirror=train.mirror and crop_scale < 1
    )
    return recover_set(
        train,
        ipc,
        ctx,
        batches=one_of_each(train.num_classes, ipc, batch),
        start=(from_real if init == "real" else from_noise)(train, ipc, ctx),
        objective=partial(batch_norm_objective, ctx.teacher, jitters=jitters, r_bn=r_bn),
        iterations=iterations,
        lr=lr,
        join=True,
    )
