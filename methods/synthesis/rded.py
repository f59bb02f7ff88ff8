"""RDED: mosaics of the crops of real images that the teacher finds most typical of their class."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from bench.api import Condensed, Context, Train
from methods._mosaic import centre_pad, mosaics, resized_crops, square_boxes
from methods._quota import class_members

CITATION = (
    "Sun et al., On the Diversity and Realism of Distilled Dataset: An Efficient Dataset Distillation Paradigm, "
    "CVPR 2024, and its code."
)
PUBLISHED = {
    "imagenet1k": {"num_crops": 5, "candidates": 300, "factor": 2, "jpeg": 75},
    "tinyimagenet": {"num_crops": 5, "candidates": 300, "factor": 1, "jpeg": 75},
    "cifar10": {"num_crops": 5, "candidates": 300, "factor": 1, "jpeg": 75},
    "cifar100": {"num_crops": 5, "candidates": 300, "factor": 1, "jpeg": 75},
}

_SCALE = (0.08, 1.0)  # share of the image that a crop covers: torchvision's default
_CROPS_AT_ONCE = {"cpu": 64, "cuda": 1024}  # on a CPU, activations that fit the cache are worth 1.5x


def crop_losses(crops: torch.Tensor, label: int, size: int, ctx: Context) -> torch.Tensor:
    """The teacher's cross-entropy with the true class, float32 [n], of crops [n, c, s, s] in [0, 255].

    A crop is not enlarged: it lies in the middle of a `size` x `size` image of zeros. The zeros are set after
    normalisation, as in RDED's code, so the border has the mean colour of the data set.
    """
    with torch.no_grad():
        padded = centre_pad(ctx.normalise(crops), size)
        logits = ctx.teacher(padded.contiguous(memory_format=torch.channels_last))  # 1.5x faster on a CPU
    return F.cross_entropy(logits, torch.full((len(crops),), label, device=logits.device), reduction="none")


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


def to_bytes(images: torch.Tensor) -> torch.Tensor:
    """Float images in [0, 255] -> uint8 by a truncating cast, blind to rounding noise (199.9999 is 200)."""
    return (images + 1e-3).clamp(0, 255).to(torch.uint8).cpu()


def through_jpeg(images: torch.Tensor, quality: int) -> torch.Tensor:
    """Uint8 [n, 1 or 3, s, s] after encoding and decoding as JPEG."""
    out = []
    for image in images.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(file, "JPEG", quality=quality)
        pixels = np.array(Image.open(file))
        out.append(torch.from_numpy(pixels).reshape(image.shape).permute(2, 0, 1))
    return torch.stack(out)


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
) -> Condensed:
    """Make `ipc` mosaics of factor x factor crops for every class.

    Up to `candidates` random images of the class give `num_crops` random square crops each, cut from the sources and
    resized to size // factor pixels. Of each image the crop with the lowest teacher loss stays; of these crops the ipc
    * factor^2 lowest ones make the mosaics. Deviations: lossless by default (the code saves JPEG); where a class has
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

    Returns:
        Condensed with uint8 images [num_classes * ipc, channels, size, size], class after class.

    Raises:
        ValueError: an argument is out of range; a class has fewer than `ipc` images or too few crops for the mosaics.
    """
    _check(train, num_crops, candidates, factor, jpeg)
    factor = factor or (2 if train.source_size >= 2 * train.size else 1)
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
            losses.append(crop_losses(crops.flatten(0, 1), label, train.size, ctx).reshape(-1, num_crops).cpu())
        loss = torch.cat(losses).numpy()
        chosen = rank_crops(loss, slots)
        # Cut the winners again instead of keeping all crops: a class of ImageNet would take half a gigabyte.
        winners = train.sources(own[chosen[:, 0]]).to(ctx.device)
        tiles = resized_crops(winners, boxes[chosen[:, 0], chosen[:, 1]][:, None], side).squeeze(1)
        images.append(to_bytes(mosaics(tiles, train.size, factor)))
        kept_losses.append(float(loss[chosen[:, 0], chosen[:, 1]].mean()))
    stack = torch.cat(images)
    return Condensed(
        images=through_jpeg(stack, jpeg) if jpeg else stack,
        labels=torch.arange(train.num_classes).repeat_interleave(ipc),
        provenance={
            "factor": factor,
            "crop_size": side,
            "padding": "zeros after normalisation, crop centred",
            "mean_loss_of_kept_crops": float(np.mean(kept_losses)),
            "classes_with_several_crops_of_an_image": short,
        },
    )
