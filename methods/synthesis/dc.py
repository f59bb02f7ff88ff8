"""DC: images whose gradients in a young network are those of the real images of their class."""

from __future__ import annotations

from bench.api import Condensed, Context, Train
from methods._gradient_matching import match_gradients

CITATION = "Zhao, Mopuri and Bilen, Dataset Condensation with Gradient Matching, ICLR 2021, and its code."
# The published counts are of networks (1000); iterations here count steps of the images: networks * outer.
PUBLISHED = {
    "ipc 1": {"iterations": 1000, "lr": 0.1, "batch": 256, "width": 128, "outer": 1, "inner": 1},
    "ipc 10": {"iterations": 10000, "lr": 0.1, "batch": 256, "width": 128, "outer": 10, "inner": 50},
    "ipc 50": {"iterations": 50000, "lr": 0.1, "batch": 256, "width": 128, "outer": 50, "inner": 10},
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
) -> Condensed:
    """Learn `ipc` images of every class, starting from real ones.

    Real and learnt images of a class go through the same network; the images follow the gradient of the distance.

    Args:
        train: the training split.
        ipc: images per class.
        ctx: gives the normalisation and the generators; the teacher is not used.
        iterations: steps of the images; at least 1.
        lr: of the images, SGD with momentum 0.5; above 0.
        batch: real images per class and step (all of a smaller class); at least 1.
        width: channels of the networks; at least 1.
        outer: steps of the images before a new network; 0: as many as ipc, at most 10.
        inner: epochs that the network is trained on the learnt images after each such step.

    Returns:
        Condensed with uint8 images [num_classes * ipc, channels, size, size], class after class.

    Raises:
        ValueError: an argument is out of range, or a class has fewer than `ipc` images.
    """
    return match_gradients(
        train,
        ipc,
        ctx,
        iterations=iterations,
        lr=lr,
        batch=batch,
        width=width,
        outer=outer,
        inner=inner,
        augment=False,
    )
