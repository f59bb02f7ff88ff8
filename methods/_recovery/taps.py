"""What enters chosen layers of a network: hooks that never outlive the block that sets them."""

from __future__ import annotations

from types import TracebackType

import torch
from torch import nn


class Taps:
    """A context manager that keeps what enters the layers of some kinds during a forward pass.

        with Taps(teacher, nn.BatchNorm2d) as taps:
            logits = teacher(images)
            for layer, inputs in taps.take(): ...

    Raises:
        ValueError: the network has no BatchNorm2d layer with running statistics: there is nothing to match.
    """

    def __init__(self, network: nn.Module, *kinds: type[nn.Module]) -> None:
        if not any(isinstance(m, nn.BatchNorm2d) and m.running_mean is not None for m in network.modules()):
            raise ValueError(
                f"the teacher ({type(network).__name__}) has no BatchNorm2d layer with running statistics, which this "
                "method matches; take a teacher with batch normalisation"
            )
        self._layers = [layer for layer in network.modules() if isinstance(layer, kinds)]
        self._kept: list[tuple[nn.Module, torch.Tensor]] = []
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> Taps:
        self._handles = [layer.register_forward_pre_hook(self._keep) for layer in self._layers]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._kept = []

    def _keep(self, layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self._kept.append((layer, inputs[0]))

    def take(self) -> list[tuple[nn.Module, torch.Tensor]]:
        """(layer, its input [n, c, h, w]) in the order in which the layers ran since the last call; then forgotten."""
        kept, self._kept = self._kept, []
        return kept
