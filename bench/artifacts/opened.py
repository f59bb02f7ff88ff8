"""A data set as the harness uses it: the training split for methods, the test split for one evaluation at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from bench.api import Dataset, ImageSource
from bench.artifacts.split_rules import (
    check_class_names,
    check_classes,
    check_images,
    check_split,
    check_test_images,
)
from bench.confinement.watch import files_opened
from bench.errors import PluginError
from bench.plugins.spec import Spec
from bench.sources import FileSource

if TYPE_CHECKING:
    import torch


# A data set's file -> the files that its code opened in this process. Many keep what they read for all that follow.
_READ_FROM: dict[str, set[str]] = {}


WHOLE = 64 * 2**20  # bytes of a test split up to which it is read whole


class TrainSplit:
    """The training split as a method sees it (bench.api.Train). It holds the training source and nothing else."""

    def __init__(self, source: ImageSource, dataset: Dataset) -> None:
        self._source = source
        self.num_classes = dataset.num_classes
        self.channels = dataset.channels
        self.size = dataset.size
        self.source_size = dataset.source_size
        self.mirror = dataset.mirror
        self.labels = np.array(source.labels, dtype=np.int64)
        self.labels.flags.writeable = False

    def __len__(self) -> int:
        return len(self.labels)

    def sources(self, indices: Sequence[int] | np.ndarray) -> torch.Tensor:
        """uint8 [n, channels, source_size, source_size]."""
        import torch

        if len(indices) >= len(self):
            prepare(self._source)
        return torch.from_numpy(self._source.read(np.asarray(indices, dtype=np.int64)))

    def images(self, indices: Sequence[int] | np.ndarray) -> torch.Tensor:
        """uint8 [n, channels, size, size]: the sources, averaged where they are larger."""
        return shrink(self.sources(indices), self.size)

    def photos(self, indices: Sequence[int] | np.ndarray) -> list[torch.Tensor]:
        """The originals, uint8 [channels, height, width] each, of any size; the sources where there are no others."""
        import torch

        wanted = np.asarray(indices, dtype=np.int64)
        if isinstance(self._source, FileSource):
            return [torch.from_numpy(np.array(each)) for each in self._source.photos(wanted)]
        return list(torch.from_numpy(self._source.read(wanted)))

    def batches(self, batch: int = 256, indices: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """(indices int64 [n], images uint8 [n, channels, size, size]) in order."""
        chosen = np.arange(len(self)) if indices is None else np.asarray(indices, dtype=np.int64)
        if len(chosen) >= len(self):
            prepare(self._source)
        for start in range(0, len(chosen), batch):
            piece = chosen[start : start + batch]
            yield piece, self.images(piece)

    def class_indices(self, label: int) -> np.ndarray:
        """int64, ascending: where `labels == label`."""
        return np.flatnonzero(self.labels == label)


class TestSplit:
    """The images of the test split, read when they are asked for: a split need not fit into memory."""

    __test__ = False  # no test of pytest's

    def __init__(
        self, source: ImageSource, size: int, check: Callable[[np.ndarray], None], rows: np.ndarray | None = None
    ) -> None:
        prepare(source)
        self._source, self._size, self._check = source, size, check
        self._rows = np.arange(len(source)) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def only(self, rows: np.ndarray) -> TestSplit:
        """Its images at these places, int64 [n]."""
        return TestSplit(self._source, self._size, self._check, self._rows[rows])

    @property
    def shape(self) -> tuple[int, ...]:
        """[M, channels, size, size]."""
        return (len(self), *self[:1].shape[1:])

    def __getitem__(self, part: slice) -> torch.Tensor:
        """uint8 [n, channels, size, size] of a slice."""
        import torch

        read = self._source.read(self._rows[part])
        self._check(read)
        return shrink(torch.from_numpy(read), self._size)


def prepare(source: ImageSource) -> None:
    """Called before a split is read whole: photographs are decoded once, on all cores. Raises UserError."""
    if isinstance(source, FileSource):
        source.prepare()


def shrink(images: torch.Tensor, size: int) -> torch.Tensor:
    """uint8 [n, c, s, s] -> uint8 [n, c, size, size], the same everywhere.

    Where s is a multiple of `size`: rounded block means, in whole numbers. Else Pillow's bilinear filter, which
    averages where it shrinks.
    """
    import torch

    side = images.shape[-1]
    if side == size:
        return images
    if side % size:
        return _resized(images, size)
    factor = side // size
    total = torch.full((*images.shape[:2], size, size), factor * factor // 2, dtype=torch.int32)
    for row in range(factor):
        for column in range(factor):
            total += images[:, :, row::factor, column::factor]
    return (total // (factor * factor)).to(torch.uint8)


def _resized(images: torch.Tensor, size: int) -> torch.Tensor:
    import torch
    from PIL import Image

    n, channels = images.shape[:2]
    small = np.empty((n * channels, size, size), np.uint8)
    for place, plane in zip(small, images.flatten(0, 1).numpy(), strict=True):
        place[:] = np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BILINEAR))
    return torch.from_numpy(small.reshape(n, channels, size, size))


@dataclass(frozen=True)
class Data:
    """A data set opened under a cache folder."""

    spec: Spec
    root: Path
    opened: list[str] = field(default_factory=list, compare=False, repr=False)  # "test", each time its images are read

    @cached_property
    def dataset(self) -> Dataset:
        """What the plugin's `load` returned, checked."""
        with files_opened() as files, self._ending_nothing():
            dataset = self.spec.plugin.module.load(self.root, **self.spec.parameters)
        self.read_from.update(files)
        if not isinstance(dataset, Dataset):
            raise PluginError(f"dataset '{self.spec}': load(...) must return bench.api.Dataset, not {type(dataset)}.")
        if dataset.source_size < dataset.size:
            raise PluginError(
                f"dataset '{self.spec}': source_size must be at least size; they are {dataset.source_size} and "
                f"{dataset.size}."
            )
        check_class_names(dataset, str(self.spec), self.where(dataset))
        return replace(dataset, train=self._noting(dataset.train), test=self._noting(dataset.test))

    @property
    def read_from(self) -> set[str]:
        """The files that the data set's code has opened in this process, code itself left out."""
        return _READ_FROM.setdefault(str(self.spec.plugin.path), set())

    def _noting(self, opened: Callable[[], ImageSource]) -> Callable[[], ImageSource]:
        """The same function; it notes what files it opens."""

        def noting() -> ImageSource:
            with files_opened() as files, self._ending_nothing():
                source = opened()
            self.read_from.update(files)
            return source

        return noting

    @contextmanager
    def _ending_nothing(self) -> Iterator[None]:
        """Code of the data set runs in the block: what would end the program (sys.exit) is an error of the data set."""
        try:
            yield
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            kind = type(error).__name__
            raise PluginError(f"dataset '{self.spec}': its code would end the program ({kind}: {error}).") from error

    def where(self, dataset: Dataset | None = None) -> str:
        """What a message names: the folder that the data set is read from, else the plugin's file."""
        folder = (dataset or self.dataset).folder
        return str(self.spec.plugin.path if folder is None else folder)

    @cached_property
    def train(self) -> TrainSplit:
        """The training split, checked."""
        source, what = self.dataset.train(), f"dataset '{self.spec}', train split"
        check_split(source, self.dataset, what, self.where())
        check_images(source.read(np.array([0])), self.dataset, what, self.where())
        return TrainSplit(source, self.dataset)

    def sealed(self) -> Data:
        """The same data set with its training split opened and no way to the test split: what a context may hold."""
        source, sealed = self.train._source, Data(self.spec, self.root)
        vars(sealed).update(
            train=self.train, dataset=replace(self.dataset, train=lambda: source, test=sealed_test, files=tuple)
        )
        return sealed

    def digests(self) -> dict[str, str]:
        """sha256 of both splits' content and of what else the data set fixes."""
        return {"train": self.dataset.train().digest(), "test": self.dataset.test().digest()}

    def check_test(self, source: ImageSource) -> None:
        """Raise PluginError where the test split breaks a rule."""
        what = f"dataset '{self.spec}', test split"
        check_split(source, self.dataset, what, self.where())
        check_classes(source.labels, self.dataset, what, self.where())

    def test_images(self) -> tuple[torch.Tensor | TestSplit, torch.Tensor]:
        """(images uint8 [M, channels, size, size], labels int64 [M]) of the test split; of files, and of a split that
        is large, images that are read when a slice is asked for. Only bench/stages/evaluate.py calls this (once per
        trial, after the last epoch), bench/artifacts/describe.py (once per data set) and bench/teachers/weights.py
        (once per teacher that is made); bench/stages/curve.py, of which no result comes, calls it too."""
        import torch

        self.opened.append("test")
        source = self.dataset.test()
        self.check_test(source)
        what, labels = f"dataset '{self.spec}', test split", torch.from_numpy(np.array(source.labels, dtype=np.int64))

        def check(images: np.ndarray) -> None:
            check_test_images(images, self.dataset, what, self.where())

        if isinstance(source, FileSource) or len(source) * self.dataset.channels * self.dataset.source_size**2 > WHOLE:
            check(source.read(np.array([0])))
            return TestSplit(source, self.dataset.size, check), labels
        read = source.read(np.arange(len(source.labels)))
        check(read)
        return shrink(torch.from_numpy(read), self.dataset.size), labels


def sealed_test() -> NoReturn:
    """Stands for `Dataset.test` wherever a plugin can reach. Raises PluginError."""
    raise PluginError(
        "A plugin asked for the test split. Only the harness opens it, after the last epoch of a student."
    )
