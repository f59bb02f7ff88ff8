"""SRe2L's objective, which CDA and DWA share: class labels, and the statistics that batch norm ran with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

from methods._recovery.engine import Batch, Loss
from methods._recovery.jitter import Jitter
from methods._recovery.moments import group_moments, to_channels_last
from methods._recovery.taps import Taps


def running_loss(
    taken: Sequence[tuple[nn.Module, torch.Tensor]], groups: int, *, r_var: float = 1.0, first_weight: float = 10.0
) -> torch.Tensor:
    """sum_l w_l (r_var ||var_l - running_var_l||_2 + ||mean_l - running_mean_l||_2) of every group: [groups].

    SRe2L (Yin et al., NeurIPS 2023, equation 5) with r_var 1, DWA (Du et al., NeurIPS 2024) with more. Variances of a
    group are biased; `first_weight` weighs the first layer that ran, the others weigh 1; norms are not squared.

    Args:
        taken: (batch-norm layer, its input [n, c, h, w]), in the order in which the layers ran.
        groups: of equal size, one after the other.
        r_var: weight of the variances.
        first_weight: of the first layer.
    """
    total = torch.zeros(())
    for place, (layer, inputs) in enumerate(taken):
        assert isinstance(layer, nn.BatchNorm2d)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        mean, var = group_moments(inputs, groups)
        distance = r_var * torch.linalg.vector_norm(var - layer.running_var, dim=1)
        distance = distance + torch.linalg.vector_norm(mean - layer.running_mean, dim=1)
        total = total.to(distance) + (first_weight if place == 0 else 1.0) * distance
    return total


@contextmanager
def batch_norm_objective(
    network: nn.Module, batch: Batch, jitters: Sequence[Jitter], *, r_bn: float, r_var: float = 1.0
) -> Iterator[Loss]:
    """The loss of each group: mean cross-entropy of its images plus `r_bn` times `running_loss`.

    Args:
        network: in eval mode, with batch norm.
        batch: labels and groups.
        jitters: one for each iteration, the same for all images (SRe2L's one crop for the batch).
        r_bn: weight of the matching.
        r_var: of the variances within it.
    """
    with Taps(network, nn.BatchNorm2d) as taps:

        def loss(images: torch.Tensor, iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
            logits = network(to_channels_last(jitters[iteration](images)))
            matching = running_loss(taps.take(), batch.groups, r_var=r_var).sum()
            return F.cross_entropy(logits, batch.labels) * batch.groups + r_bn * matching, matching

        yield loss
