"""The README says what is so: its table is the measured one, its commands are understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli
from tests.worlds import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    joined = README.replace("\\\n", " ")
    lines = re.findall(r"^    \.venv/bin/condensebench (.*)$", joined, flags=re.MULTILINE)
    return [shlex.split(line) for line in lines]


def test_the_table_is_the_one_that_was_measured() -> None:
    shown = README.split("<!-- table:")[1].split("-->\n", 1)[1].split("<!-- /table -->")[0].strip()
    assert shown.startswith("### glyphs")
    assert shown in (ROOT / "results/default-plan/leaderboard.md").read_text(encoding="utf-8")


def test_there_are_commands_to_check() -> None:
    assert {"list", "show", "run", "leaderboard", "compare", "check", "lock", "verify", "storage"} <= {
        command[0] for command in commands()
    }


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_is_understood(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What writes, writes elsewhere; what reads finds the committed results. `verify` trains:
    # tests/checks/test_verify.py does.
    monkeypatch.chdir(tmp_path if command[0] in ("run", "picture") else ROOT)
    extra = {"run": ["--dry-run"], "verify": ["--help"], "plot": ["--out", str(tmp_path / "a.png")]}.get(command[0], [])
    if command[0] == "leaderboard":
        extra = ["--results", "results/default-plan"]
    result = CliRunner().invoke(cli, [*command, *extra], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_every_file_that_is_linked_exists() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
