"""The engine of all recovery methods: batch after batch from its start to pixels, and what the record tells of it.

A method brings the batches, their start and an objective; the loop is that of `methods._recovery.loop`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch

from bench.api import Condensed, Context, Train
from methods._recovery.batches import Start, joined
from methods._recovery.loop import recover, to_uint8, valid_range

_IMAGES_AT_ONCE = {"cpu": 64, "cuda": 1024}  # batches that do not depend on each other share passes up to this size
_TENTHS = 10


@dataclass(frozen=True)
class Batch:
    """Images that are recovered in one go, group after group; the images of one group share their statistics."""

    labels: torch.Tensor  # int64 [n], on the context's device
    start: torch.Tensor  # normalised float32 [n, c, s, s], on the context's device
    groups: int  # of equal size


# (images, iteration) -> (the loss, a scalar summed over the groups; its matching part, unweighted)
Loss = Callable[[torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]]
Objective = Callable[[Batch], AbstractContextManager[Loss]]


def recover_set(
    train: Train,
    ipc: int,
    ctx: Context,
    *,
    batches: Sequence[torch.Tensor],
    start: Start,
    objective: Objective,
    iterations: int,
    lr: float,
    join: bool,
) -> Condensed:
    """Recover a whole condensed set.

    Args:
        train: gives the sizes.
        ipc: images per class.
        ctx: gives the device, normalisation and the teacher that judges the result.
        batches: rows int64 of each batch; together all rows, once each (methods._recovery.batches).
        start: of the rows.
        objective: of one or several batches, as a context manager, so that hooks end with it.
        iterations: steps of each batch.
        lr: Adam's first learning rate; falls to 0 by a cosine.
        join: several batches share a pass where the device has room. The result is the same, as long as the loss of a
            group depends on that group alone.

    Returns:
        Condensed with uint8 images [num_classes * ipc, c, s, s], class after class. The provenance tells
        `matching_loss_by_tenth`, the mean matching loss of a batch in each tenth of the iterations, and
        `teacher_top1`, the share of the final images that the teacher takes for their class.
    """
    low, high = valid_range(ctx, train.channels)
    hard = torch.arange(train.num_classes).repeat_interleave(ipc)
    images = torch.empty(len(hard), train.channels, train.size, train.size, dtype=torch.uint8)
    trace = torch.zeros(iterations, device=ctx.device)
    for some in joined(batches, _IMAGES_AT_ONCE.get(ctx.device.type, 64) if join else 1):
        rows = torch.cat(some)
        batch = Batch(hard[rows].to(ctx.device), start(rows).to(ctx.device), len(some))
        with objective(batch) as loss:

            def traced(pixels: torch.Tensor, iteration: int, loss: Loss = loss) -> torch.Tensor:
                total, matching = loss(pixels, iteration)
                trace[iteration] += matching.detach()
                return total

            made = recover(batch.start, traced, low, high, iterations=iterations, lr=lr)
        images[rows] = to_uint8(made, low, high)
    tenths = np.array_split(trace.double().cpu().numpy() / len(batches), min(_TENTHS, iterations))
    return Condensed(
        images=images,
        labels=hard,
        provenance={
            "matching_loss_by_tenth": [float(part.mean()) for part in tenths],
            "teacher_top1": float((ctx.predict(images).argmax(dim=1).cpu() == hard).float().mean()),
        },
    )
