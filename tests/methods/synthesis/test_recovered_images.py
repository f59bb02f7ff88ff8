"""The SRe2L family on embedded data, with the teachers that ship: the images are of their class, and their statistics
come closer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.api import Condensed
from bench.artifacts.describe import describe
from bench.artifacts.refs import Workspace
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.stages.context import HarnessContext
from bench.stages.method_call import build_condensed
from bench.stages.teach import teach
from bench.teachers import loaded
from methods.synthesis import lpld

FAMILY = ("sre2l", "cda", "dwa", "lpld", "gvbsm", "edc")
TENTHS = 10


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("store"), discover())


@pytest.fixture
def recovered(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Condensed, list]]:
    """(dataset, ipc, spec) -> the condensed set, and the matching loss of each tenth of the steps."""
    traces: list[list[float]] = []
    classes_together = lpld.recover_classes

    def traced(*args: Any, trace: list[float], **options: Any) -> torch.Tensor:
        made = classes_together(*args, trace=trace, **options)
        traces.append(trace)
        return made

    monkeypatch.setattr(lpld, "recover_classes", traced)

    def make(dataset: str, ipc: int, method: str) -> tuple[Condensed, list[float]]:
        described = describe(workspace, dataset)
        context = HarnessContext(
            store=workspace.store,
            registry=workspace.registry,
            data=workspace.described(described),
            dataset_digest=described.digest,
            teacher=teach(workspace, "small-teacher-v1", described),
            coordinates=("tests", method),
            scratch=Path(),
            device="cpu",
        )
        spec = parse(workspace.registry, "method", method)
        made = build_condensed(spec, workspace.described(described).train, ipc, context)
        told = made.provenance.get("matching_loss_by_tenth")
        if told is None:
            told = [float(part.mean()) for part in np.array_split(np.sum(traces, axis=0), TENTHS)]
        return made, list(told)

    return make


def top1(workspace: Workspace, dataset: str, made: Condensed) -> float:
    """Share of the images that the shipped teacher takes for their class, worked out without the context."""
    described = describe(workspace, dataset)
    data = workspace.described(described)
    net = loaded.load(teach(workspace, "small-teacher-v1", described), workspace.store, workspace.registry, data)
    mean, std = (torch.tensor(value).view(1, -1, 1, 1) for value in (data.dataset.mean, data.dataset.std))
    with torch.no_grad():
        found = net((made.images.float() / 255 - mean) / std).argmax(dim=1)
    return int((found == made.labels).sum()) / len(found)


def slope(values: list[float]) -> float:
    """Of the regression line, as a share of the mean, from one value to the next."""
    return float(np.polyfit(np.arange(len(values)), values, 1)[0] / np.mean(values))


@pytest.mark.parametrize("method", FAMILY)
def test_digits_are_taken_for_their_class_and_match_better_and_better(method, recovered, workspace):
    made, tenths = recovered("digits", 2, method)
    assert top1(workspace, "digits", made) >= 0.9
    assert len(tenths) == TENTHS
    # CDA's crops become smaller: in the end it matches parts against the statistics of whole images.
    assert slope(tenths[:5] if method == "cda" else tenths) < -0.02


@pytest.mark.slow
@pytest.mark.parametrize("method", FAMILY)
def test_glyphs_of_100_classes_are_taken_for_their_class(method, recovered, workspace):
    made, tenths = recovered("glyphs", 1, f"{method}:backbones=1" if method in ("gvbsm", "edc") else method)
    assert top1(workspace, "glyphs", made) >= 0.9
    assert slope(tenths[:5] if method == "cda" else tenths) < -0.02
