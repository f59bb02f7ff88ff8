"""Losses of image recovery: how far the statistics of a batch lie from those they shall have."""

from __future__ import annotations

import torch

from methods._recovery.moments import Moments


def matching_loss(measured: Moments, wanted: Moments, first_weight: float = 10.0) -> torch.Tensor:
    """sum_l w_l (||var_l - wanted_var_l||_2 + ||mean_l - wanted_mean_l||_2) of every group: [groups].

    SRe2L (Yin et al., NeurIPS 2023, equation 5), with the weight of its code: `first_weight` for the first layer, 1 for
    the others; the norms are not squared.
    """
    total = torch.zeros(())
    for layer, ((mean, var), (wanted_mean, wanted_var)) in enumerate(zip(measured, wanted, strict=True)):
        distance = torch.linalg.vector_norm(var - wanted_var, dim=1) + torch.linalg.vector_norm(
            mean - wanted_mean, dim=1
        )
        total = total.to(distance) + (first_weight if layer == 0 else 1.0) * distance
    return total
