"""The loss of one batch, and what it reads of a teacher's logits (bench/protocol/recipe.py, Loss)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from bench.protocol.recipe import Loss


@dataclass(frozen=True)
class Target:
    """What a batch is trained towards: its classes, and what the loss needs beside them."""

    classes: torch.Tensor  # int64 [n]: of the images themselves, whatever is mixed in
    others: torch.Tensor | None = None  # int64 [n], ce under mixing: classes of the partners
    lam: torch.Tensor | None = None  # float32 [n], ce under mixing: weight of `classes`
    probabilities: torch.Tensor | None = None  # float32 [n, C], kl and soft-ce: softmax(teacher / T)
    logits: torch.Tensor | None = None  # float32 [n, C], mse: the teacher's

    def __getitem__(self, rows: slice) -> Target:
        def part(value: torch.Tensor | None) -> torch.Tensor | None:
            return None if value is None else value[rows]

        return Target(
            self.classes[rows], part(self.others), part(self.lam), part(self.probabilities), part(self.logits)
        )

    def split(self, sizes: list[int]) -> list[Target]:
        """Consecutive parts of so many images each."""
        fields = (self.classes, self.others, self.lam, self.probabilities, self.logits)
        parts = ([None] * len(sizes) if each is None else torch.split(each, sizes) for each in fields)
        return [Target(*own) for own in zip(*parts, strict=True)]


def scale(loss: Loss) -> float:
    """The factor before the soft part: T^2 where the recipe wants it, else 1."""
    return loss.temperature**2 if loss.times_t_squared and loss.name in ("kl", "soft-ce") else 1.0


def soft_target(logits: torch.Tensor, loss: Loss) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What the loss reads of teacher logits float32 [..., C].

    Returns:
        The logits themselves (mse) or softmax(logits / T), [..., C]; and for kl sum_c p log p, [...], the part of the
        divergence that has no gradient.
    """
    if loss.name == "mse":
        return logits, None
    logs = torch.log_softmax(logits / loss.temperature, dim=-1)
    probabilities = logs.exp()
    return probabilities, (probabilities * logs).sum(dim=-1) if loss.name == "kl" else None


def batch_loss(logits: torch.Tensor, target: Target, loss: Loss) -> torch.Tensor:
    """What a step minimises: the mean over the batch, with T^2 and the hard label's share where the recipe has them.

    For kl this is the cross-entropy at temperature T: the divergence plus the entropy of the labels, which has no
    gradient and is taken off per epoch, not per step.

    Args:
        logits: the student's, float [n, C].
        target: with the fields that `loss` reads.
    """
    if loss.name == "ce":
        return _cross_entropy(logits, target)
    if loss.name == "mse":
        assert target.logits is not None
        soft = F.mse_loss(logits, target.logits)
    else:
        assert target.probabilities is not None
        soft = F.cross_entropy(logits / loss.temperature, target.probabilities)
        if (times := scale(loss)) != 1.0:
            soft = soft * times
    return soft + loss.hard_weight * F.cross_entropy(logits, target.classes) if loss.hard_weight else soft


def _cross_entropy(logits: torch.Tensor, target: Target) -> torch.Tensor:
    if target.others is None or target.lam is None:
        return F.cross_entropy(logits, target.classes)
    logs = F.log_softmax(logits, dim=1)
    first = F.nll_loss(logs, target.classes, reduction="none")
    second = F.nll_loss(logs, target.others, reduction="none")
    return torch.lerp(second, first, target.lam).mean()
