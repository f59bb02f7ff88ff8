"""Batches for the training loop: which images, in which view, with which targets.

Whole blocks of batches are rendered at once, because a call per batch of ten small images would cost as much as the
student's step. Memory stays bounded: stored labels are decoded a window of views at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol, cast

import numpy as np
import torch

from bench.artifacts.split_images import SplitImages
from bench.errors import UserError
from bench.protocol.recipe import Loss, Recipe
from bench.seeds import Coordinate, numpy_generator, seed
from bench.training.arithmetic import channels_come_last
from bench.training.losses import Target, soft_target
from bench.views.parameters import View, Views, batch_bounds, permutation
from bench.views.pasting import pasted
from bench.views.render import finish, normalise, pieces, render, transform
from bench.views.siamese import draw_operation, operate, without_flip

_WHOLE = 64 * 2**20  # bytes of float images up to which a whole epoch is resampled at once, so that partners are shared
_SOURCE = 512 * 2**20  # bytes up to which the normalised sources are kept
_TAKEN = 5 * 2**20  # bytes of float images that are taken together of those that are resampled already
_CHUNK = 800 * 2**10  # bytes of float images that are resampled together: they and their matrices fit the cache


class LabelReader(Protocol):
    """Stored teacher logits, decoded on demand."""

    @property
    def views(self) -> Sequence[View]:
        """All K views of the set."""
        ...

    @property
    def available(self) -> np.ndarray:
        """int64, ascending: the views whose logits are stored."""
        ...

    def rows(self, views: Sequence[int]) -> torch.Tensor:
        """float32 [n_images, len(views), C]: teacher logits of every image in these views."""
        ...


Teacher = Callable[[torch.Tensor], torch.Tensor]


class Feed:
    """The batches of every epoch of one training run.

    Args:
        images: uint8 or float [N, C, size, size], grey levels.
        labels: int64 [N].
        recipe: batch, epochs, draw, loss and augmentation are read.
        coordinates: name the run (protocol, replicate); data order and hard-label views depend on them alone.
        mean, std: per channel, in [0, 1].
        mirror: whether a mirrored image keeps its class.
        device: where batches are made.
        reader: stored labels and their views; without it, views are drawn on the fly.
        block_bytes: bound on decoded labels held at a time (at least one view is held).
        teacher: maps a batch, as the student sees it, to teacher logits float32 [n, classes]; online labels only.

    Raises:
        UserError: the label set holds no view, or names no batches where batches are drawn.
    """

    def __init__(
        self,
        images: torch.Tensor | SplitImages,
        labels: torch.Tensor,
        recipe: Recipe,
        *,
        coordinates: Sequence[Coordinate],
        mean: Sequence[float],
        std: Sequence[float],
        mirror: bool,
        device: torch.device,
        reader: LabelReader | None,
        block_bytes: int,
        teacher: Teacher | None = None,
    ) -> None:
        self.n, self.recipe, self.coordinates, self.device = len(images), recipe, tuple(coordinates), device
        self._mean, self._std = mean, std
        self._siamese = without_flip(recipe.siamese, mirror=mirror)
        # The last bits of a Siamese operation follow the order of the values that it reads.
        last = channels_come_last(recipe, device) and not self._siamese
        self._format = torch.channels_last if last else torch.contiguous_format
        self._images: torch.Tensor | SplitImages = images.to(device)
        self._labels = labels.to(device)
        self._image_bytes = 4 * images[0].numel()
        # RandAugment works on raw pixels. Float images are always normalised first: views take floats as normalised.
        small = not recipe.augment.randaugment_ops and self.n * self._image_bytes <= _SOURCE
        if isinstance(self._images, torch.Tensor) and (small or images.is_floating_point()):
            self._images = normalise(self._images, mean, std)
        self.bounds = batch_bounds(self.n, recipe.batch)
        self._chunk = max(8, _CHUNK // self._image_bytes)
        self._teacher, self._offset = teacher, torch.zeros((), device=device)
        self._targets: _Window | None = None
        steps = len(self.bounds)
        self._batches = np.tile(np.arange(steps), recipe.epochs)  # which batch of its view a step shows
        if reader is None:
            base, size = seed("view", *self.coordinates), images.shape[-1]
            self._views: Sequence[View] = Views(
                recipe.augment, self.n, size, mirror=mirror, batch=recipe.batch, seed=base, count=recipe.epochs
            )
            self._plan = np.repeat(np.arange(recipe.epochs), steps)  # which view a step shows
        else:
            self._views, stored = reader.views, np.asarray(reader.available, np.int64)
            if not len(stored):
                raise UserError("the label set holds no view at all: raise the byte budget or K")
            if recipe.draw == "epoch" and len(stored) == len(self._views):
                self._plan = np.repeat(np.arange(recipe.epochs) % len(stored), steps)
            else:
                # Also where labels were pruned: every batch draws its view from the pool with replacement.
                pick = numpy_generator("pool", *self.coordinates).integers(len(stored), size=recipe.epochs * steps)
                self._plan = stored[pick]
            if recipe.draw == "batch":
                self._draw_batches()
            self._targets = _Window(reader, self._plan, recipe.loss, block_bytes, device)

    def _draw_batches(self) -> None:
        """LPLD's pool: a step shows any batch of its view; a short last one gives way to the one before it."""
        if self._views[0].order is None:
            raise UserError("draw = 'batch' needs views that were stored batch by batch: make the label set again")
        generator = numpy_generator("pool", "batch", *self.coordinates)
        self._batches = generator.integers(len(self.bounds), size=len(self._plan))
        start, stop = self.bounds[-1]
        if stop - start < self.recipe.batch and len(self.bounds) > 1:
            self._batches = np.minimum(self._batches, len(self.bounds) - 2)

    @property
    def offset(self) -> torch.Tensor | float:
        """Sum over all images served so far of sum_c p log p of their soft label (kl; 0 for other losses)."""
        return self._offset if self._targets is None else self._targets.offset

    @offset.setter
    def offset(self, value: torch.Tensor) -> None:
        if self._targets is None:
            self._offset = value
        else:
            self._targets.offset = value

    def epoch(self, epoch: int) -> Iterator[tuple[torch.Tensor, Target]]:
        """(normalised images float32 [n, C, size, size], targets) of each batch."""
        first = epoch * len(self.bounds)
        plan, batches = (each[first : first + len(self.bounds)] for each in (self._plan, self._batches))
        order = permutation(seed("order", *self.coordinates, epoch), self.n)
        if self.recipe.draw == "batch" or (plan != plan[0]).any():
            for at, batch, step in zip(plan, batches, range(first, first + len(plan)), strict=True):
                view, (start, stop) = self._views[int(at)], self.bounds[batch]
                rows = (order if view.order is None else view.order)[start:stop]
                yield self._laid_out(self._render(view, rows, None)), self._target(view, rows, step)
            return
        view = self._views[int(plan[0])]
        order = order if view.order is None else view.order
        base = self._resample_all(view) if view.partner is not None and self.n * self._image_bytes <= _WHOLE else None
        images, targets = self._shown(view, order, base), self._targets_of(view, order, first)
        for number, (shown, own) in enumerate(zip(images, targets, strict=True)):
            operated = self._operated(shown, epoch, number) if self._siamese else shown
            yield operated, own if self._teacher is None else self._answered(operated, own)

    def _shown(self, view: View, order: np.ndarray, base: torch.Tensor | None) -> Iterator[torch.Tensor]:
        """The images of each batch; of images that are resampled already, more are taken at once."""
        blocks = list(self._blocks(self._chunk if base is None else max(self._chunk, _TAKEN // self._image_bytes)))
        if isinstance(self._images, SplitImages):
            self._images.expect(self._requests(view, order, blocks))
        for batch, last in blocks:
            rows = order[self.bounds[batch][0] : self.bounds[last - 1][1]]
            images = self._laid_out(self._render(view, rows, base))
            yield from torch.split(images, [stop - start for start, stop in self.bounds[batch:last]])

    def _targets_of(self, view: View, order: np.ndarray, step: int) -> Iterator[Target]:
        """The targets of each batch. In which blocks they are taken decides the last bits of the loss that is told."""
        for batch, last in self._blocks(self._chunk):
            rows = order[self.bounds[batch][0] : self.bounds[last - 1][1]]
            sizes = [stop - start for start, stop in self.bounds[batch:last]]
            yield from self._target(view, rows, step).split(sizes)

    def _blocks(self, images: int) -> Iterator[tuple[int, int]]:
        """(first, last + 1) of the batches that are taken together: up to so many images, at least one batch."""
        batch = 0
        while batch < len(self.bounds):
            last = batch + 1
            while last < len(self.bounds) and self.bounds[last][1] - self.bounds[batch][0] <= images:
                last += 1
            yield batch, last
            batch = last

    def _requests(self, view: View, order: np.ndarray, blocks: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
        """The rows that `render` will take of each block, in its order."""
        for batch, last in blocks:
            block = order[self.bounds[batch][0] : self.bounds[last - 1][1]]
            for rows in pieces(cast(torch.Tensor, self._images), block):
                yield rows
                if view.partner is not None:
                    yield view.partner[rows]

    @torch.no_grad()
    def _operated(self, images: torch.Tensor, epoch: int, batch: int) -> torch.Tensor:
        """A batch after the operation that `recipe.siamese` draws for it."""
        number = seed("siamese", *self.coordinates, epoch, batch)
        return operate(images, *draw_operation(number, self._siamese, len(images)))

    @torch.no_grad()
    def _resample_all(self, view: View) -> torch.Tensor:
        assert isinstance(self._images, torch.Tensor)  # a split that is read is larger than _WHOLE
        out = torch.empty(self._images.shape, dtype=torch.float32, device=self.device, memory_format=self._format)
        for start in range(0, self.n, self._chunk):
            part = slice(start, start + self._chunk)
            rows = np.arange(start, min(start + self._chunk, self.n))
            out[part] = transform(self._images[part], view, rows, mean=self._mean, std=self._std)
        return out

    @torch.no_grad()
    def _render(self, view: View, rows: np.ndarray, base: torch.Tensor | None) -> torch.Tensor:
        if base is None or view.partner is None:
            # Rows are taken from it, nothing else: so a split that is read stands for a tensor.
            return render(cast(torch.Tensor, self._images), view, rows, mean=self._mean, std=self._std)
        partners = view.partner[rows]
        if view.mix_box is None or view.cutout is not None or self.device.type != "cpu":
            return finish(_rows_of(base, rows), _rows_of(base, partners), view, rows)
        return pasted(base, rows, partners, view.mix_box[rows])

    def _laid_out(self, images: torch.Tensor) -> torch.Tensor:
        """The same values in the order in which the network's weights lie: its first convolution would bring them into
        it twice, forward and backward."""
        return images.contiguous(memory_format=self._format)

    @torch.no_grad()
    def _target(self, view: View, rows: np.ndarray, step: int) -> Target:
        at = torch.from_numpy(rows).to(self.device)
        classes = self._labels[at]
        if self._targets is not None:
            return _with_soft(Target(classes), self._targets.take(step, at), self.recipe.loss)
        if view.partner is None or view.lam is None or not self.recipe.loss.mix_labels:
            return Target(classes)
        others = self._labels[torch.from_numpy(view.partner[rows]).to(self.device)]
        return Target(classes, others, torch.from_numpy(view.lam[rows]).to(self.device))

    @torch.no_grad()
    def _answered(self, x: torch.Tensor, target: Target) -> Target:
        """The target with what the online teacher says of this batch."""
        assert self._teacher is not None
        soft, entropies = soft_target(self._teacher(x).float(), self.recipe.loss)
        if entropies is not None:
            self._offset = self._offset + entropies.sum()
        return _with_soft(target, soft, self.recipe.loss)


def _rows_of(images: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    """The images at `rows` (int64 [n]), in the order of values that they have."""
    at = torch.from_numpy(rows).to(images.device)
    return images[at] if images.is_contiguous() else images.permute(0, 2, 3, 1)[at].permute(0, 3, 1, 2)


def _with_soft(target: Target, soft: torch.Tensor, loss: Loss) -> Target:
    return replace(target, logits=soft) if loss.name == "mse" else replace(target, probabilities=soft)


class _Window:
    """The stored labels of the views that come next, as the loss reads them."""

    def __init__(
        self, reader: LabelReader, plan: np.ndarray, loss: Loss, block_bytes: int, device: torch.device
    ) -> None:
        self._reader, self._plan, self._loss, self._device = reader, plan, loss, device
        self._block_bytes, self._view_bytes = block_bytes, 0
        self._column: dict[int, int] = {}
        self._soft = torch.empty(0)
        self._entropies: torch.Tensor | None = None
        self.offset: torch.Tensor | float = 0.0

    def take(self, step: int, rows: torch.Tensor) -> torch.Tensor:
        """float32 [len(rows), C]: the soft targets of these images in the view of this step."""
        view = int(self._plan[step])
        if view not in self._column:
            self._decode(step)
        column = self._column[view]
        if self._entropies is not None:
            self.offset = self.offset + self._entropies[column][rows].sum()
        return self._soft[column][rows]

    def _decode(self, step: int) -> None:
        # How much a view takes is known once one is decoded.
        room = max(1, self._block_bytes // self._view_bytes) if self._view_bytes else 1
        coming: dict[int, int] = {}
        for view in self._plan[step:]:
            if len(coming) == room:
                break
            coming.setdefault(int(view), len(coming))
        self._column, self._soft = coming, torch.empty(0)  # the old window goes before the new one comes
        logits = self._reader.rows(list(coming)).to(self._device, torch.float32).transpose(0, 1)
        self._soft, self._entropies = soft_target(logits, self._loss)
        self._view_bytes = 4 * max(1, logits[0].numel())
