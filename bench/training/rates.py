"""Learning rates: the multiple of the base rate at any progress through training (bench/protocol/recipe.py,
Schedule)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from bench.protocol.recipe import Schedule


def factor(schedule: Schedule, progress: float, epochs: int, losses: Sequence[float] = ()) -> float:
    """Learning rate after `progress` epochs as a multiple of the base rate.

    Args:
        schedule: shape, warm-up and milestones.
        progress: epochs done, in [0, epochs]; whole for schedules per epoch.
        epochs: length of the training.
        losses: mean training loss of every epoch so far; loss-driven reads those after the warm-up.

    Sources: cosine to zero and linear as SRe2L's and CDA's `LambdaLR`; zeta as RDED (zeta = 2) and EDC; ssrs as EDC's
    code; multistep and warm-up as torch's `MultiStepLR` and `LinearLR`; loss-driven as ALRS in H. Chen et al.,
    Bootstrap Generalization Ability from Loss Landscape Perspective (in its code: thresholds of 0.02, gamma 0.9).
    """
    if progress < schedule.warmup:
        return schedule.warmup_start + (1 - schedule.warmup_start) * progress / schedule.warmup
    if schedule.name == "multistep":
        return schedule.gamma ** sum(progress >= milestone for milestone in schedule.milestones)
    e, of = progress - schedule.warmup, epochs - schedule.warmup
    if schedule.name == "loss-driven":
        return schedule.gamma ** _stalls(schedule, losses[schedule.warmup :])
    if schedule.name == "constant":
        return 1.0
    if schedule.name == "linear":
        return 1 - e / of
    if schedule.name == "ssrs" and 6 * e > 5 * of:
        return 0.5 * (1 + math.cos(5 * math.pi / (6 * schedule.zeta))) * (6 * of - 6 * e) / (6 * of)
    return 0.5 * (1 + math.cos(math.pi * e / (schedule.zeta * of)))


def _stalls(schedule: Schedule, losses: Sequence[float]) -> int:
    """How many epochs lowered the loss by too little, in itself and as a share of the loss before."""
    return sum(
        before - after < schedule.loss_fall and before - after < schedule.loss_fall_share * before
        for before, after in itertools.pairwise(losses)
    )
