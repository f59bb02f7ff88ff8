"""Mosaics of the crops of real images that the teacher finds most typical of their class: RDED's images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from bench.api import Context, Train
from methods._mosaic import centre_pad, mosaics, resized_crops, square_boxes
from methods._pixels import to_bytes
from methods._quota import class_members

_SCALE = (0.08, 1.0)  # share of the image that a crop covers: torchvision's default
_CROPS_AT_ONCE = {"cpu": 64, "cuda": 1024}  # on a CPU, activations that fit the cache are worth 1.5x


def crop_losses(
    crops: torch.Tensor,
    label: int,
    size: int,
    ctx: Context,
    observers: Sequence[nn.Module] = (),
    criterion: str = "nll",
) -> torch.Tensor:
    """What ranks crops [n, c, s, s] in [0, 255], float32 [n], low is typical: the mean over the observers (the teacher,
    where none is named) of their cross-entropy with the true class ("nll"), or of the entropy of what they say.

    A crop is not enlarged: it lies in the middle of a `size` x `size` image of zeros. The zeros are set after
    normalisation, as in RDED's code, so the border has the mean colour of the data set.
    """
    with torch.no_grad():
        padded = centre_pad(ctx.normalise(crops), size)
        padded = padded.contiguous(memory_format=torch.channels_last)  # 1.5x faster on a CPU
        answers = [network(padded) for network in observers or (ctx.teacher,)]
    if criterion == "entropy":
        losses = [-(logits.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1) for logits in answers]
    else:
        truth = torch.full((len(crops),), label, device=answers[0].device)
        losses = [F.cross_entropy(logits, truth, reduction="none") for logits in answers]
    return losses[0] if len(losses) == 1 else torch.stack(losses).mean(dim=0)


def rank_crops(losses: np.ndarray, slots: int) -> np.ndarray:
    """Choose `slots` crops: the best one of each image, lowest loss first.

    Where there are fewer images than slots, the second-best crop of each image follows, then the third, and so on
    (RDED's code leaves such slots empty). Ties go to the lower image, then to the lower crop.

    Args:
        losses: [images, crops].
        slots: at most images * crops.

    Returns:
        int64 [slots, 2]: image and crop.
    """
    order = np.argsort(losses, axis=1, kind="stable")
    place = np.argsort(order, axis=1, kind="stable")  # 0 for the best crop of its image
    chosen = np.lexsort((losses.ravel(), place.ravel()))[:slots]
    return np.stack(np.unravel_index(chosen, losses.shape), axis=1)


@dataclass(frozen=True)
class TypicalMosaics:
    """The mosaics of all classes, and how they came about."""

    images: torch.Tensor  # uint8 [num_classes * ipc, channels, size, size], class after class
    mean_loss: float  # of the observers on the crops that were kept, mean over classes
    short_classes: int  # classes with fewer images than slots: several crops of an image were kept


def default_factor(train: Train) -> int:
    """Crops per side of a mosaic: 2 where the sources have at least twice the resolution of the images, else 1."""
    return 2 if train.source_size >= 2 * train.size else 1


Ranking = Callable[[torch.Tensor, int, int, Context], torch.Tensor]  # as `crop_losses`


def typical_mosaics(
    train: Train,
    ipc: int,
    ctx: Context,
    rank: Ranking = crop_losses,
    /,
    *,
    num_crops: int,
    candidates: int,
    factor: int,
) -> TypicalMosaics:
    """Make `ipc` mosaics of factor x factor crops for every class.

    Args:
        train: the training split; crops come from `train.sources`.
        ipc: mosaics per class.
        ctx: gives the teacher and the generators.
        rank: what ranks crops; low is typical.
        num_crops: crops of each candidate; the one with the lowest loss is preferred.
        candidates: images per class that are looked at (all of a smaller class).
        factor: crops per side of a mosaic.

    Raises:
        ValueError: a class has fewer than `ipc` images or too few crops for the mosaics.
    """
    side, slots = train.size // factor, ipc * factor**2
    images_at_once = max(1, _CROPS_AT_ONCE.get(ctx.device.type, 64) // num_crops)
    images, kept_losses, short = [], [], 0
    for label, members in class_members(train, ipc):
        generator = ctx.torch("class", label)
        own = members[torch.randperm(len(members), generator=generator)[:candidates].numpy()]
        if len(own) * num_crops < slots:
            raise ValueError(
                f"class {label} gives {len(own)} images x num_crops {num_crops} = {len(own) * num_crops} crops, too "
                f"few for ipc {ipc} x factor {factor}^2 = {slots}; raise num_crops or candidates, or set factor=1"
            )
        short += len(own) < slots
        boxes = square_boxes(len(own) * num_crops, train.source_size, _SCALE, generator).reshape(-1, num_crops, 3)
        losses = []
        for rows in torch.arange(len(own)).split(images_at_once):
            crops = resized_crops(train.sources(own[rows.numpy()]).to(ctx.device), boxes[rows], side)
            losses.append(rank(crops.flatten(0, 1), label, train.size, ctx).reshape(-1, num_crops).cpu())
        loss = torch.cat(losses).numpy()
        chosen = rank_crops(loss, slots)
        # Cut the winners again instead of keeping all crops: a class of ImageNet would take half a gigabyte.
        winners = train.sources(own[chosen[:, 0]]).to(ctx.device)
        tiles = resized_crops(winners, boxes[chosen[:, 0], chosen[:, 1]][:, None], side).squeeze(1)
        images.append(to_bytes(mosaics(tiles, train.size, factor)))
        kept_losses.append(float(loss[chosen[:, 0], chosen[:, 1]].mean()))
    return TypicalMosaics(torch.cat(images), float(np.mean(kept_losses)), short)
