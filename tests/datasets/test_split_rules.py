"""A data set that breaks a rule is refused before anything is trained, in a sentence with set, rule and file."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.errors import PluginError
from bench.plugins.registry import discover
from tests.worlds.plugins import write

OWN = '''
"""A set of 30 images of 6 pixels, 3 classes, that breaks a rule."""

import numpy as np

from bench.api import Dataset
from bench.sources import ArraySource


def load(root, *, breaks: str = ""):
    labels = np.arange(30) % 3
    images = np.zeros((30, 1, 6, 8 if breaks == "square" else 6), np.uint8)
    images[:, 0, 0, :3] = np.arange(30)[:, None]
    test = labels + (breaks == "range")
    if breaks == "empty":
        test = np.zeros(30, int)
    names = {"names": ("owl", "jay", "owl"), "count": ("owl", "jay")}.get(breaks, ("owl", "jay", "wren"))
    train = labels - 1 if breaks == "negative" else labels
    return Dataset(
        num_classes=3, channels=3 if breaks == "channels" else 1, size=6, source_size=6, mirror=True, mean=(0.5,),
        std=(0.5,), train=lambda: ArraySource(images, train), test=lambda: ArraySource(images[:, :, ::-1], test),
        class_names=names,
    )
'''
RULES = {
    "range": r"'own:breaks=range', test split: labels must lie in 0\.\.2, and 10 of 30 do not: .* image 2 with label 3",
    "negative": r"'own:breaks=negative', train split: labels must lie in 0\.\.2, and 10 of 30 do not: .* image 0 with",
    "square": "'own:breaks=square', train split: images must be square, uint8, 1x6x6 .*; they are uint8, 1x6x8",
    "channels": "'own:breaks=channels', train split: images must be square, uint8, 3x6x6 .*; they are uint8, 1x6x6",
    "empty": r"'own:breaks=empty', test split: every class must have images, and 2 of 3 have none: .* class 1 \(jay\)",
    "names": "'own:breaks=names': 2 classes are named 'owl'",
    "count": "'own:breaks=count': class_names has 2 names for 3 classes",
}


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "store", discover([write(tmp_path / "own.py", OWN)]))


@pytest.mark.parametrize("broken", RULES)
def test_a_broken_rule_is_told_with_set_rule_and_file(broken: str, ws: Workspace) -> None:
    with pytest.raises(PluginError, match=RULES[broken]) as error:
        describe(ws, f"own:breaks={broken}")
    assert "own.py" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_set_that_keeps_them_is_described(ws: Workspace) -> None:
    assert describe(ws, "own").classes == 3
