"""A listed file takes the bytes that docs/real-size.md counts, in every structure that grows with a split."""

from __future__ import annotations

import gc
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.confinement import wire
from bench.photographs import manifest, paths
from bench.plugins.registry import discover
from bench.stages.lend import _lendable
from bench.studies.stored.real_size import KEPT, LISTED, NAMED

CLASSES = 4


def linked(folder: Path, count: int) -> Path:
    """A tree of `count` training files and a test file for each class, all links to one, named as ImageNet's are."""
    folder.mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "pixels.png")
    for split, files in (("train", count), ("val", CLASSES)):
        for label in range(CLASSES):
            (folder / split / f"n{label:08}").mkdir(parents=True)
        for index in range(files):
            label = index % CLASSES
            os.link(folder / "pixels.png", folder / split / f"n{label:08}" / f"n{label:08}_{index}.JPEG")
    return folder


def taken(folder: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """(bytes that stay while a set of so many files is open, the most at once): it is described, opened and sent."""
    linked(folder / "data" / "links", count)
    monkeypatch.setenv("CONDENSEBENCH_DATA", str(folder / "data"))
    ws = Workspace(folder / "store", discover())
    assert ws.packages  # known once a process
    tracemalloc.start()
    try:
        dataset = describe(ws, "imagefolder:of=links,size=8,resize=8")
        data = ws.described(dataset)
        assert len(data.train) == count == data.train._source.pixel_cache.shape[0]
        gc.collect()
        stays, _ = tracemalloc.get_traced_memory()
        assert wire.to_plugin(_lendable(ws.store, dataset, data))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return stays, most


def test_a_listed_file_takes_what_is_counted_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At two sizes: what does not grow with a split falls out."""
    monkeypatch.setattr(manifest, "PART", 200)  # files that are hashed at once, each with a task of its own
    monkeypatch.setattr(paths, "PIECE", 200)
    _, small, large = (taken(tmp_path / str(count), count, monkeypatch) for count in (8, 1000, 4000))  # modules first
    stays, most = ((after - before) / 3000 for before, after in zip(small, large, strict=True))
    assert NAMED < stays <= KEPT, f"{stays:.0f} bytes a file stay, {KEPT} are counted"
    assert stays < most <= LISTED, f"{most:.0f} bytes a file stand at once, {LISTED} are counted"
