"""Soft labels: made by the teachers for stored views, encoded shard by shard, read row by row while students train."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from functools import reduce
from types import ModuleType
from typing import Any

import numpy as np
import torch

from bench.api import SoftLabels, Survey
from bench.errors import PluginError
from bench.labels.label_file import LabelFile, shard_sizes
from bench.labels.pool import BatchViews, common
from bench.protocol.recipe import Recipe
from bench.seeds import seed
from bench.teachers.ensemble import Ensemble, label_view
from bench.views.parameters import View, Views


def label_views(recipe: Recipe, images: int, *, protocol: str, dataset: str, size: int, mirror: bool) -> Views:
    """The K stored views of a condensed set. They depend on the protocol, the data set and the number of images, not on
    the method: every method's images meet the same crops (common random numbers)."""
    return Views(
        recipe.augment,
        images,
        size,
        mirror=mirror,
        batch=recipe.batch,
        seed=seed("views", protocol, dataset, images),
        count=recipe.views,
    )


def teacher_logits(
    ensemble: Ensemble,
    images: torch.Tensor,
    views: Views,
    indices: np.ndarray,
    norms: torch.Tensor | None = None,
    some: Sequence[int] | None = None,
) -> torch.Tensor:
    """float16 [len(indices), views, C]: what the teachers say of each view of each of these images.

    Args:
        ensemble: one teacher or several.
        images: the whole set (uint8 [N, channels, size, size]): a view may mix in any of them.
        views: of the whole set.
        indices: int64, ascending.
        norms: float32 [len(views), teachers, batches], see bench.teachers.ensemble.label_view.
        some: indices of the views that are asked for; None: all.
    """
    columns = [
        label_view(ensemble, images, views, k, indices, None if norms is None else norms[k]).to(torch.float16).cpu()
        for k in (range(len(views)) if some is None else some)
    ]
    return torch.stack(columns, dim=1)


def shards(images: int, views: int, classes: int) -> Iterator[np.ndarray]:
    """Consecutive int64 image indices of each shard."""
    start = 0
    for size in shard_sizes(images, views, classes):
        yield np.arange(start, start + size)
        start += size


class EncodedLabels:
    """The reader that the training loop is given: rows of the encoded labels, decoded when asked for.

    Memory: the encoded bytes, what a compressor makes of the part that all images share (klt: 4 B for each component of
    each image's mean), and the rows asked for; never images x views x classes.
    """

    def __init__(self, file: LabelFile, compressor: ModuleType, images: int, name: str) -> None:
        self._file, self._module, self._name = file, compressor, name
        self._images = images
        views = Views.from_bytes(file.views)
        self.views: Sequence[View] = views
        self._extra = {"shared": file.shared} if takes_shared(compressor) else {}
        self.invalid = self._counted()
        self._per_view = 1  # numbers that `rows` takes for one stored view
        pool = self._pool()
        if pool is None:
            self.available = self._available()
        else:
            batches = BatchViews(views)
            self.views, self._per_view, self.available = batches, batches.per_view, batches.drawn(pool)

    def rows(self, views: Sequence[int]) -> torch.Tensor:
        """float32 [images, len(views), C]: teacher logits of these views; NaN where a batch of theirs was pruned."""
        stored = [view // self._per_view for view in views]
        parts = [self._module.decode(blob, rows=stored, **self._extra) for blob in self._file.blobs]
        decoded = parts[0] if len(parts) == 1 else torch.cat(parts)
        if decoded.ndim != 3 or tuple(decoded.shape[:2]) != (self._images, len(views)):
            raise PluginError(
                f"compressor '{self._name}': decode(blob, rows) must return [images, rows, classes] = "
                f"[{self._images}, {len(views)}, C]; it returned {list(decoded.shape)}."
            )
        return decoded.to(torch.float32)

    def sizes(self) -> dict[str, int]:
        """Bytes of the label file, see bench.labels.label_file.LabelFile.sizes."""
        return self._file.sizes()

    def _counted(self) -> dict[str, int] | None:
        """Over all shards, see bench.records.schema.InvalidLabels; None where the compressor does not count."""
        counts = [count for blob in self._file.blobs if (count := invalid(self._module, blob)) is not None]
        return {"values": sum(v for v, _ in counts), "rows": sum(r for _, r in counts)} if counts else None

    def _pool(self) -> np.ndarray | None:
        """The (view, batch) pairs that are stored; None where whole views are."""
        if not hasattr(self._module, "batches"):
            return None
        pools = [self._module.batches(blob) for blob in self._file.blobs]
        if any(pool is None for pool in pools):
            return None
        pool = common(pools, self._name)
        whole = len(pool) == len(self.views) * (1 + int(pool[:, 1].max()))
        return None if whole else pool

    def _available(self) -> np.ndarray:
        if not hasattr(self._module, "rows"):
            return np.arange(len(self.views))
        # A short last shard may hold a view less, because its header weighs more; all images must have what is read.
        stored = [np.asarray(self._module.rows(blob), dtype=np.int64) for blob in self._file.blobs]
        common = reduce(np.intersect1d, stored)
        if not len(common):
            raise PluginError(f"compressor '{self._name}': the shards have no stored view in common.")
        return common


def takes_shared(compressor: ModuleType) -> bool:
    """Whether the compressor has a part that all images share: it defines `fit`.

    Raises PluginError if its `encode` or `decode` has no parameter `shared` to be handed that part.
    """
    if not hasattr(compressor, "fit"):
        return False
    for name in ("encode", "decode"):
        if "shared" not in inspect.signature(getattr(compressor, name)).parameters:
            raise PluginError(
                f"compressor '{compressor.__name__.rpartition('.')[2]}' defines fit(...), so {name}(...) "
                f"must take `shared`, the bytes that fit returned."
            )
    return True


def takes_survey(compressor: ModuleType) -> bool:
    """Whether the compressor's `fit` has a parameter `survey`."""
    return hasattr(compressor, "fit") and "survey" in inspect.signature(compressor.fit).parameters


def invalid(compressor: ModuleType, blob: bytes) -> tuple[int, int] | None:
    """What `invalid(blob)` tells, checked: (negative probabilities, rows of them whose sum is not one). None where the
    compressor does not count. Raises PluginError, or what the compressor raises."""
    if not hasattr(compressor, "invalid"):
        return None
    counts = compressor.invalid(blob)
    if (
        isinstance(counts, tuple)
        and len(counts) == 2
        and all(isinstance(n, int | np.integer) and n >= 0 for n in counts)
    ):
        return int(counts[0]), int(counts[1])
    raise PluginError(
        f"compressor '{compressor.__name__.rpartition('.')[2]}': invalid(blob) must return two whole numbers, of "
        f"negative values and of rows that do not sum to one; it returned {counts!r}."
    )


def fit(
    compressor: ModuleType,
    labels: SoftLabels,
    allowance: int,
    ctx: Any,
    survey: Survey | None = None,
    **params: Any,
) -> bytes:
    """What all shards share, checked: bytes, and within the allowance. `survey`: of the whole set, where `labels` are
    one of several shards. Where not even the views' parameters fit, the allowance is below zero: nothing is shared, and
    `encode` tells what it would need. Raises PluginError, or what the compressor raises."""
    allowance = max(allowance, 0)
    extra = {"survey": survey} if takes_survey(compressor) else {}
    return _checked(compressor, "fit", compressor.fit(labels, allowance, ctx, **extra, **params), allowance)


def encode(compressor: ModuleType, labels: SoftLabels, allowance: int, ctx: Any, shared: bytes, **params: Any) -> bytes:
    """One shard's blob, checked: bytes, and within the allowance; where the views' parameters alone take more than the
    budget, none are left. Raises PluginError, or what the compressor raises."""
    allowance = max(allowance, 0)
    extra = {"shared": shared} if takes_shared(compressor) else {}
    blob = compressor.encode(labels, allowance, ctx, **extra, **params)
    return _checked(compressor, "encode", blob, allowance)


def _checked(compressor: ModuleType, function: str, returned: Any, allowance: int) -> bytes:
    name = compressor.__name__.rpartition(".")[2]
    if not isinstance(returned, bytes):
        raise PluginError(f"compressor '{name}': {function}(...) must return bytes, not {type(returned).__name__}.")
    if len(returned) > allowance and getattr(compressor, "TAKES_BUDGET", True):
        raise PluginError(
            f"compressor '{name}': {function}(...) returned {len(returned)} bytes for a budget of {allowance}. It must "
            f"stay within the budget or raise bench.errors.InfeasibleError(smallest_bytes)."
        )
    return returned
