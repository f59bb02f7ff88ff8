"""The objective of G-VBSM and EDC: one of several backbones per iteration, statistics of convolutions and batch norms.

Repaired against the published code: the moving averages of the statistics start at the first batch's own (there at 0,
through a check for the wrong type), and every batch of images has its own (there they carry over to the next one).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from methods._recovery.engine import Batch, Loss
from methods._recovery.jitter import Jitter
from methods._recovery.moments import Moments, to_channels_last
from methods._recovery.survey import Backbone, Layers, LayerTaps, layer_moments

Target = tuple[float | tuple[float, float], Layers]
LayerInput = tuple[nn.Module, torch.Tensor]


class MovingMoments:
    """Moving averages of a layer's statistics whose gradient is that of the newest batch (straight-through)."""

    def __init__(self, momentum: float, kept: dict[int, Moments] | None = None) -> None:
        self._momentum = momentum
        self._kept: dict[int, Moments] = dict(kept or {})

    def copy(self) -> MovingMoments:
        """The same averages, that go on by themselves."""
        return MovingMoments(self._momentum, self._kept)

    def __call__(self, place: int, newest: Moments) -> Moments:
        """momentum * before + (1 - momentum) * newest, or the newest where there was none; `place` tells layers."""
        plain = [(mean.detach(), var.detach()) for mean, var in newest]
        self._kept[place] = [
            (mean.lerp(new_mean, 1 - self._momentum), var.lerp(new_var, 1 - self._momentum))
            for (mean, var), (new_mean, new_var) in zip(self._kept.get(place, plain), plain, strict=True)
        ]
        return [
            (kept_mean + mean - mean.detach(), kept_var + var - var.detach())
            for (kept_mean, kept_var), (mean, var) in zip(self._kept[place], newest, strict=True)
        ]


def weighted_distance(
    measured: Sequence[Moments | None],
    targets: Sequence[Target],
    first_weight: float = 10.0,
    shares: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """sum over targets, layers and groups of weight * w_layer * share * (norms of the differences of means and of
    variances).

    Args:
        measured: per layer, as many groups as the targets have; None for a layer that is left out.
        targets: (weight, or those of means and of variances; what the layers shall show).
        first_weight: w of the first layer; the others weigh 1.
        shares: of each group, [groups].
    """
    total = torch.zeros(())
    for place, own in enumerate(measured):
        if own is not None:
            for weight, wanted in targets:
                distance = (shares * _distance(own, wanted[place], weight)).sum()
                total = total.to(distance) + (first_weight if place == 0 else 1.0) * distance
    return total


def _distance(measured: Moments, wanted: Moments, weight: float | tuple[float, float]) -> torch.Tensor:
    """The weighted norms of the differences, summed over channels and patches: [groups]."""
    of_means, of_variances = weight if isinstance(weight, tuple) else (weight, weight)
    total = torch.zeros(())
    for (mean, var), (wanted_mean, wanted_var) in zip(measured, wanted, strict=True):
        distance = of_variances * torch.linalg.vector_norm(var - wanted_var, dim=1)
        total = total.to(distance) + (distance + of_means * torch.linalg.vector_norm(mean - wanted_mean, dim=1))
    return total


@dataclass(frozen=True)
class Step:
    """One forward pass, for terms of a method's own."""

    network: nn.Module
    jitter: Jitter
    images: torch.Tensor  # as they are
    shown: torch.Tensor  # after the jitter
    logits: torch.Tensor
    loss: torch.Tensor  # without the term
    loss_at: Callable[[torch.Tensor], torch.Tensor]  # the same of other images; leaves the moving averages alone
    statistics: Sequence[Moments | None]  # of this batch alone, per layer; None for a layer that is left out
    statistics_at: Callable[[torch.Tensor], Sequence[Moments | None]]  # the same of other images, in the same crop


@contextmanager
def several_backbones(
    backbones: Sequence[Backbone],
    batch: Batch,
    jitters: Sequence[Jitter],
    *,
    r_loss: float,
    patch: int,
    momentum: float,
    drop: Callable[[], bool],
    category: float,
    by_class: bool = True,
    weighted: bool = True,
    extra: Callable[[Step], torch.Tensor],
) -> Iterator[Loss]:
    """Mean cross-entropy + r_loss * distance + extra, of backbone number `iteration` modulo their count.

    The distance is that of the whole batch from the statistics of all images, and that of the batch's classes from
    those of their own real images (EDC, equation 5): (1 - category) d(batch, all) + category sum_c p(c) d(batch's
    images of c, c), where p(c) is the share of c in the batch. With `by_class=False` the second is d(batch, the mixture
    of its classes), as in EDC's code; where one batch holds all classes, the mixture is the first target.

    Args:
        backbones: surveyed with the same `patch`.
        batch: one group.
        jitters: one for each iteration, the same for all images.
        r_loss: weight of the matching.
        patch: side of a patch.
        momentum: of the moving averages; each backbone has its own.
        drop: asked for each convolution of each iteration: True leaves it out.
        category: weight of the statistics of the batch's own classes; those of all images weigh the rest.
        weighted: whether (1 - category) weighs the variances of all images too. If not, they weigh 1, as equation 5 is
            printed.
        by_class: whether each class is held to its own statistics, or the batch to their mixture. A batch stands class
            after class.
        extra: a term of the method's own, weighted.
    """
    labels, counts = batch.labels.cpu().unique_consecutive(return_counts=True)
    runs, shares = counts.tolist(), (counts / len(batch.labels)).to(batch.labels.device)
    apart = by_class and category > 0
    with ExitStack() as stack:
        taps = [stack.enter_context(LayerTaps(backbone.network)) for backbone in backbones]
        moving, moving_classes = ([MovingMoments(momentum) for _ in backbones] for _ in range(2))
        weight = 1 - category if weighted else (1 - category, 1.0)
        targets = [
            [(weight, backbone.overall)] if category < 1 or not weighted else list[Target]() for backbone in backbones
        ]
        classes = [[(category, backbone.each(labels.tolist()))] if apart else [] for backbone in backbones]
        if category > 0 and not by_class:
            for own, backbone in zip(targets, backbones, strict=True):
                own.append((category, backbone.of(batch.labels)))

        def loss(images: torch.Tensor, iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
            turn = iteration % len(backbones)
            network, jitter = backbones[turn].network, jitters[iteration]
            left_out = dict[int, bool]()  # the same layers in every look of this step, by their place

            def look(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[LayerInput | None]]:
                shown = jitter(images)
                logits = network(to_channels_last(shown))
                taken = list[LayerInput | None]()
                for place, (layer, inputs) in enumerate(taps[turn].take()):
                    if place not in left_out:
                        left_out[place] = isinstance(layer, nn.Conv2d) and drop()
                    taken.append(None if left_out[place] else (layer, inputs))
                return shown, logits, taken

            def whole(taken: Sequence[LayerInput | None]) -> list[Moments | None]:
                return [tap and layer_moments(*tap, patch) for tap in taken]

            def distance(
                taken: Sequence[LayerInput | None],
                statistics: Sequence[Moments | None],
                averages: tuple[MovingMoments, MovingMoments],
            ) -> torch.Tensor:
                matching = weighted_distance(averaged(averages[0], statistics), targets[turn])
                if apart:
                    each = [tap and layer_moments(*tap, patch, runs) for tap in taken]
                    matching = matching + weighted_distance(averaged(averages[1], each), classes[turn], shares=shares)
                return matching

            averages = (moving[turn], moving_classes[turn])
            before = (averages[0].copy(), averages[1].copy())
            shown, logits, taken = look(images)
            statistics = whole(taken)
            matching = distance(taken, statistics, averages)
            total = F.cross_entropy(logits, batch.labels) + r_loss * matching

            def loss_at(others: torch.Tensor) -> torch.Tensor:
                _, logits, taken = look(others)
                matching = distance(taken, whole(taken), (before[0].copy(), before[1].copy()))
                return F.cross_entropy(logits, batch.labels) + r_loss * matching

            step = Step(
                network,
                jitter,
                images,
                shown,
                logits,
                total,
                loss_at,
                statistics,
                lambda others: whole(look(others)[2]),
            )
            own = extra(step)
            taps[turn].take()  # what `extra` sent through the network
            return total + own, matching.detach()

        yield loss


def averaged(averages: MovingMoments, newest: Sequence[Moments | None]) -> list[Moments | None]:
    """The moving averages of every layer that is not left out."""
    return [own and averages(place, own) for place, own in enumerate(newest)]
