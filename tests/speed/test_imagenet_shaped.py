"""The data set of ImageNet's shape: what its files are, and that the harness reads them."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from bench.artifacts.opened import Data
from bench.places import VARIABLE
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.protocol import definition
from bench.trials.plan import read_plan
from speed import _imagenet_shaped as shaped
from speed._peaks import peaks
from tests.worlds import ROOT


def test_files_are_of_the_kinds_that_real_folders_hold(tmp_path: Path) -> None:
    assert shaped.write(tmp_path, classes=9) == 108
    files = sorted((tmp_path / shaped.NAME).rglob("*.JPEG"))
    assert Counter(file.parents[1].name for file in files) == {"train": 90, "val": 18}
    seen: Counter[str] = Counter()
    for file in files:
        with Image.open(file) as image:
            turned = image.getexif().get(shaped.ORIENTATION, 1) != 1
            seen[image.format if image.format != "JPEG" else "EXIF" if turned else image.mode] += 1
            assert all(shaped.LEAST <= side <= shaped.MOST for side in image.size)
    assert set(seen) == {"RGB", "L", "CMYK", "EXIF", "PNG"}
    assert len({file.read_bytes() for file in files}) == 108  # no two are alike
    assert shaped.write(tmp_path / "again", classes=9) == 108
    assert (tmp_path / "again" / shaped.NAME / files[5].relative_to(tmp_path / shaped.NAME)).read_bytes() == (
        files[5].read_bytes()
    )


def test_a_thousand_classes_are_a_thousand_and_awkward_files_are_rare() -> None:
    kinds = Counter(shaped.kind(number) for number in range(12_000))
    assert {name: count for name, count in kinds.items() if name} == {"grey": 240, "cmyk": 120, "exif": 120, "png": 120}
    assert len({shaped.look(label, photographs=7) for label in range(1000)}) == 1000


def test_the_harness_reads_them(tmp_path: Path, monkeypatch) -> None:
    shaped.write(tmp_path, classes=3)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    data = Data(parse(discover([]), "dataset", f"imagefolder:of={shaped.NAME}"), tmp_path / "cache")
    assert (data.dataset.num_classes, len(data.train)) == (3, 30)
    assert data.train.images(np.array([0, 13, 29])).shape == (3, 3, 224, 224)


def test_the_plan_names_what_is_there_and_covers_what_it_says() -> None:
    registry, grids = discover([]), read_plan(ROOT / "results/imagenet-shaped.toml").grids
    protocols = {definition.load(registry, name).name for grid in grids for name in grid.protocols}
    assert {name.partition(":")[0] for name in protocols} == {"standard-soft-v1", "rded-v1", "edc-v1", "score-v1"}
    methods = {parse(registry, "method", name).plugin.name for grid in grids for name in grid.methods}
    assert methods == {"random", "score", "rded", "pca", "el2n", "sre2l"}
    compressors = {parse(registry, "compressor", name).plugin.name for grid in grids for name in grid.compressors}
    assert compressors - {"none"} == {"rpca", "svd", "klt", "pq"}
    assert {budget for grid in grids for budget in grid.budgets} == {"30x", "100x"}
    assert {ipc for grid in grids for ipc in grid.ipcs} == {1, 10}
    assert {grid.datasets[0] for grid in grids} == {f"imagefolder:of={shaped.NAME}"}


def test_peaks_of_a_command_and_of_what_it_starts_are_seen() -> None:
    child = "import time; held = bytearray(80 << 20); time.sleep(3)"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}]); sys.exit(3)"
    code, seen = peaks([sys.executable, "-c", script])
    assert code == 3
    assert len(seen) == 2
    assert max(each.peak for each in seen.values()) > 80 << 20
    assert max(each.anonymous for each in seen.values()) > 80 << 20  # what it holds is its own, ...
    assert all(0 < each.files < 80 << 20 for each in seen.values())  # ... unlike the libraries
