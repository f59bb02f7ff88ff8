"""The field's data sets, in miniature and in the exact formats, from the command line to the record."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torchvision import transforms
from torchvision.datasets import ImageFolder

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.cli import cli
from bench.photographs import cache_limits
from bench.places import VARIABLE
from bench.plugins.registry import discover
from bench.protocol import definition
from tests.worlds.miniatures import SETS, TEST, TRAIN, write_all
from tests.worlds.plugins import write
from tests.worlds.published import CLASSES, PUBLISHED

REGISTRY = discover()
WIDEST = '''
"""The widest photographs of each class."""

import numpy as np


def select(train, ipc, ctx):
    widths = [photo.shape[2] for photo in train.photos(np.arange(len(train)))]
    assert sum(len(images) for _, images in train.batches(16)) == len(train)
    members = [train.class_indices(label) for label in range(train.num_classes)]
    return np.array([index for each in members for index in sorted(each, key=lambda index: -widths[index])[:ipc]])
'''
CHEAP = ("cifar10", "cifar100", "tiny-imagenet", "imagenette", "imagenet-100")  # a set of each kind
# What is left out: teachers that have seen forty images in one step give logits beyond float16, and labels are refused.
TOO_SMALL = {("gvbsm-v1", "imagenette")}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("miniatures")
    write_all(folder)
    return folder


@pytest.fixture
def here(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, str(data))
    monkeypatch.setenv(cache_limits.VARIABLE, "1GB")
    monkeypatch.setenv("CONDENSEBENCH_STORE", str(data / "store"))
    return tmp_path


def run(folder: Path, *arguments: str) -> list[dict]:
    """The lines of the records of a run."""
    outcome = CliRunner().invoke(cli, ["run", *arguments, "--results", str(folder / "out"), "--jobs", "2"])
    assert outcome.exit_code == 0, outcome.output + outcome.stderr
    return list(map(json.loads, (folder / "out" / "records.jsonl").read_text().splitlines()))


def option(name: str, values) -> list[str]:
    return [text for value in values for text in (f"--{name}", value)]


@pytest.mark.parametrize("name", SETS)
def test_a_miniature_has_the_classes_and_splits_of_its_kind(name: str, here: Path) -> None:
    ref = describe(Workspace(here / "store", REGISTRY), SETS[name])
    assert ref.classes == (20 if name == "tiny-imagenet" else CLASSES[name])
    assert ref.train_images == ref.classes * TRAIN.get(name, TRAIN["imagenet"])
    assert ref.train_in_test == 0


@pytest.mark.parametrize("limit", ["1GB", "0"])
def test_the_test_split_is_what_torchvision_evaluates_on_to_the_bit(limit: str, here: Path, monkeypatch) -> None:
    """Grey, CMYK and turned photographs and a PNG named .JPEG are among them."""
    monkeypatch.setenv(cache_limits.VARIABLE, limit)
    pipeline = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()])
    published = ImageFolder(f"{os.environ[VARIABLE]}/imagenette2/val", pipeline)
    images, labels = Workspace(here / "store", REGISTRY).data("imagenette").test_images()
    assert labels.tolist() == published.targets
    assert torch.equal(images[: len(images)], torch.stack([image for image, _ in published]))


@pytest.mark.trains
@pytest.mark.usefixtures("ray_for_all")
def test_class_labels_of_a_paper_run_from_the_files_to_the_record(here: Path) -> None:
    """Under a method that looks at originals and at all images, in the process that a run gives it."""
    sets = ("cifar10", "imagenette")
    lines = run(
        here, *option("dataset", (SETS[name] for name in sets)), "--protocol", "dc-bench-v1:scale=0.01",
        "--method", "widest", "--plugin", str(write(here / "widest.py", WIDEST)), "--ipc", "1", "--replicates", "1",
        "--student", "convnet:width=4",
    )  # fmt: skip
    assert [line["error"] for line in lines] == [None, None]
    assert [(line["status"], line["num_test"], line["default_recipe"]) for line in lines] == [("ok", 20, False)] * 2
    kept = [
        np.load(file, mmap_mode="r").shape for file in Path(os.environ["CONDENSEBENCH_STORE"]).rglob("*.pixels.npy")
    ]
    assert (40, 3, 32, 32) in kept
    assert (20, 3, 32, 32) in kept


@pytest.mark.slow
@pytest.mark.usefixtures("ray_for_all")
@pytest.mark.parametrize("protocol", PUBLISHED)
def test_every_protocol_of_the_literature_runs_on_every_kind_of_set(protocol: str, here: Path) -> None:
    """EDC and G-VBSM included, whose ensembles have networks with instance norm. Stored labels are compressed."""
    fixed = definition.load(REGISTRY, protocol)
    names = [name for name in CHEAP if (protocol, name) not in TOO_SMALL]
    lines = run(
        here, *option("dataset", (SETS[name] for name in names)), "--protocol", f"{protocol}:scale=0.01",
        "--method", "random", "--compressor", "quant", "--budget", "30kB", "--ipc", "1", "--replicates", "1",
        "--student", "convnet:width=4",
    )  # fmt: skip
    by_set = {line["trial"]["dataset"].partition(":")[0]: line for line in lines}
    assert by_set.keys() == set(names)
    for name, line in by_set.items():
        assert line["status"] == "ok", line["error"]
        assert line["num_test"] == TEST * (20 if name == "tiny-imagenet" else CLASSES[name])
        assert line["default_recipe"] is False
        assert line["labels"] == fixed.labels(name)
        assert (line["bytes_labels"] is not None) == (line["labels"] == "stored")
        assert len(line["teachers"] or ()) == (0 if line["labels"] == "hard" else len(fixed.teachers(name)))
