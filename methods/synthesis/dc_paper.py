"""DC with the choices of its published code: its network, a start from noise, and pixels that are never clipped."""

from __future__ import annotations

from typing import Literal

from bench.api import Condensed, Context, Train
from methods._published_matching import Settings, match_published

NAME = "dc-paper"
CITATION = (
    "Zhao, Mopuri and Bilen, Dataset Condensation with Gradient Matching, ICLR 2021, "
    "and its code (VICO-UoE/DatasetCondensation at 53f63a6)."
)
# The published counts are of networks (1000); iterations here count steps of the images: networks * outer.
PUBLISHED = {
    "ipc 1": {"iterations": 1000, "batch": 256, "width": 128, "outer": 1, "inner": 1},
    "ipc 10": {"iterations": 10000, "batch": 256, "width": 128, "outer": 10, "inner": 50},
    "ipc 20": {"iterations": 20000, "batch": 256, "width": 128, "outer": 20, "inner": 25},
    "ipc 30": {"iterations": 30000, "batch": 256, "width": 128, "outer": 30, "inner": 20},
    "ipc 40": {"iterations": 40000, "batch": 256, "width": 128, "outer": 40, "inner": 15},
    "ipc 50": {"iterations": 50000, "batch": 256, "width": 128, "outer": 50, "inner": 10},
}


def synthesize(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    iterations: int = 200,
    lr: float = 0.1,
    batch: int = 64,
    width: int = 32,
    outer: int = 0,
    inner: int = 10,
    momentum: float = 0.5,
    start: Literal["noise", "real"] = "noise",
    pixels: Literal["float", "levels"] = "float",
) -> Condensed:
    """Learn `ipc` images of every class.

    As `dc`, but with the network that pads grey images of 28 px to 32, a start from noise, and free float pixels. The
    images are not augmented. The defaults take few steps of a narrow network; PUBLISHED has the published ones.

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives the normalisation and the generators; the teacher is not used.
        iterations: steps of the images; at least 1.
        lr: of the images, SGD with momentum 0.5; above 0.
        batch: real images per class and step (all of a smaller class); at least 1.
        width: channels of the networks; at least 1.
        outer: steps of the images before a new network; 0: as many as ipc, at most 10.
        inner: epochs that the network is trained on the learnt images after each such step but the last.
        momentum: of the network's SGD there; at least 0. 0.5 in the code's release of January 2021, 0 since July 2021.
        start: "noise" of the data set's mean and spread, or "real" images.
        pixels: "float" hands in what was learnt, also beyond black and white, as the published evaluation sees it;
            "levels" clips and rounds it to whole grey levels.

    Returns:
        Condensed with images [num_classes * ipc, channels, size, size], class after class: float32 grey levels, or
        uint8.

    Raises:
        ValueError: an argument is out of range, or a class has too few images.
    """
    return match_published(
        train,
        ipc,
        ctx,
        Settings(
            iterations=iterations,
            lr=lr,
            batch=batch,
            width=width,
            outer=outer,
            inner=inner,
            momentum=momentum,
            start=start,
            pixels=pixels,
            augment=False,
        ),
    )
