"""Teachers that label together: how their logits become one, and what batch norm does meanwhile.

One teacher is an ensemble of one. Where an image's label depends on the batch that it is labelled in (norm-mean, batch
norm on batch statistics), the batch is the student's own for online labels, and a stored batch for stored ones
(`stored_batches`).

Sources: the mean of logits as EDC's relabelling; norm-mean as G-VBSM's, every teacher's block of one batch scaled so
that its Frobenius norm is the mean of all teachers' norms, then averaged; teachers in train mode as SRe2L's and DWA's
scripts for CIFAR, which never call eval(). There running statistics drift as well, which would matter only if the same
network was put in eval mode afterwards; here there are none, so nothing leaks from one trial into the next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bench.protocol.recipe import Recipe
from bench.seeds import seed
from bench.training.footprint import images_of_a_pass
from bench.views.parameters import View, Views, batch_bounds, permutation
from bench.views.render import normalise, render

TEACHER_BATCH = 250


@dataclass(frozen=True)
class Member:
    """A teacher: its network in eval mode, and the mean and standard deviation that its images are normalised with."""

    model: nn.Module
    mean: Sequence[float]
    std: Sequence[float]


class Ensemble:
    """Teachers, and how they are combined.

    Args:
        members: one or more. With `train_mode` their batch norms lose their running statistics for good.
        norm_mean: logits are scaled to the mean norm of the batch before they are averaged.
        train_mode: batch norm works on batch statistics. Nothing else changes: dropout stays off.
    """

    def __init__(self, members: Sequence[Member], *, norm_mean: bool = False, train_mode: bool = False) -> None:
        self.members = tuple(members)
        self.norm_mean = norm_mean and len(self.members) > 1  # of one, the norm is the mean norm
        self.train_mode = train_mode
        self._floats: torch.Tensor | None = None
        self._normalised: dict[tuple[tuple[float, ...], ...], torch.Tensor] = {}
        if train_mode:
            for member in self.members:
                _use_batch_statistics(member.model)

    @torch.no_grad()
    def say(self, images: torch.Tensor, view: View, rows: np.ndarray) -> torch.Tensor:
        """float32 [teachers, len(rows), C]: each teacher's logits of these images in this view, as one batch.

        Args:
            images: the whole set, uint8 or float [N, channels, size, size]: a view may mix in any of them.
            view: of all N images.
            rows: int64 [n], image indices.
        """
        return torch.cat([self._said(images, view, each) for each in self.passes(images, rows)], dim=1)

    def passes(self, images: torch.Tensor, rows: np.ndarray) -> list[np.ndarray]:
        """Those of `rows` (int64 [n]) that are rendered and go through the networks together, in order: all of them
        where a label depends on its whole batch, else as many as a worker has memory for. `images`: the whole set."""
        at_once = max(1, len(rows)) if self.train_mode else images_of_a_pass(images, images.device)
        return [rows[start : start + at_once] for start in range(0, max(1, len(rows)), at_once)]

    def _said(self, images: torch.Tensor, view: View, rows: np.ndarray) -> torch.Tensor:
        """float32 [teachers, len(rows), C], in one pass; arguments as of `say`."""
        shown: dict[
            tuple[tuple[float, ...], ...], torch.Tensor
        ] = {}  # teachers that share a normalisation share what is rendered
        said = []
        for member in self.members:
            key = (tuple(member.mean), tuple(member.std))
            if key not in shown:
                shown[key] = self.shown(images, view, rows, member)
            said.append(self.answer(member, shown[key]))
        return torch.stack(said)

    def shown(self, images: torch.Tensor, view: View, rows: np.ndarray, member: Member) -> torch.Tensor:
        """float32 [len(rows), channels, size, size]: these images in this view, as a member sees them."""
        source = self._source(images, (tuple(member.mean), tuple(member.std)))
        return render(source, view, rows, mean=member.mean, std=member.std)

    def answer(self, member: Member, shown: torch.Tensor) -> torch.Tensor:
        """float32 [n, C]: a member's logits of images as `shown` gives them."""
        return member.model(shown).float()  # type: ignore[no-any-return]

    def _source(self, images: torch.Tensor, key: tuple[tuple[float, ...], ...]) -> torch.Tensor:
        """What views are rendered from: uint8 images as they are, float images as a member sees them.

        Views take floats as normalised. The last set is kept in the normalisation of each member: all its views come
        one after the other.
        """
        if not images.is_floating_point():
            return images
        if self._floats is not images:
            self._floats, self._normalised = images, {}
        if key not in self._normalised:
            self._normalised[key] = normalise(images, *key)
        return self._normalised[key]

    def combine(self, logits: torch.Tensor) -> torch.Tensor:
        """float32 [n, C]: the label logits of one batch, from every teacher's [teachers, n, C]."""
        if self.norm_mean:
            logits = logits * scales(block_norms(logits))[:, None, None]
        return average(logits)

    def online(self, mean: Sequence[float], std: Sequence[float]) -> Callable[[torch.Tensor], torch.Tensor]:
        """A function from the student's batch, normalised with `mean` and `std` (float32 [n, channels, size, size]), to
        label logits float32 [n, C], without gradients. Each teacher sees the batch in its own normalisation."""
        changes = [renormalisation(mean, std, member) for member in self.members]
        for member in self.members:
            if all(parameter.device.type == "cpu" for parameter in member.model.parameters()):
                member.model.to(memory_format=torch.channels_last)

        def answered(member: Member, x: torch.Tensor) -> torch.Tensor:
            at_once = len(x) if self.train_mode else images_of_a_pass(x, x.device)
            if len(x) <= at_once:
                return member.model(x)  # type: ignore[no-any-return]
            return torch.cat([member.model(part) for part in torch.split(x, at_once)])

        @torch.no_grad()
        def label(x: torch.Tensor) -> torch.Tensor:
            said = []
            for member, change in zip(self.members, changes, strict=True):
                seen = x if change is None else torch.addcmul(change[1].to(x), x, change[0].to(x))
                said.append(answered(member, seen))
            return self.combine(torch.stack(said).float())

        return label


def ensemble_of(members: Sequence[Member], recipe: Recipe) -> Ensemble:
    """The members as a protocol's values combine them."""
    return Ensemble(members, norm_mean=recipe.ensemble == "norm-mean", train_mode=recipe.teacher_mode == "train")


def average(logits: torch.Tensor) -> torch.Tensor:
    """[n, C]: the mean over teachers of [teachers, n, C]; of one teacher, its very logits."""
    return logits[0] if len(logits) == 1 else logits.mean(dim=0)


def block_norms(logits: torch.Tensor) -> torch.Tensor:
    """float32 [teachers]: the Frobenius norm of each teacher's block of [teachers, n, C], summed in float64."""
    norms: torch.Tensor = torch.linalg.vector_norm(logits, dim=(1, 2), dtype=torch.float64)
    return norms.float()


def scales(norms: torch.Tensor) -> torch.Tensor:
    """What makes every norm the mean of the norms, float32 [teachers, ...] of the same shape; 0 for a norm of 0."""
    return torch.where(norms > 0, norms.mean(dim=0) / norms, torch.zeros_like(norms))


def stored_batches(views: Views, k: int) -> list[np.ndarray]:
    """int64 image indices of each batch of stored view `k`.

    Where the view has an order of visit (augment.mix_unit = "batch") these are the batches that the student is shown.
    Else its batches change with every epoch, and labels are made in batches of a permutation of their own: images of a
    condensed set stand class by class, and a batch of one class has statistics that no student's batch has.
    """
    order = views[k].order
    if order is None:
        order = permutation(seed("label-batches", views.seed, k), views.n)
    return [order[start:stop] for start, stop in batch_bounds(views.n, views.batch)]


@torch.no_grad()
def view_norms(ensemble: Ensemble, images: torch.Tensor, views: Views, k: int) -> torch.Tensor:
    """float32 [teachers, batches]: `block_norms` of every stored batch of view `k` (teachers in eval mode)."""
    batches = stored_batches(views, k)
    return torch.stack([block_norms(_in_pieces(ensemble, images, views[k], rows)) for rows in batches], dim=1)


@torch.no_grad()
def label_view(
    ensemble: Ensemble,
    images: torch.Tensor,
    views: Views,
    k: int,
    indices: np.ndarray,
    norms: torch.Tensor | None = None,
) -> torch.Tensor:
    """float32 [len(indices), C]: the label logits of these images in stored view `k`.

    With batch statistics every stored batch that holds one of the images is labelled whole: of S shards, each costs as
    much as the whole set. Norm-mean alone needs two passes however many shards there are, and one where `indices` are
    all images.

    Args:
        ensemble: the teachers.
        images: the whole set, uint8 or float [N, channels, size, size].
        views: of the whole set.
        k: which of them.
        indices: int64, ascending image indices.
        norms: `view_norms` of this view; read for norm-mean in eval mode, where `indices` are not all images.
    """
    if ensemble.train_mode:
        return _by_whole_batches(ensemble, images, views, k, indices)
    logits = _in_pieces(ensemble, images, views[k], indices)
    if not ensemble.norm_mean:
        return average(logits)
    batches = stored_batches(views, k)
    if norms is None:
        assert len(indices) == views.n, "the norms of the stored batches are needed for a part of the images"
        norms = torch.stack([block_norms(logits[:, torch.from_numpy(rows)]) for rows in batches], dim=1)
    batch_of = np.empty(views.n, np.int64)
    for number, rows in enumerate(batches):
        batch_of[rows] = number
    return average(logits * scales(norms.to(logits))[:, torch.from_numpy(batch_of[indices])][..., None])


def _in_pieces(ensemble: Ensemble, images: torch.Tensor, view: View, indices: np.ndarray) -> torch.Tensor:
    """float32 [teachers, len(indices), C], a bounded number of images at a time."""
    return torch.cat([ensemble.say(images, view, piece) for piece in teacher_batches(indices)], dim=1)


def teacher_batches(indices: np.ndarray) -> list[np.ndarray]:
    """The images that teachers are shown at a time."""
    return np.array_split(indices, max(1, -(-len(indices) // TEACHER_BATCH)))


def _by_whole_batches(
    ensemble: Ensemble, images: torch.Tensor, views: Views, k: int, indices: np.ndarray
) -> torch.Tensor:
    place = np.full(views.n, -1)
    place[indices] = np.arange(len(indices))
    labels: torch.Tensor | None = None
    for rows in stored_batches(views, k):
        kept = np.flatnonzero(place[rows] >= 0)
        if len(kept):
            batch_labels = ensemble.combine(ensemble.say(images, views[k], rows))
            if labels is None:
                labels = batch_labels.new_empty(len(indices), batch_labels.shape[1])
            labels[torch.from_numpy(place[rows[kept]])] = batch_labels[torch.from_numpy(kept)]
    assert labels is not None
    return labels


def _use_batch_statistics(model: nn.Module) -> None:
    """Batch norm without running statistics works on those of the batch, in eval mode as well."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.track_running_stats = False
            module.running_mean = module.running_var = None


def renormalisation(
    mean: Sequence[float], std: Sequence[float], member: Member
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """(factor, shift), float32 [channels, 1, 1], from a normalisation to the member's; None where they are equal."""
    if tuple(mean) == tuple(member.mean) and tuple(std) == tuple(member.std):
        return None
    m, s = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (mean, std))
    own_m, own_s = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (member.mean, member.std))
    return (s / own_s).float(), ((m - own_m) / own_s).float()
