"""Directed weight adjustment: a teacher moved away from what it already knows of a batch."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn import functional as F


def adjusted(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, *, rho: float, steps: int) -> nn.Module:
    """A copy of the network after `steps` normalised steps UP the cross-entropy of a batch (DWA, Du et al. 2024).

    Each step adds rho / steps times the gradient over its norm, which is taken over all parameters together, those of
    batch norm included. Running statistics stay what they are, and so does the network itself.

    Args:
        network: in eval mode.
        images: normalised float32 [n, c, s, s].
        labels: int64 [n].
        rho: length of the whole way, if it were straight.
        steps: at least 1.

    Returns:
        The copy, in eval mode, parameters frozen.
    """
    copied = copy.deepcopy(network).requires_grad_(True)
    parameters = list(copied.parameters())
    for _ in range(steps):
        loss = F.cross_entropy(copied(images), labels)
        slopes = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(slope) for slope in slopes]))
        with torch.no_grad():
            for parameter, slope in zip(parameters, slopes, strict=True):
                parameter.add_(slope, alpha=float(rho / steps / (norm + 1e-12)))
    return copied.eval().requires_grad_(False)
