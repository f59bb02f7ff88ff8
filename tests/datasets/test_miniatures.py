"""The field's data sets, in miniature and in the exact formats, from the command line to the record."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torchvision import transforms
from torchvision.datasets import ImageFolder

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.cli import cli
from bench.photographs import limits
from bench.places import VARIABLE
from bench.plugins.registry import discover
from bench.protocol import definition
from tests.worlds.miniatures import SETS, TEST, TRAIN, write_all
from tests.worlds.published import CLASSES, PUBLISHED

REGISTRY = discover()
LABELS = {(name, of): definition.load(REGISTRY, name).labels(of) for name in PUBLISHED for of in SETS}
HARD = sorted(name for name in PUBLISHED if all(LABELS[name, of] == "hard" for of in SETS))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("miniatures")
    write_all(folder)
    return folder


@pytest.fixture
def here(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, str(data))
    monkeypatch.setenv(limits.VARIABLE, "1GB")
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
    assert ref.train_images == ref.classes * (10 if name == "cifar10" else TRAIN)
    assert ref.train_in_test == 0


@pytest.mark.parametrize("limit", ["1GB", "0"])
def test_the_test_split_is_what_torchvision_evaluates_on_to_the_bit(limit: str, here: Path, monkeypatch) -> None:
    """Grey, CMYK and turned photographs and a PNG named .JPEG are among them."""
    monkeypatch.setenv(limits.VARIABLE, limit)
    pipeline = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.PILToTensor()])
    published = ImageFolder(f"{os.environ[VARIABLE]}/imagenette2/val", pipeline)
    images, labels = Workspace(here / "store", REGISTRY).data("imagenette").test_images()
    assert labels.tolist() == published.targets
    assert torch.equal(images[: len(images)], torch.stack([image for image, _ in published]))


@pytest.mark.trains
@pytest.mark.usefixtures("ray_for_all")
def test_class_labels_of_a_paper_run_from_the_files_to_the_record(here: Path) -> None:
    sets = ("cifar10", "imagenette")
    lines = run(
        here, *option("dataset", (SETS[name] for name in sets)), "--protocol", "dc-bench-v1:scale=0.01",
        "--method", "random", "--ipc", "1", "--replicates", "1", "--student", "convnet:width=4",
    )  # fmt: skip
    assert [(line["status"], line["num_test"], line["default_recipe"]) for line in lines] == [("ok", 20, False)] * 2


@pytest.mark.slow
@pytest.mark.usefixtures("ray_for_all")
def test_every_protocol_of_class_labels_runs_on_every_miniature(here: Path) -> None:
    assert len(HARD) >= 4
    lines = run(
        here, *option("dataset", SETS.values()), *option("protocol", (f"{name}:scale=0.01" for name in HARD)),
        *option("method", ("random", "noise")), "--ipc", "1", "--replicates", "1",
        "--student", "convnet:width=4",
    )  # fmt: skip
    assert {line["status"] for line in lines} == {"ok"}
    assert len(lines) == len(HARD) * len(SETS) * 2
    for line in lines:
        name = line["trial"]["dataset"].partition(":")[0]
        assert line["num_test"] == TEST * (20 if name == "tiny-imagenet" else CLASSES[name])
        assert line["default_recipe"] is False
