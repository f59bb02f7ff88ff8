"""A store with digits, and the weights of the teacher that ships for them."""

from __future__ import annotations

import pytest
import torch

from bench.artifacts.describe import describe
from bench.artifacts.refs import DatasetRef, Workspace
from bench.plugins.registry import discover
from bench.stages.teach import teach
from bench.teachers import loaded

SHIPPED = "small-teacher-v1"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, DatasetRef]:
    ws = Workspace(tmp_path_factory.mktemp("store"), discover())
    return ws, describe(ws, "digits")


@pytest.fixture(scope="module")
def state(digits: tuple[Workspace, DatasetRef]) -> dict[str, torch.Tensor]:
    """The weights of the teacher that ships, in single precision."""
    ws, dataset = digits
    shipped = teach(ws, SHIPPED, dataset)
    return loaded.load(shipped, ws.store, ws.registry, ws.described(dataset)).state_dict()
