"""A pool of stored batches, as the training loop draws from it.

The loop draws a stored view and a batch of that view. Where batches were pruned it is given a view for each batch of
the set, and whichever batch of such a view it takes, it is that one: so every draw is uniform over the pool, with
replacement, as LPLD's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import overload

import numpy as np

from bench.errors import PluginError
from bench.views.parameters import View, Views, batch_bounds


class BatchViews(Sequence[View]):
    """View number v * (batches of a view) + b shows batch b of view v, and nothing else.

    A place of another size than the batch (a last one with a left-over image) repeats its images or leaves one out.
    """

    def __init__(self, views: Views) -> None:
        self._views, self._bounds = views, batch_bounds(views.n, views.batch)

    @property
    def per_view(self) -> int:
        """Batches of a view."""
        return len(self._bounds)

    def __len__(self) -> int:
        return len(self._views) * self.per_view

    @overload
    def __getitem__(self, index: int) -> View: ...
    @overload
    def __getitem__(self, index: slice) -> list[View]: ...

    def __getitem__(self, index: int | slice) -> View | list[View]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        view = self._views[index // self.per_view]
        assert view.order is not None  # such a pool is of views made batch by batch
        start, stop = self._bounds[index % self.per_view]
        shown = [np.resize(view.order[start:stop], end - begin) for begin, end in self._bounds]
        return replace(view, order=np.concatenate(shown))

    def drawn(self, stored: np.ndarray) -> np.ndarray:
        """int64, ascending: the numbers of [m, 2] (view, batch) that are drawn: a short last batch is not, unless
        there is no other."""
        numbers = stored[:, 0] * self.per_view + stored[:, 1]
        start, stop = self._bounds[-1]
        full = numbers[(stored[:, 1] < self.per_view - 1) | (stop - start >= self._views.batch)]
        return np.sort(full if len(full) else numbers)


def common(pools: Sequence[np.ndarray], compressor: str) -> np.ndarray:
    """int64 [m, 2]: the (view, batch) pairs that all shards hold. Raises PluginError where there is none."""
    shared = set.intersection(*({(int(view), int(batch)) for view, batch in pool} for pool in pools))
    if not shared:
        raise PluginError(f"compressor '{compressor}': the shards have no stored batch in common.")
    return np.array(sorted(shared), np.int64)
