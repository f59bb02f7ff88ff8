"""Students and teachers from their specs."""

from __future__ import annotations

import torch

from bench.plugins.spec import Spec


def build_network(spec: Spec, *, channels: int, size: int, classes: int, seed: int) -> torch.nn.Module:
    """A freshly initialised network: the same spec and seed give the same bits; global random state is left alone.

    Raises UserError where the network cannot take such images.
    """
    from protocols.networks import build

    return build(spec.name, channels=channels, size=size, num_classes=classes, seed=seed, **spec.parameters)
