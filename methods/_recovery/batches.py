"""Which images of a condensed set are recovered together, and what they start from.

A condensed set stands class after class: image `slot` of class `label` is row label * ipc + slot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

import numpy as np
import torch

from bench.api import Context, Train
from methods._quota import class_members

Start = Callable[[torch.Tensor], torch.Tensor]  # rows int64 [n] -> normalised float32 [n, c, s, s] on the CPU


def one_of_each(classes: int, ipc: int, batch: int) -> list[torch.Tensor]:
    """The rows of each batch, int64: one image of each of up to `batch` classes (SRe2L), slot after slot."""
    labels = torch.arange(classes).split(batch)
    return [own * ipc + slot for slot in range(ipc) for own in labels]


def class_by_class(classes: int, ipc: int, batch: int) -> list[torch.Tensor]:
    """The rows of each batch, int64: `batch` neighbours (G-VBSM, EDC), so the images of a class meet each other."""
    return list(torch.arange(classes * ipc).split(batch))


def joined(batches: Sequence[torch.Tensor], most: int) -> Iterator[list[torch.Tensor]]:
    """Lists of batches of equal size, of up to `most` images in all, at least one batch each."""
    for size, group in groupby(sorted(batches, key=len, reverse=True), key=len):
        alike, count = list(group), max(1, most // size)
        yield from (alike[at : at + count] for at in range(0, len(alike), count))


def from_noise(train: Train, ipc: int, ctx: Context) -> Start:
    """Standard Gaussian noise, seeded by class and slot: no image's noise depends on the batches."""
    shape = (train.channels, train.size, train.size)

    def start(rows: torch.Tensor) -> torch.Tensor:
        places = [divmod(row, ipc) for row in rows.tolist()]
        return torch.stack([torch.randn(shape, generator=ctx.torch("start", label, f"{s}")) for label, s in places])

    return start


def from_real(train: Train, ipc: int, ctx: Context) -> Start:
    """Real images of the class, drawn without replacement.

    Raises:
        ValueError: a class has fewer than `ipc` images.
    """
    drawn = []
    for label, own in class_members(train, ipc):
        drawn.append(own[torch.randperm(len(own), generator=ctx.torch("start", label))[:ipc].numpy()])
    chosen = np.concatenate(drawn)
    return lambda rows: ctx.normalise(train.images(chosen[rows.numpy()]))


def from_images(images: torch.Tensor, ctx: Context) -> Start:
    """Given images, uint8 [classes * ipc, c, s, s]."""
    return lambda rows: ctx.normalise(images[rows])
