"""DWA: SRe2L from real images, with a teacher that is moved away from what it knows of each batch."""

from __future__ import annotations

from contextlib import AbstractContextManager

from bench.api import Condensed, Context, Train
from methods._recovery.ascent import adjusted
from methods._recovery.batches import from_real, one_of_each
from methods._recovery.batchnorm import batch_norm_objective
from methods._recovery.engine import Batch, Loss, recover_set
from methods._recovery.jitter import draw_jitters
from methods._recovery.ranges import check

CITATION = (
    "Du, Zhang, Hu, Huang, Zhou, Diversity-Driven Synthesis: Enhancing Dataset Distillation through Directed Weight "
    "Adjustment, NeurIPS 2024, and its code."
)
PUBLISHED = {
    "imagenet1k": {"iterations": 2000, "r_var": 2.0, "rho": 0.015, "steps": 15, "jitter": 0.143, "crop_scale": 0.08},
    "tinyimagenet": {"iterations": 2000, "lr": 0.1, "r_var": 11.0, "rho": 0.015, "steps": 12, "jitter": 0.0625},
    "cifar10": {"iterations": 1000, "lr": 0.25, "r_var": 11.0, "rho": 0.015, "steps": 12, "jitter": 0.125},
    "cifar100": {"iterations": 1000, "lr": 0.25, "r_var": 11.0, "rho": 0.015, "steps": 12, "jitter": 0.125},
}


def synthesize(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    iterations: int = 200,
    lr: float = 0.25,
    r_bn: float = 0.01,
    r_var: float = 11.0,
    rho: float = 0.015,
    steps: int = 12,
    jitter: float = 0.125,
    crop_scale: float = 1.0,
    batch: int = 100,
) -> Condensed:
    """Recover `ipc` images of every class from as many real ones, every batch under a teacher of its own.

    Deviations: the defaults are the recipe for CIFAR (no crop) with fewer iterations. The last iterate is kept,
    lossless.

    Args:
        train: the training split; gives the real images, and whether mirroring is allowed.
        ipc: images per class.
        ctx: gives the teacher (with batch norm) and the generators.
        iterations: steps; at least 1.
        lr: Adam's first learning rate, above 0; falls to 0 by a cosine.
        r_bn: weight of the matching of batch-norm statistics; at least 0.
        r_var: weight of the variances within it; at least 0.
        rho: how far the teacher's weights move up the loss of the batch; at least 0.
        steps: in how many normalised gradient steps; at least 1.
        jitter: largest roll of each axis as a share of the size, rounded down.
        crop_scale: smallest share of the area kept by the random crop of each step; 1 is no crop.
        batch: images that share a teacher and their statistics, of as many classes; with fewer classes, one of each.

    Returns:
        Condensed with uint8 images [num_classes * ipc, channels, size, size], class after class.

    Raises:
        ValueError: an argument is out of range, a class has fewer than `ipc` images, or the teacher has no batch norm.
    """
    check(ipc=ipc, iterations=iterations, lr=lr, r_bn=r_bn, jitter=jitter, crop_scale=crop_scale, batch=batch)
    check(r_var=r_var, rho=rho, steps=steps)
    roll, generator = int(jitter * train.size), ctx.torch("jitter")
    mirror = train.mirror and crop_scale < 1
    jitters = draw_jitters(iterations, train.size, generator, roll=roll, crop_scale=crop_scale, mirror=mirror)

    def objective(own: Batch) -> AbstractContextManager[Loss]:
        moved = adjusted(ctx.teacher, jitters[0](own.start), own.labels, rho=rho, steps=steps)
        return batch_norm_objective(moved, own, jitters, r_bn=r_bn, r_var=r_var)

    return recover_set(
        train,
        ipc,
        ctx,
        batches=one_of_each(train.num_classes, ipc, batch),
        start=from_real(train, ipc, ctx),
        objective=objective,
        iterations=iterations,
        lr=lr,
        join=False,
    )
