"""RDED: mosaics of the crops of real images that the teacher finds most typical of their class."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch

from bench.api import Condensed, Context, Train
from methods._order import one_of
from methods._pixels import through_jpeg
from methods._typical_crops import crop_losses, default_factor, typical_mosaics

CITATION = (
    "Sun et al., On the Diversity and Realism of Distilled Dataset: An Efficient Dataset Distillation Paradigm, "
    "CVPR 2024, and its code."
)
PUBLISHED = {
    "imagenet1k": {"num_crops": 5, "candidates": 300, "factor": 2, "jpeg": 75},
    # Rethinking Large-scale Dataset Compression, B.4; the scripts have 300 at every ipc.
    "imagenet1k ipc=100": {"num_crops": 5, "candidates": 600, "factor": 2, "jpeg": 75},
    "tinyimagenet": {"num_crops": 5, "candidates": 300, "factor": 1, "jpeg": 75},
    "cifar10": {"num_crops": 5, "candidates": 300, "factor": 1, "jpeg": 75},
    "cifar100": {"num_crops": 5, "candidates": 300, "factor": 1, "jpeg": 75},
}
BACKBONES = "observer"  # the parameter


def _check(train: Train, num_crops: int, candidates: int, factor: int, jpeg: int) -> None:
    if num_crops < 1:
        raise ValueError(f"num_crops is {num_crops}; it must be at least 1")
    if candidates < 1:
        raise ValueError(f"candidates is {candidates}; it must be at least 1")
    if not 0 <= factor <= train.size:
        raise ValueError(f"factor is {factor}; it must be 0 (automatic) or 1 to {train.size}, the size of the images")
    if not 0 <= jpeg <= 95:
        raise ValueError(f"jpeg is {jpeg}; it must be 0 (lossless) or a quality from 1 to 95")
    if jpeg and train.channels not in (1, 3):
        raise ValueError(f"jpeg is {jpeg}, but images of {train.channels} channels cannot be JPEG; use jpeg=0")


def synthesize(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    num_crops: int = 5,
    candidates: int = 300,
    factor: int = 0,
    jpeg: int = 0,
    observer: str = "1",
    criterion: Literal["nll", "entropy"] = "nll",
) -> Condensed:
    """Make `ipc` mosaics of factor x factor crops for every class.

    Up to `candidates` random images of the class give `num_crops` random square crops each, cut from the sources and
    resized to size // factor pixels. Of each image the crop with the lowest loss stays; of these crops the ipc *
    factor^2 lowest ones make the mosaics. Deviations: lossless by default (the code saves JPEG); where a class has
    fewer images than slots, further crops of an image fill them (the code leaves them empty).

    Args:
        train: the training split; crops come from `train.sources`.
        ipc: mosaics per class.
        ctx: gives the teacher and the generators.
        num_crops: crops of each candidate; at least 1.
        candidates: images per class that are looked at (all of a smaller class); at least 1.
        factor: crops per side of a mosaic. 0 takes 2 where the sources have at least twice the resolution of the
            images, else 1, which is what the paper does at 32 and 64 pixels.
        jpeg: quality of a JPEG pass over the mosaics (the paper's code saves with 75); 0 keeps them lossless.
        observer: whose loss ranks the crops. "1" is the teacher. A teacher recipe is that network alone; several with +
            between them, a number of networks or "all" are the mean of their losses.
        criterion: "nll" is the loss with the true class. "entropy" is that of the observer's answer, whatever the class
            (Rethinking Large-scale Dataset Compression, table 10).

    Returns:
        Condensed with uint8 images [num_classes * ipc, channels, size, size], class after class.

    Raises:
        ValueError: an argument is out of range; a class has fewer than `ipc` images or too few crops for the mosaics.
        UserError: the data set has fewer networks, or a name is not known.
    """
    _check(train, num_crops, candidates, factor, jpeg)
    one_of("criterion", criterion, "nll", "entropy")
    factor = factor or default_factor(train)
    rank = partial(crop_losses, observers=() if observer == "1" else ctx.teachers(observer), criterion=criterion)
    mosaics = typical_mosaics(train, ipc, ctx, rank, num_crops=num_crops, candidates=candidates, factor=factor)
    return Condensed(
        images=through_jpeg(mosaics.images, jpeg) if jpeg else mosaics.images,
        labels=torch.arange(train.num_classes).repeat_interleave(ipc),
        provenance={
            "factor": factor,
            "crop_size": train.size // factor,
            "padding": "zeros after normalisation, crop centred",
            "mean_loss_of_kept_crops": mosaics.mean_loss,
            "classes_with_several_crops_of_an_image": mosaics.short_classes,
        },
    )
