"""Learning curves: what they end with is the result, and looking at every epoch changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.artifacts.store import read
from bench.plugins.registry import discover
from bench.stages import isolation
from bench.stages.condense import condense
from bench.stages.curve import learning_curve
from bench.stages.encode import encode_labels
from bench.stages.evaluate import evaluate
from bench.stages.teach import teach
from bench.trials.trial import Trial
from tests.worlds.plugins import write

PROTOCOL = """
title = "Five epochs"
source = "A test's own."
labels = "{labels}"
teacher = "small-teacher-v1"
student = "convnet:width=4"
[recipe]
epochs = 5
batch = 5
views = {views}
ema = {ema}
loss = {{ name = "{loss}" }}
"""
KINDS = {
    "hard": {"labels": "hard", "views": 0, "loss": "ce", "ema": 0.0},
    "averaged": {"labels": "hard", "views": 0, "loss": "ce", "ema": 0.9},
    "stored": {"labels": "stored", "views": 2, "loss": "kl", "ema": 0.0},
    "online": {"labels": "online", "views": 0, "loss": "kl", "ema": 0.0},
}


@dataclass
class Trained:
    """A trial, what `evaluate` gives for it, and the arguments of both stages."""

    ws: Workspace
    inputs: tuple[Any, ...]
    result: dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("curves")


@pytest.fixture(params=KINDS)
def trained(request, folder: Path, monkeypatch) -> Trained:
    plugin = write(folder / f"{request.param}.toml", PROTOCOL.format(**KINDS[request.param]))
    ws = Workspace(folder / "store", discover([plugin]))
    dataset = describe(ws, "digits")
    teacher = teach(ws, "small-teacher-v1", dataset)
    labels = KINDS[request.param]["labels"]
    compressor = "none" if labels == "stored" else None
    trial = Trial("digits", request.param, "random", 1, compressor, None, "convnet:width=4", 0)
    condensed = condense(ws, "random", dataset, teacher, 1, 0)
    parts = encode_labels(ws, trial, dataset, (teacher,), condensed, [0]) if compressor else []
    inputs = (trial, dataset, condensed, parts, (teacher,) if labels == "online" else ())
    monkeypatch.setattr(isolation, "_method_code_ran", False)
    return Trained(ws, inputs, evaluate(ws, *inputs))


def test_the_last_value_is_the_result_to_the_bit(trained):
    curve = learning_curve(trained.ws, *trained.inputs)
    assert curve.last == tuple(trained.result[name] for name in ("accuracy", "test_loss", "train_loss"))
    assert len(curve.accuracies) == len(curve.test_losses) == len(curve.train_losses) == 5
    trial = trained.inputs[0].as_dict()
    [kept] = [path for path, inputs in trained.ws.store.kept("losses") if inputs["trial"] == trial]
    assert tuple(read(kept).arrays["losses"]) == curve.train_losses  # the evaluation's own, kept for plots


def test_a_longer_training_has_so_many_times_the_epochs(trained):
    curve = learning_curve(trained.ws, *trained.inputs, 2)
    assert len(curve.accuracies) == 10
    assert curve.train_losses[-1] != trained.result["train_loss"]
