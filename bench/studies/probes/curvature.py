"""The shape of a loss at a network's weights: gradient, Hessian norms, and the landscape about it.

Nothing here builds a Hessian. Products with it come from differentiating twice (Pearlmutter, Neural Computation 1994),
its extreme eigenvalues from Lanczos steps, its Frobenius norm from random signs (Hutchinson: E |H z|^2 = |H|_F^2).
The landscape has directions whose filters are scaled to the network's (Li et al., Visualizing the Loss Landscape of
Neural Nets, NeurIPS 2018). Everything is float64.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

_BREAKDOWN = 1e-10  # a Lanczos remainder that is this small against the largest product spans nothing new


@dataclass(frozen=True)
class Norm:
    """A norm that was estimated from random vectors."""

    value: float
    error: float  # standard error; nan with a single vector


class LossShape:
    """The mean cross-entropy of images as a function of a network's parameters, about where they stand.

    The network is copied and stays in eval mode: batch norm works with its running statistics.

    Args:
        network: any classifier.
        images: float [n, channels, size, size], as the network takes them.
        labels: int64 [n].
        batch: images at a time; no effect on the result but rounding.
    """

    def __init__(self, network: nn.Module, images: torch.Tensor, labels: torch.Tensor, batch: int = 250) -> None:
        self._network = copy.deepcopy(network).double().eval().requires_grad_(True)
        self._images, self._labels, self._batch = images.double(), labels, batch
        self._parameters = list(self._network.parameters())

    @property
    def size(self) -> int:
        """How many parameters there are."""
        return sum(parameter.numel() for parameter in self._parameters)

    def _losses(self) -> Iterator[torch.Tensor]:
        """The loss, in parts that sum to it."""
        for start in range(0, len(self._images), self._batch):
            part = slice(start, start + self._batch)
            logits = self._network(self._images[part])
            yield F.cross_entropy(logits, self._labels[part], reduction="sum") / len(self._images)

    @torch.no_grad()
    def loss(self) -> float:
        """The mean cross-entropy."""
        return sum(float(part) for part in self._losses())

    def gradient(self) -> torch.Tensor:
        """float64 [parameters]."""
        total = torch.zeros(self.size, dtype=torch.float64, device=self._images.device)
        for part in self._losses():
            total += _flat(torch.autograd.grad(part, self._parameters, allow_unused=True), self._parameters)
        return total

    def times_hessian(self, vector: torch.Tensor) -> torch.Tensor:
        """The Hessian times a vector, float64 [parameters]."""
        total = torch.zeros_like(vector)
        for part in self._losses():
            slope = torch.autograd.grad(part, self._parameters, create_graph=True, allow_unused=True)
            along = (_flat(slope, self._parameters) * vector).sum()
            total += _flat(torch.autograd.grad(along, self._parameters, allow_unused=True), self._parameters)
        return total

    def eigenvalues(self, steps: int, generator: torch.Generator) -> np.ndarray:
        """Ritz values of `steps` Lanczos steps from a random vector, float64, ascending.

        The outermost ones are near the outermost eigenvalues of the Hessian. With as many steps as parameters they are
        all of its distinct eigenvalues.
        """
        basis, diagonal, beside = list[torch.Tensor](), list[float](), list[float]()
        vector = self._random(generator)
        vector /= vector.norm()
        largest = 0.0
        for _ in range(min(steps, self.size)):
            basis.append(vector)
            product = self.times_hessian(vector)
            largest = max(largest, float(product.norm()))
            diagonal.append(float(product @ vector))
            for _ in range(2):  # once leaves rounding, which brings found eigenvalues back
                for other in basis:
                    product = product - (product @ other) * other
            length = float(product.norm())
            if length <= _BREAKDOWN * largest:
                break
            beside.append(length)
            vector = product / length
        size = len(diagonal)
        matrix = np.diag(diagonal) + sum(np.diag(beside[: size - 1], k) for k in (-1, 1))
        return np.linalg.eigvalsh(matrix)

    def frobenius(self, vectors: int, generator: torch.Generator) -> Norm:
        """The Frobenius norm of the Hessian, from random signs."""
        squares = np.array(
            [float(self.times_hessian(torch.sign(self._random(generator))).square().sum()) for _ in range(vectors)]
        )
        value = float(np.sqrt(squares.mean()))
        spread = float(squares.std(ddof=1) / np.sqrt(vectors)) if vectors > 1 else float("nan")
        return Norm(value, spread / (2 * value) if value else 0.0)

    def landscape(self, points: int, reach: float, generator: torch.Generator) -> Landscape:
        """The loss on a grid of points x points in a random plane.

        Args:
            points: of each side.
            reach: the plane goes from -reach to reach times each direction, whose filters are as long as the network's.
            generator: draws the directions.
        """
        start = [parameter.detach().clone() for parameter in self._parameters]
        first, second = ([_direction(weight, generator) for weight in start] for _ in range(2))
        steps = np.linspace(-reach, reach, points)
        losses = np.empty((points, points))
        with torch.no_grad():
            for row, along in enumerate(steps):
                for column, across in enumerate(steps):
                    for parameter, weight, one, two in zip(self._parameters, start, first, second, strict=True):
                        parameter.copy_(weight + along * one + across * two)
                    losses[row, column] = self.loss()
            for parameter, weight in zip(self._parameters, start, strict=True):
                parameter.copy_(weight)
        return Landscape(steps, losses)

    def _random(self, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(self.size, dtype=torch.float64, generator=generator).to(self._images.device)


@dataclass(frozen=True)
class Landscape:
    """Losses on a square grid."""

    steps: np.ndarray  # float64 [points], of both directions
    losses: np.ndarray  # float64 [points, points], rows along the first direction


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    """Of the angle between two gradients; nan where one of them is zero."""
    lengths = float(one.norm()) * float(other.norm())
    return float(one @ other) / lengths if lengths else float("nan")


def _direction(weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A random direction whose filters (rows) are as long as those of `weight`; none along biases and norm layers."""
    if weight.ndim < 2:
        return torch.zeros_like(weight)
    drawn = torch.randn(weight.shape, dtype=weight.dtype, generator=generator).to(weight.device)
    lengths = [each.flatten(1).norm(dim=1) for each in (weight, drawn)]
    scaled: torch.Tensor = drawn * (lengths[0] / lengths[1]).reshape(-1, *[1] * (weight.ndim - 1))
    return scaled


def _flat(parts: Sequence[torch.Tensor | None], like: Sequence[torch.Tensor]) -> torch.Tensor:
    """One vector; a parameter that the loss does not depend on counts as zeros."""
    return torch.cat(
        [
            (torch.zeros_like(whole) if part is None else part).reshape(-1)
            for part, whole in zip(parts, like, strict=True)
        ]
    )
