"""The command that makes a row again names whatever this installation lacks."""

from __future__ import annotations

import itertools
import shlex

import pytest

from bench.plugins.registry import discover
from bench.reports.leaderboard.entries import entries_of
from bench.website.reproduction import run_again
from tests.worlds.records import cell


@pytest.mark.parametrize(
    ("names", "files"),
    [
        ({"method": "herding", "protocol": "small-hard-v1"}, []),
        ({"method": "herding", "protocol": "small-hard-v1:recipe.batch=20"}, []),
        ({"method": "mine:size=2", "protocol": "small-hard-v1"}, ["mine.py"]),
        ({"method": "mine", "protocol": "mine-v1"}, ["mine.py", "mine-v1.toml"]),
    ],
)
def test_own_plugins_and_protocols_are_given_as_files(names: dict[str, str], files: list[str]) -> None:
    (entry,) = entries_of(cell(0.5, 2, dataset="digits", compressor=None, **names))
    words = shlex.split(run_again(entry, discover()))
    assert words[:2] == ["condensebench", "run"]
    assert [after for word, after in itertools.pairwise(words) if word == "--plugin"] == files
    assert words[words.index("--protocol") + 1] == names["protocol"]
    assert words[words.index("--replicates") + 1] == "2"
