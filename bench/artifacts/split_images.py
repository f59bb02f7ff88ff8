"""The images of a training split, of which rows are read when they are asked for: a split need not fit into memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from bench.artifacts.ahead import DEPTH
from bench.artifacts.opened import TrainSplit, prepare

IN_MEMORY = 128 * 2**20  # bytes of uint8 images up to which a split is read whole


class SplitImages:
    """Stands for a tensor uint8 [N, channels, size, size] where rows of it are taken.

    Args:
        split: that is read.
        device: where the rows go.
    """

    dtype = torch.uint8
    ndim = 4

    def __init__(self, split: TrainSplit, device: torch.device | str = "cpu") -> None:
        prepare(split._source)
        self._split, self.device = split, torch.device(device)
        self.shape = (len(split), split.channels, split.size, split.size)
        self._expected: Iterator[np.ndarray] = iter(())
        self._coming = deque[tuple[np.ndarray, Future[torch.Tensor]]]()
        self._pool: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def to(self, device: torch.device | str) -> SplitImages:
        """The same, whose rows go to another device."""
        return SplitImages(self._split, device)

    def is_floating_point(self) -> bool:
        """Never: sources have whole levels."""
        return False

    def __getitem__(self, rows: torch.Tensor | int) -> torch.Tensor:
        """uint8 [n, channels, size, size] of rows int64 [n]; without the first axis for a number."""
        if isinstance(rows, int):
            return self._read(np.array([rows]))[0].to(self.device)
        wanted = rows.cpu().numpy()
        if self._coming and np.array_equal(self._coming[0][0], wanted):
            images = self._coming.popleft()[1].result()
            self._read_ahead()
        else:
            images = self._read(wanted)
        return images.to(self.device)

    def expect(self, requests: Iterable[np.ndarray]) -> None:
        """The rows (int64 [n] each) that will be asked for, in this order: they are read ahead. Others may be asked for
        as well, and are read then."""
        for _, future in self._coming:
            future.cancel()
        self._coming.clear()
        self._expected = iter(requests)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "split-images")
        self._read_ahead()

    def _read_ahead(self) -> None:
        assert self._pool is not None
        while len(self._coming) < DEPTH and (rows := next(self._expected, None)) is not None:
            self._coming.append((rows, self._pool.submit(self._read, rows)))

    def _read(self, rows: np.ndarray) -> torch.Tensor:
        return self._split.images(rows)


def training_images(split: TrainSplit) -> torch.Tensor | SplitImages:
    """All images of a split, for its training: in memory while it is small."""
    if len(split) * split.channels * split.size**2 <= IN_MEMORY:
        return split.images(np.arange(len(split)))
    return SplitImages(split)
