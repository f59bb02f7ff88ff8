"""One store of condensed sets for all tests of the website."""

from __future__ import annotations

import pytest

from tests.worlds.kept_sets import Kept, make_kept


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return make_kept(tmp_path_factory.mktemp("store"))
