"""EDC: images refined from RDED's or real ones, against statistics of all images and of their own classes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

from bench.api import Condensed, Context, Train
from methods._order import one_of
from methods._recovery.batches import class_by_class, from_images, from_noise, from_real
from methods._recovery.engine import Batch, Loss, recover_set
from methods._recovery.jitter import draw_jitters
from methods._recovery.ranges import check
from methods._recovery.several import several_backbones
from methods._recovery.survey import survey
from methods._recovery.terms import Flatness
from methods._typical_crops import default_factor, typical_mosaics

CITATION = "Shao, Zhou, Chen, Shen, Elucidating the Design Space of Dataset Condensation, NeurIPS 2024, and its code."
PUBLISHED = {
    "imagenet1k": {"iterations": 2000, "r_loss": 0.1, "patch": 16, "backbones": 5, "batch": 80},
    "tinyimagenet": {"iterations": 2000, "r_loss": 0.01, "backbones": 5},
    "cifar10": {"iterations": 75, "r_loss": 0.01, "backbones": 5},
    "cifar100": {"iterations": 2000, "r_loss": 0.01, "backbones": 5},
}
BACKBONES = "backbones"  # the parameter

_RDED = {"num_crops": 5, "candidates": 300}  # as published, and RDED's defaults


def synthesize(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    iterations: int = 200,
    lr: float = 0.05,
    r_loss: float = 0.01,
    momentum: float = 0.8,
    category: float = 0.5,
    flatness: float = 0.25,
    ema: float = 0.99,
    init: Literal["rded", "real", "noise"] = "rded",
    backbones: int = 4,
    patch: int = 4,
    crop_scale: float = 0.5,
    batch: int = 100,
) -> Condensed:
    """Refine `ipc` images of every class.

    Deviations: the defaults are the recipe for CIFAR with fewer iterations, with the paper's flatness term, which the
    code leaves out, and with the backbones of the data set. Repaired against the code: the variance of a class is that
    of all its images together (there the mean of the variances within each image, with nothing of what differs between
    them), the statistics of several classes are those of their mixture, and patch means and variances are not swapped.
    The last iterate is kept, lossless.

    Args:
        train: the training split; gives the start and the statistics, and whether mirroring is allowed.
        ipc: images per class.
        ctx: gives the backbones (with batch norm) and the generators.
        iterations: steps, a backbone each; at least 1.
        lr: Adam's first learning rate, above 0; falls to 0 by a cosine.
        r_loss: weight of the matching of statistics; at least 0.
        momentum: share that the moving averages of the matched statistics keep at each step; at least 0 and below 1.
        category: share of the statistics of the batch's own classes, 0 to 1; those of all images have the rest.
        flatness: weight of the flatness term; at least 0.
        ema: share that the moving average of the images keeps at each step, for the flatness term.
        init: what is refined: RDED's images, real ones, or noise.
        backbones: the teacher and further networks; at least 1.
        patch: side of the patches at convolutions, in pixels of their maps (16 on ImageNet-1K).
        crop_scale: smallest share of the area kept by the random crop of each step; 1 is no crop.
        batch: images that share their statistics, class after class.

    Returns:
        Condensed with uint8 images [num_classes * ipc, channels, size, size], class after class.

    Raises:
        ValueError: an argument is out of range, a class has fewer than `ipc` images, or a backbone has no batch norm.
        UserError: the data set has fewer backbones.
    """
    check(ipc=ipc, iterations=iterations, lr=lr, r_loss=r_loss, momentum=momentum, category=category, ema=ema)
    check(flatness=flatness, backbones=backbones, patch=patch, crop_scale=crop_scale, batch=batch)
    one_of("init", init, "rded", "real", "noise")
    if init == "rded":
        crops = typical_mosaics(train, ipc, ctx, **_RDED, factor=default_factor(train))
        start = from_images(crops.images, ctx)
    else:
        start = (from_real if init == "real" else from_noise)(train, ipc, ctx)
    surveyed = [survey(train, ctx, network, patch) for network in ctx.teachers(backbones)]
    generator = ctx.torch("jitter")
    jitters = draw_jitters(iterations, train.size, generator, roll=0, crop_scale=crop_scale, mirror=train.mirror)

    def objective(own: Batch) -> AbstractContextManager[Loss]:
        flat = Flatness(own.start, ema)
        return several_backbones(
            surveyed,
            own,
            jitters,
            r_loss=r_loss,
            patch=patch,
            momentum=momentum,
            drop=lambda: False,
            category=category,
            extra=lambda step: flatness * flat(step),
        )

    return recover_set(
        train,
        ipc,
        ctx,
        batches=class_by_class(train.num_classes, ipc, batch),
        start=start,
        objective=objective,
        iterations=iterations,
        lr=lr,
        join=False,
    )
