"""Submissions that several files judge: each is run once."""

from __future__ import annotations

import pytest

from bench.records.files import Record
from tests.worlds.submissions import HARD, SOFT, Arena, Cheater, make_arena


@pytest.fixture(scope="session")
def arena(tmp_path_factory) -> Arena:
    return make_arena(tmp_path_factory.mktemp("arena"))


@pytest.fixture(scope="session")
def honest(arena: Arena) -> list[Record]:
    """Two methods, three replicates, labels as they are and within a budget; the last record is herding's."""
    found = arena.run("honest", protocols=[SOFT], compressors=["none", "svd"], budgets=["1200B"])
    return sorted(found, key=lambda r: (r.trial["method"] == "herding", r.trial["budget"] or "", r.trial["replicate"]))


@pytest.fixture(scope="session")
def hard(arena: Arena) -> list[Record]:
    """Ten replicates of herding and three of random, with class labels."""
    arena.run("hard", protocols=[HARD], methods=["random"])
    return arena.run("hard", protocols=[HARD], methods=["herding"], replicates=10)


@pytest.fixture
def cheater(arena: Arena, monkeypatch) -> Cheater:
    return Cheater(arena, monkeypatch)
