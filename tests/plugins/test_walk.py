"""From an empty folder to the leaderboard, as methods/README.md walks it: commands and edits are read from the page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.plugins.registry import ROOT

PAGE = ROOT / "methods" / "README.md"
WALK = PAGE.read_text(encoding="utf-8").split("## From nothing to the leaderboard")[1].split("\n## ")[0]
COMMANDS = [
    shlex.split(line)[1:] for line in re.findall(r"^    (condensebench .*)$", WALK.replace("\\\n", " "), re.MULTILINE)
]


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, and the store in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONDENSEBENCH_STORE", str(tmp_path / "store"))
    return tmp_path


def printed(*arguments: str) -> str:
    """What `condensebench` prints."""
    answer = CliRunner().invoke(cli, list(arguments), catch_exceptions=False)
    assert answer.exit_code == 0, f"{arguments}\n{answer.output}"
    return answer.stdout


@pytest.mark.usefixtures("ray_for_all")
def test_it_leads_to_the_leaderboard(empty: Path) -> None:
    """Only the protocol is run in miniature. tests/cli/test_wheel.py runs the same verbs as programs."""
    assert [" ".join(command[:2]) for command in COMMANDS] == [
        "new method",
        "check plugins",
        "run --plugin",
        "leaderboard --results",
    ]
    edits = re.findall(r"^    -(.*)\n    \+(.*)$", WALK, re.MULTILINE)
    assert len(edits) == 3

    printed(*COMMANDS[0])
    plugin = empty / f"{COMMANDS[0][2]}.py"
    for old, changed in edits:
        source = plugin.read_text()
        assert source.count(f"{old}\n") == 1, old
        plugin.write_text(source.replace(f"{old}\n", f"{changed}\n"))
    assert "of 1 plugin" in printed(*COMMANDS[1])
    small = [word.replace("small-hard-v1", "small-hard-v1:scale=0.01") for word in COMMANDS[2]]
    printed(*small, "--replicates", "1", "--jobs", "1")
    table = printed(*COMMANDS[3])
    assert plugin.stem in table
    assert "random" in table


def test_what_the_program_prints_after_new_is_what_the_page_says_next(empty: Path) -> None:
    following = printed(*COMMANDS[0]).split("Next:\n")[1].strip().splitlines()
    assert [shlex.split(line)[1:] for line in following] == COMMANDS[1:]
