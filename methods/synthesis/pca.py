"""PCA's images: the easiest of each class by EL2N, whole and shrunk, four (or more) to an image."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from bench.api import Condensed, Context, Train
from methods._dynamics import forgetting, margins
from methods._el2n import el2n_scores
from methods._mosaic import mosaics, resized_crops
from methods._order import lowest, one_of
from methods._pixels import through_jpeg, to_bytes
from methods._quota import class_members

CITATION = (
    "Xiao, He et al., Rethinking Large-scale Dataset Compression: Shifting Focus From Labels to Images, "
    "arXiv 2502.06434 (PCA: prune, combine, augment; its code is not published)."
)
# With the scores of Table 24: AUM's epochs are those of D.6.
PUBLISHED = {
    "imagenet1k": {"epochs": 10, "factor": 2},
    "imagenet1k, table 24": {"epochs": 90, "factor": 2, "score": "aum"},
}


def tile_ranks(members: int, ipc: int, factor: int) -> np.ndarray:
    """Which of a class's images, by rank, are the tiles of its mosaics: int64 [ipc * factor^2], as `mosaics` wants.

    As in RDED, where there are enough images: mosaic i shows the ranks i, i + ipc, i + 2 ipc, ... Else these places
    move together, spread evenly over the class: every image is shown, and none twice in a mosaic that has room for it.

    Args:
        members: images of the class; at least `ipc`.
        ipc: mosaics.
        factor: tiles per side.
    """
    mosaic, place = np.arange(ipc), np.arange(factor**2)[:, None]
    return ((mosaic + np.minimum(place * ipc, place * members // factor**2)) % members).ravel()


def hardness(score: str, train: Train, ctx: Context, epochs: int) -> np.ndarray:
    """float64 [N]: low is easy.

    Args:
        score: "el2n" (the sum over epochs), "aum" (the margin on probabilities), "forgetting" (events; never right is
            hardest, and ties are drawn by lot) or "random" (a lot alone).
        train: gives the labels.
        ctx: gives the training dynamics and the lots.
        epochs: of the dynamics; not read by "random".
    """
    lot = ctx.numpy("lot").random(len(train)) if score in ("forgetting", "random") else np.zeros(len(train))
    if score == "random":
        return lot
    dynamics = ctx.dynamics_scores(epochs)
    if score == "el2n":
        return el2n_scores(dynamics)
    if score == "aum":
        return -margins(dynamics, "probability")
    events, learnt = forgetting(dynamics)
    return np.where(learnt, events, epochs) + lot


def synthesize(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    epochs: int = 10,
    factor: int = 2,
    jpeg: int = 0,
    score: Literal["el2n", "aum", "forgetting", "random"] = "el2n",
) -> Condensed:
    """Prune and combine: `ipc` mosaics of factor x factor whole images of every class. Deterministic by EL2N and AUM.

    The third step, which shows the student one tile at a time, belongs to a protocol: pca-v1. Deviations: the authors'
    code is not public. Fixed here, since the source does not tell: the grid (2x2 is what its figure shows); bilinear
    resizing with antialiasing, straight from the sources; the order, RDED's: every mosaic has one of the easiest
    images.

    Args:
        train: the training split; tiles come from `train.sources`.
        ipc: mosaics per class.
        ctx: gives the training dynamics.
        epochs: first epochs of training that the score reads; at least 1.
        factor: tiles per side, 1 to the size of the images.
        jpeg: quality of a JPEG pass over the mosaics, 1 to 95; 0 keeps them lossless.
        score: what prunes (Table 24): the easiest images by EL2N, AUM or forgetting, or images by lot.

    Returns:
        Condensed with uint8 images [num_classes * ipc, channels, size, size], class after class. The provenance tells
        how many classes had fewer images than tiles, so that some are shown more than once.

    Raises:
        ValueError: an argument is out of range, or a class has fewer than `ipc` images.
    """
    one_of("score", score, "el2n", "aum", "forgetting", "random")
    if epochs < 1:
        raise ValueError(f"epochs is {epochs}; it must be at least 1")
    if not 1 <= factor <= train.size:
        raise ValueError(f"factor is {factor}; it must be 1 to {train.size}, the size of the images")
    if not 0 <= jpeg <= 95:
        raise ValueError(f"jpeg is {jpeg}; it must be 0 (lossless) or a quality from 1 to 95")
    groups = list(class_members(train, ipc))
    scores = hardness(score, train, ctx, epochs)
    side = train.size // factor
    images, short = [], 0
    for label, own in groups:
        kept = min(len(own), ipc * factor**2)
        short += kept < ipc * factor**2
        ranked = lowest(scores, [(label, own)], kept)
        whole = torch.tensor([0, 0, train.source_size]).expand(kept, 1, 3)
        tiles = resized_crops(train.sources(ranked).to(ctx.device), whole, side).squeeze(1)
        images.append(to_bytes(mosaics(tiles[torch.from_numpy(tile_ranks(kept, ipc, factor))], train.size, factor)))
    stack = torch.cat(images)
    return Condensed(
        images=through_jpeg(stack, jpeg) if jpeg else stack,
        labels=torch.arange(train.num_classes).repeat_interleave(ipc),
        provenance={"tile_size": side, "classes_with_repeated_tiles": short},
    )
