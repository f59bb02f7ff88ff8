"""The data set and the method on the page of photographs run as they are written there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.cli import cli
from bench.places import VARIABLE
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.stages.method_call import build_condensed
from tests.worlds import ROOT
from tests.worlds.fakes import FakeContext

PAGE = (ROOT / "docs" / "photographs.md").read_text(encoding="utf-8")


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The page's plugins, and panoramas: blue beside green beside red, 3 times as wide as high."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "data"))
    monkeypatch.setenv("CONDENSEBENCH_STORE", str(tmp_path / "store"))
    for part, count in (("train", 8), ("test", 2)):
        for label, name in enumerate(("owl", "jay")):
            for index in range(count):
                pixels = np.zeros((60, 180, 3), np.uint8)
                for colour in range(3):
                    pixels[:, 60 * colour : 60 * colour + 60, 2 - colour] = 200 + index
                pixels[:5, 60:120] = 100 * label + 50 * (part == "test")
                file = tmp_path / "data" / "birds" / part / name / f"{index}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(file)
    sources = re.findall(r"`(\w+\.py)`[^`]*?:\n\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in sources] == ["two_policies.py", "whole_crops.py"]
    for name, source in sources:
        (tmp_path / name).write_text(source, encoding="utf-8")
    return [tmp_path / name for name, _ in sources]


class Reddest(torch.nn.Module):
    """A teacher of both classes that is sure of what is red."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        red = images[:, 0].mean(dim=(1, 2)) - images[:, 1:].mean(dim=(1, 2, 3))
        return torch.stack([red, red], dim=1) * torch.tensor([1.0, 1.0]) + torch.stack([red, -red], dim=1)


def test_the_data_set_has_a_policy_for_each_split(plugins: list[Path], tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "store", discover(plugins))
    data = ws.data("two_policies")
    assert data.train.sources([0]).shape == (1, 3, 320, 320)
    assert data.train.images([0]).shape == (1, 3, 224, 224)
    assert data.test_images()[0].shape == (4, 3, 224, 224)
    assert describe(ws, "two_policies").train_in_test == 0


def test_the_methods_crops_come_from_the_whole_photograph(plugins: list[Path], tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "store", discover(plugins))
    train = ws.data("two_policies").train
    owl = train.class_indices(1)
    assert train.images(owl)[:, 0, :, 20:-20].max() == 0  # the middle is green: nothing of the red side is left
    context = FakeContext(train, Reddest())
    spec = parse(ws.registry, "method", "whole_crops:num_crops=8")
    condensed = build_condensed(spec, train, 2, context)
    assert condensed.images.shape == (4, 3, 224, 224)
    assert condensed.labels.tolist() == [0, 0, 1, 1]
    reds = condensed.images[:2, 0].float().mean(dim=(1, 2))
    assert (reds > 100).all()  # class 0 is what is red
    again = build_condensed(spec, train, 2, FakeContext(train, Reddest()))
    assert torch.equal(again.images, condensed.images)


@pytest.mark.trains
def test_the_method_keeps_the_rules_of_methods(plugins: list[Path]) -> None:
    checked = CliRunner().invoke(cli, ["check", "plugins", "whole_crops", "--plugin", str(plugins[1])])
    assert checked.exit_code == 0, checked.output
