"""The training split as methods see it: sources averaged down to the evaluation resolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional
from torchvision.transforms.functional import pil_to_tensor

from bench.artifacts.describe import describe
from bench.artifacts.duplicates import condensed_facts
from bench.artifacts.opened import Data, TrainSplit, shrink
from bench.artifacts.opened import TestSplit as StreamedSplit
from bench.artifacts.refs import Workspace
from bench.errors import PluginError
from bench.photographs.cache_limits import VARIABLE
from bench.plugins.registry import discover
from bench.sources import ArraySource, FileSource
from bench.training.loop import evaluate
from tests.worlds.plugins import write
from tests.worlds.published_files import drawn, photograph


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_shrinking_takes_the_rounded_mean_of_each_block(factor: int) -> None:
    rng = np.random.default_rng(factor)
    images = rng.integers(0, 256, (3, 2, 4 * factor, 4 * factor), dtype=np.uint8)
    expected = np.zeros((3, 2, 4, 4), np.uint8)
    for place in np.ndindex(*expected.shape):
        n, c, y, x = place
        block = images[n, c, y * factor : (y + 1) * factor, x * factor : (x + 1) * factor].astype(int)
        expected[place] = (block.sum() + factor**2 // 2) // factor**2
    assert np.array_equal(shrink(torch.from_numpy(images), 4).numpy(), expected)


def test_a_block_of_white_stays_white() -> None:
    assert shrink(torch.full((1, 3, 64, 64), 255, dtype=torch.uint8), 32).min() == 255


@pytest.mark.parametrize(("side", "size"), [(256, 224), (40, 32), (9, 8), (7, 5)])
def test_sources_of_any_larger_size_are_resized_as_torchvision_resizes_photographs(side: int, size: int) -> None:
    images = drawn(3, 3, side, side)
    small = shrink(torch.from_numpy(images), size)
    for image, result in zip(images, small, strict=True):
        whole = Image.fromarray(image.transpose(1, 2, 0))
        assert (result == pil_to_tensor(functional.resize(whole, [size, size]))).all()
    assert shrink(torch.from_numpy(drawn(2, 1, side, side)), size).shape == (2, 1, size, size)


# Photographs: two policies, originals, and a test split that is never in memory

OWN = '''
"""Photographs in folders: the train split has sources of 40 pixels, the test split is resized once."""

import os
from pathlib import Path

import numpy as np

from bench.api import Dataset
from bench.sources import FileSource, Policy, joined, list_folder


def load(root: Path, *, source_size: int = 40, exif: bool = False) -> Dataset:
    folder = Path(os.environ["PHOTOGRAPHS"])
    files = {split: [list_folder(folder / split / name) for name in ("owl", "jay")] for split in ("train", "test")}
    policies = {"train": Policy(source_size, source_size, exif=exif), "test": Policy(32, 36, filter="bicubic")}

    def split(name: str) -> FileSource:
        lists = files[name]
        labels = np.repeat(np.arange(2), [len(each) for each in lists])
        return FileSource(joined(lists), labels, policies[name], root / "files")

    return Dataset(
        num_classes=2, channels=3, size=32, source_size=source_size, mirror=True, mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2), train=lambda: split("train"), test=lambda: split("test"), class_names=("owl", "jay"),
        folder=folder, files=lambda: joined(each for lists in files.values() for each in lists),
    )
'''


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for split, count in (("train", 4), ("test", 6)):
        for label, name in enumerate(("owl", "jay")):
            for index in range(count):
                file = tmp_path / "photographs" / split / name / f"{index}.JPEG"
                photograph(file, 60 + 9 * index, 50 + label, seed=100 * label + 10 * index + (split == "test"))
    monkeypatch.setenv("PHOTOGRAPHS", str(tmp_path / "photographs"))
    return Workspace(tmp_path / "store", discover([write(tmp_path / "own.py", OWN)]))


def test_each_split_has_its_own_policy(ws: Workspace) -> None:
    data = ws.data("own")
    first = Image.open(data.dataset.files()[0])
    large = functional.center_crop(functional.resize(first, 40), 40)
    assert (data.train.sources([0])[0] == pil_to_tensor(large)).all()
    assert (data.train.images([0])[0] == pil_to_tensor(functional.resize(large, [32, 32]))).all()
    tested = functional.resize(Image.open(data.dataset.files()[8]), 36, functional.InterpolationMode.BICUBIC)
    assert (data.test_images()[0][:1][0] == pil_to_tensor(functional.center_crop(tested, 32))).all()
    assert describe(ws, "own").train_images == 8


def test_originals_have_the_sizes_of_their_files(ws: Workspace) -> None:
    train = ws.data("own").train
    photos = train.photos([3, 0, 3, 4])
    assert [tuple(each.shape) for each in photos] == [(3, 50, 87), (3, 50, 60), (3, 50, 87), (3, 51, 60)]
    assert all(each.dtype == torch.uint8 for each in photos)
    assert (photos[1] == pil_to_tensor(Image.open(ws.data("own").dataset.files()[0]))).all()
    assert (photos[0] == photos[2]).all()
    photos[0][:] = 0  # a copy
    assert photos[2].any()
    assert train.photos([]) == []


def test_a_set_without_files_gives_its_sources_for_originals(ws: Workspace) -> None:
    images = drawn(5, 3, 40, 40)
    train = TrainSplit(ArraySource(images, np.arange(5) % 2), ws.data("own").dataset)
    assert torch.equal(torch.stack(train.photos([4, 1])), torch.from_numpy(images[[4, 1]]))


def test_sources_smaller_than_the_images_are_refused(ws: Workspace) -> None:
    with pytest.raises(PluginError, match="source_size must be at least size; they are 31 and 32"):
        _ = ws.data("own:source_size=31").train


@pytest.mark.parametrize("limit", ["1GB", "0"])
def test_the_test_split_of_photographs_is_never_in_memory(ws: Workspace, limit: str, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, limit)
    whole = torch.from_numpy(ws.data("own").dataset.test().read(np.arange(12)))
    largest: list[int] = []
    honest = FileSource.read
    monkeypatch.setattr(FileSource, "read", lambda self, each: largest.append(len(each)) or honest(self, each))
    monkeypatch.setattr("bench.artifacts.duplicates.BLOCK_BYTES", 5 * 3 * 32 * 32)
    images, labels = ws.data("own").test_images()
    assert isinstance(images, StreamedSplit)
    assert images.shape == (12, 3, 32, 32)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 2))
    constants = {"mean": (0.5,) * 3, "std": (0.2,) * 3, "batch": 4}
    assert evaluate(network, images, labels, **constants) == evaluate(network, whole, labels, **constants)
    condensed, classes = whole[[2, 7]].numpy(), np.array([0, 1])
    facts = condensed_facts(condensed, classes, images, classes=2, train_in_test=0)
    assert facts == condensed_facts(condensed, classes, whole.numpy(), classes=2, train_in_test=0)
    assert facts["in_test_exact"] == 2
    assert max(largest) == 5
    assert ws.data("own").opened == ["test"]


def test_a_split_is_decoded_once_where_it_is_read_whole(ws: Workspace) -> None:
    data: Data = ws.data("own")
    data.train.images([0, 1])
    assert list(ws.store.root.rglob("*.pixels.npy")) == []
    for _ in data.train.batches(3):
        pass
    assert len(list(ws.store.root.rglob("*.pixels.npy"))) == 1
    assert (data.train.images(np.arange(8)) == ws.data("own").train.images(np.arange(8))).all()
