"""One store for the tests of this room, in which `digits` was opened once."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.plugins.registry import discover
from tests.worlds.submitted import Post


@pytest.fixture(scope="session")
def opened_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from bench.artifacts.describe import describe
    from bench.artifacts.refs import Workspace

    folder = tmp_path_factory.mktemp("store")
    describe(Workspace(folder, discover()), "digits")
    return folder


@pytest.fixture
def post(tmp_path: Path, opened_store: Path, monkeypatch: pytest.MonkeyPatch) -> Post:
    return Post(tmp_path, opened_store, monkeypatch)
