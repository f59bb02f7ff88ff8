"""CDA: SRe2L with a curriculum, whose crops begin as the whole image and become smaller."""

from __future__ import annotations

from functools import partial

from bench.api import Condensed, Context, Train
from methods._recovery.batches import from_noise, one_of_each
from methods._recovery.batchnorm import batch_norm_objective
from methods._recovery.curriculum import draw_curriculum
from methods._recovery.engine import recover_set
from methods._recovery.ranges import check

CITATION = "Yin, Shen, Dataset Distillation via Curriculum Data Synthesis in Large Data Era, TMLR 2024, and its code."
PUBLISHED = {
    "imagenet1k": {"iterations": 4000, "lr": 0.25, "r_bn": 0.01, "jitter": 0.143, "crop_scale": 0.08, "milestone": 1.0},
    "tinyimagenet": {"iterations": 4000, "lr": 0.4, "r_bn": 0.05, "jitter": 0.0625, "crop_scale": 0.08},
    "imagenet21k": {"iterations": 2000, "lr": 0.05, "r_bn": 0.25, "jitter": 0.143, "crop_scale": 0.08},
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
    crop_scale: float = 0.08,
    milestone: float = 1.0,
    batch: int = 100,
) -> Condensed:
    """Recover `ipc` images of every class from Gaussian noise, at first as a whole, then from random parts.

    The cosine curriculum is the published one of three that the code knows. Deviations: the defaults are those of
    ImageNet-1K with fewer iterations and the roll of CIFAR. The last iterate is kept, lossless.

    Args:
        train: the training split; gives sizes and whether mirroring is allowed. No image is read.
        ipc: images per class.
        ctx: gives the teacher (with batch norm) and the generators.
        iterations: steps; at least 1.
        lr: Adam's first learning rate, above 0; falls to 0 by a cosine.
        r_bn: weight of the matching of batch-norm statistics; at least 0.
        jitter: largest roll of each axis as a share of the size, rounded down.
        crop_scale: smallest share of the area that a crop may keep in the end; it begins with 1.
        milestone: share of the iterations after which the end is reached.
        batch: images that share their statistics, of as many classes; with fewer classes, one of each.

    Returns:
        Condensed with uint8 images [num_classes * ipc, channels, size, size], class after class.

    Raises:
        ValueError: an argument is out of range, or the teacher has no batch norm.
    """
    check(ipc=ipc, iterations=iterations, lr=lr, r_bn=r_bn, jitter=jitter, crop_scale=crop_scale, batch=batch)
    check(milestone=milestone)
    jitters = draw_curriculum(
        iterations,
        train.size,
        ctx.torch("jitter"),
        roll=int(jitter * train.size),
        crop_scale=crop_scale,
        milestone=milestone,
        mirror=train.mirror,
    )
    return recover_set(
        train,
        ipc,
        ctx,
        batches=one_of_each(train.num_classes, ipc, batch),
        start=from_noise(train, ipc, ctx),
        objective=partial(batch_norm_objective, ctx.teacher, jitters=jitters, r_bn=r_bn),
        iterations=iterations,
        lr=lr,
        join=True,
    )
