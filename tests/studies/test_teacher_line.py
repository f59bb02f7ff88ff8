"""The reference outside the rules: the teacher's bytes, beside files on disk and networks as they are built."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from click.testing import CliRunner
from safetensors import safe_open

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.cli import cli
from bench.plugins.registry import discover
from bench.stages.teach import teach
from bench.studies.label_sets.quality import teacher_quality
from bench.studies.label_sets.quality_table import labels_report
from bench.studies.label_sets.trial_labels import trial_labels
from bench.studies.storage.storage_table import Setting
from bench.studies.storage.storage_table import teachers as teacher_rows
from bench.studies.storage.teacher_line import fp16_bytes, known_teachers
from bench.teachers import loaded
from bench.trials.budget import reference_bytes


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("store"), discover())


def shipped(ws: Workspace) -> tuple[torch.nn.Module, Path]:
    dataset = describe(ws, "digits")
    ref = teach(ws, "small-teacher-v1", dataset)
    assert ref.shipped
    return loaded.load(ref, ws.store, ws.registry, ws.described(dataset)), ref.path(ws.store)


def test_a_shipped_teacher_takes_two_bytes_a_number(digits: Workspace) -> None:
    model, _ = shipped(digits)
    parameters = sum(p.numel() for p in model.parameters())
    statistics = sum(b.numel() for b in model.buffers() if b.is_floating_point())
    counters = sum(b.numel() for b in model.buffers() if not b.is_floating_point())
    assert parameters > 50_000
    assert fp16_bytes(model) == 2 * (parameters + statistics) + 8 * counters


def test_a_shipped_teacher_takes_what_its_file_holds(digits: Workspace) -> None:
    model, path = shipped(digits)
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    assert fp16_bytes(model) == path.stat().st_size - 8 - header
    with safe_open(path, "np") as file:
        assert fp16_bytes(model) == sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118


def test_several_teachers_are_counted_together(digits: Workspace) -> None:
    model, _ = shipped(digits)
    assert fp16_bytes(model, model) == 2 * fp16_bytes(model)


@pytest.mark.parametrize("classes", [10, 1000])
def test_the_known_networks_take_what_they_take_when_built(classes: int) -> None:
    with torch.device("meta"):
        built = [
            torchvision.models.resnet18(num_classes=classes),
            timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=classes),
        ]
    assert [size for _, size in known_teachers(classes)] == [fp16_bytes(model) for model in built]


def test_the_figures_that_are_quoted_for_imagenet() -> None:
    """23.4 MB: 2.3 kB an image at IPC 10, 470 B at IPC 50; 9.3 MB for Lite0 without its running statistics."""
    at_10, at_50 = (teacher_rows(Setting(ipc=ipc)) for ipc in (10, 50))
    assert at_10[0]["bytes"] == pytest.approx(23.4e6, rel=1e-3)
    assert at_10[0]["per image"] == pytest.approx(2340, rel=1e-2)
    assert at_50[0]["per image"] == pytest.approx(470, rel=1e-2)
    assert at_10[1]["bytes"] == pytest.approx(9.3e6, rel=1e-2)
    assert at_10[0]["true factor"] == pytest.approx(reference_bytes(10_000, 300, 1000) / 23.4e6, rel=1e-3)


def test_the_verb_storage_marks_the_teacher_as_outside_the_rules() -> None:
    text = CliRunner().invoke(cli, ["storage", "--classes", "10"]).output
    assert "outside the rules: needs the teacher and the images at training time" in text
    assert "22.383 MB" in text
    told = json.loads(CliRunner().invoke(cli, ["storage", "--classes", "10", "--format", "json"]).output)
    assert told["teachers"][0]["bytes"] == known_teachers(10)[0][1]


def test_the_verb_labels_has_a_line_for_the_teacher(digits: Workspace) -> None:
    labels = trial_labels(digits, "digits", "small-soft-v1", "random", 1)
    model, _ = shipped(digits)
    options = {"compressors": ["none"], "budgets": [], "set_size": None, "project": None}
    text, code = labels_report(digits.registry, labels, **options, format="text")
    assert code == 0
    assert "teacher in float16" in text
    assert "outside the rules: needs the teacher" in " ".join(text.split())
    told = json.loads(labels_report(digits.registry, labels, **options, format="json")[0])["qualities"][-1]
    assert (told["compressor"], told["status"], told["kl20"]) == ("teacher in float16", "outside", None)
    assert told["bytes"]["shared"] == fp16_bytes(model)
    assert told["ratio"] == pytest.approx(reference_bytes(10, 100, 10) / told["bytes"]["total"])


def test_a_larger_set_shares_the_teacher(digits: Workspace) -> None:
    labels = trial_labels(digits, "digits", "small-soft-v1", "random", 1)
    small, large = (teacher_quality(labels, images) for images in (10, 1000))
    assert small is not None
    assert large is not None
    assert small.bytes == large.bytes
    assert large.ratio == pytest.approx(100 * small.ratio)


def test_labels_of_a_file_have_no_teacher(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", logits=np.ones((2, 3, 4), np.float16))
    answer = CliRunner().invoke(
        cli, ["labels", "--npz", str(tmp_path / "set.npz"), "--compressor", "none", "--store", str(tmp_path)]
    )
    assert answer.exit_code == 0
    assert "teacher" not in answer.output
