"""Batches for the training loop: which images, in which view, with which targets.

Whole blocks of batches are rendered at once, because a call per batch of ten small images would cost as much as the
student's step. Memory stays bounded: stored labels are decoded a window of views at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from bench.augment import View, Views, batch_bounds, permutation
from bench.errors import UserError
from bench.recipe import Recipe
from bench.render import finish, normalise, render, resample
from bench.seeds import Coordinate, numpy_generator, seed

_WHOLE = 64 * 2**20  # bytes of float images up to which a whole epoch is resampled at once, so that partners are shared
_SOURCE = 512 * 2**20  # bytes up to which the normalised sources are kept
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


@dataclass(frozen=True)
class Target:
    """What a batch is trained towards: probabilities, or one class per image, or two classes mixed by `lam`."""

    classes: torch.Tensor | None = None  # int64 [n]
    others: torch.Tensor | None = None  # int64 [n]: classes of the partners
    lam: torch.Tensor | None = None  # float32 [n]: weight of `classes`
    probabilities: torch.Tensor | None = None  # float32 [n, C]

    def __getitem__(self, rows: slice) -> Target:
        def part(value: torch.Tensor | None) -> torch.Tensor | None:
            return None if value is None else value[rows]

        return Target(part(self.classes), part(self.others), part(self.lam), part(self.probabilities))


class Feed:
    """The batches of every epoch of one training run.

    Args:
        images: uint8 [N, C, size, size].
        labels: int64 [N].
        recipe: batch, epochs, augmentation and the temperature of stored labels are read.
        coordinates: name the run (protocol, replicate); data order and hard-label views depend on them alone.
        mean, std: per channel, in [0, 1].
        mirror: whether a mirrored image keeps its class.
        device: where batches are made.
        reader: stored labels; None trains with class labels and views drawn on the fly.
        block_bytes: bound on decoded labels held at a time (at least one view is held).
    """

    def __init__(
        self,
        images: torch.Tensor,
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
    ) -> None:
        self.n, self.recipe, self.coordinates, self.device = len(images), recipe, tuple(coordinates), device
        self._mean, self._std = mean, std
        self._images, self._labels = images.to(device), labels.to(device)
        self._image_bytes = 4 * images[0].numel()
        if self.n * self._image_bytes <= _SOURCE:
            self._images = normalise(self._images, mean, std)
        self.bounds = batch_bounds(self.n, recipe.batch)
        self._chunk = max(8, _CHUNK // self._image_bytes)
        self._targets: _Window | None = None
        steps = len(self.bounds)
        if reader is None:
            base, size = seed("view", *self.coordinates), images.shape[-1]
            self._views: Sequence[View] = Views(
                recipe.augment, self.n, size, mirror=mirror, batch=recipe.batch, seed=base, count=recipe.epochs
            )
            self._plan = np.repeat(np.arange(recipe.epochs), steps)
        else:
            self._views, stored = reader.views, np.asarray(reader.available, np.int64)
            if not len(stored):
                raise UserError("the label set holds no view at all: raise the byte budget or K")
            if len(stored) == len(self._views):
                self._plan = np.repeat(np.arange(recipe.epochs) % len(stored), steps)
            else:
                # Labels were pruned: every batch draws its view from the pool with replacement, as LPLD draws entries.
                pick = numpy_generator("pool", *self.coordinates).integers(len(stored), size=recipe.epochs * steps)
                self._plan = stored[pick]
            self._targets = _Window(reader, self._plan, recipe.loss.temperature, block_bytes, device)

    @property
    def offset(self) -> torch.Tensor | float:
        """Sum over all images served so far of sum_c p log p of their stored label (0 for class labels)."""
        return 0.0 if self._targets is None else self._targets.offset

    def epoch(self, epoch: int) -> Iterator[tuple[torch.Tensor, Target]]:
        """(normalised images float32 [n, C, size, size], targets) of each batch."""
        first = epoch * len(self.bounds)
        plan = self._plan[first : first + len(self.bounds)]
        order = permutation(seed("order", *self.coordinates, epoch), self.n)
        if (plan != plan[0]).any():
            for (start, stop), at, step in zip(self.bounds, plan, range(first, first + len(plan)), strict=True):
                view = self._views[int(at)]
                rows = (order if view.order is None else view.order)[start:stop]
                yield self._render(view, rows, None), self._target(view, rows, step)
            return
        view = self._views[int(plan[0])]
        order = order if view.order is None else view.order
        base = self._resample_all(view) if view.partner is not None and self.n * self._image_bytes <= _WHOLE else None
        batch = 0
        while batch < len(self.bounds):
            last = batch + 1
            while last < len(self.bounds) and self.bounds[last][1] - self.bounds[batch][0] <= self._chunk:
                last += 1
            begin = self.bounds[batch][0]
            rows = order[begin : self.bounds[last - 1][1]]
            images, target = self._render(view, rows, base), self._target(view, rows, first)
            for start, stop in self.bounds[batch:last]:
                part = slice(start - begin, stop - begin)
                yield images[part], target[part]
            batch = last

    @torch.no_grad()
    def _resample_all(self, view: View) -> torch.Tensor:
        out = torch.empty(self._images.shape, dtype=torch.float32, device=self.device)
        for start in range(0, self.n, self._chunk):
            part = slice(start, start + self._chunk)
            x = self._images[part]
            x = x if x.is_floating_point() else normalise(x, self._mean, self._std)
            out[part] = resample(x, view, np.arange(start, min(start + self._chunk, self.n)))
        return out

    @torch.no_grad()
    def _render(self, view: View, rows: np.ndarray, base: torch.Tensor | None) -> torch.Tensor:
        if base is None or view.partner is None:
            return render(self._images, view, rows, mean=self._mean, std=self._std)
        return finish(base[torch.from_numpy(rows)], base[torch.from_numpy(view.partner[rows])], view, rows)

    @torch.no_grad()
    def _target(self, view: View, rows: np.ndarray, step: int) -> Target:
        at = torch.from_numpy(rows).to(self.device)
        if self._targets is not None:
            return Target(probabilities=self._targets.take(step, at))
        classes = self._labels[at]
        if view.partner is None or view.lam is None:
            return Target(classes)
        others = self._labels[torch.from_numpy(view.partner[rows]).to(self.device)]
        return Target(classes, others, torch.from_numpy(view.lam[rows]).to(self.device))


class _Window:
    """The stored labels of the views that come next, as probabilities."""

    def __init__(
        self, reader: LabelReader, plan: np.ndarray, temperature: float, block_bytes: int, device: torch.device
    ) -> None:
        self._reader, self._plan, self._temperature, self._device = reader, plan, temperature, device
        self._block_bytes, self._view_bytes = block_bytes, 0
        self._column: dict[int, int] = {}
        self._probabilities = self._entropies = torch.empty(0)
        self.offset: torch.Tensor | float = 0.0

    def take(self, step: int, rows: torch.Tensor) -> torch.Tensor:
        """float32 [len(rows), C]: softmax(logits / T) of these images in the view of this step."""
        view = int(self._plan[step])
        if view not in self._column:
            self._decode(step)
        column = self._column[view]
        self.offset = self.offset + self._entropies[column][rows].sum()
        return self._probabilities[column][rows]

    def _decode(self, step: int) -> None:
        # How much a view takes is known once one is decoded.
        room = max(1, self._block_bytes // self._view_bytes) if self._view_bytes else 1
        coming: dict[int, int] = {}
        for view in self._plan[step:]:
            if len(coming) == room:
                break
            coming.setdefault(int(view), len(coming))
        self._column, self._probabilities = coming, torch.empty(0)  # the old window goes before the new one comes
        logits = self._reader.rows(list(coming)).to(self._device, torch.float32).transpose(0, 1) / self._temperature
        logs = torch.log_softmax(logits, dim=-1)
        self._probabilities = logs.exp()
        self._entropies = (self._probabilities * logs).sum(dim=-1)
        self._view_bytes = 4 * max(1, logits[0].numel())
