"""A verb is a file of bench/cli: it is found without a list, read without an import, and told in whole sentences."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import GROUPS, Verbs, cli, read_verb
from tests.worlds import ROOT

FOLDER = ROOT / "bench" / "cli"
NAMES = {
    "accept", "check", "claims", "compare", "cost", "data", "labels", "leaderboard", "list", "lock", "merge", "new",
    "picture", "plot", "probe", "published", "report", "run", "show", "storage", "store", "submit", "sweep",
    "teacher", "verify",
}  # fmt: skip
HELLO = '''"""The verb `hello`: greets."""

import click

from bench.cli.options import JSON

GROUP = "extend"


@click.command()
@click.argument("name")
@JSON
def command(name: str, as_json: bool) -> int:
    """Greet somebody by name, as politely as a verb can that was written for this test alone, and end with code 1.

    More is not said.
    """
    print(f"Hello {name}{'!' if as_json else '.'}")
    return 1
'''


def help_text(*verbs: str, width: int = 110) -> str:
    answer = CliRunner().invoke(cli, [*verbs, "--help"], env={"COLUMNS": str(width)})
    assert answer.exit_code == 0
    return answer.stdout


def sections(text: str) -> dict[str, str]:
    """Title -> what stands below it, on one line; of the groups alone."""
    parts = re.split(r"^(\S.*):\n", text, flags=re.MULTILINE)
    return {title: " ".join(body.split()) for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def test_every_verb_has_a_file_and_a_group() -> None:
    assert isinstance(cli, Verbs)
    verbs = {verb.name: verb for verb in cli.verbs()}
    assert verbs.keys() == NAMES
    assert {verb.group for verb in verbs.values()} == GROUPS.keys()
    helpers = {file.stem for file in FOLDER.glob("*.py")} - NAMES
    assert all(read_verb(FOLDER / f"{name}.py") is None for name in helpers)


def test_what_is_no_verb_is_no_command() -> None:
    for name in ("options", "progress", "__init__", "../plugins/registry", "nowhere"):
        answer = CliRunner().invoke(cli, [name])
        assert answer.exit_code == 2
        assert f"No such command '{name}'" in answer.stderr


def test_a_mistyped_verb_is_answered_with_the_nearest() -> None:
    assert "No such command 'rnu'. Did you mean 'run'?" in CliRunner().invoke(cli, ["rnu"]).stderr


@pytest.mark.parametrize("width", [80, 110])
def test_the_help_groups_the_verbs_by_what_one_wants_to_do(width: int) -> None:
    text = help_text(width=width)
    told = sections(text)
    assert [title for title in told if title in GROUPS.values()] == list(GROUPS.values())
    for verb in cli.verbs():
        assert f"{verb.name} {verb.summary}" in told[GROUPS[verb.group]]
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("width", [80, 110])
@pytest.mark.parametrize("group", [(), ("check",)], ids=["condensebench", "check"])
def test_no_sentence_of_the_help_is_cut(group: tuple[str, ...], width: int) -> None:
    assert "..." not in help_text(*group, width=width).partition("Options:")[2]


def test_every_summary_is_a_sentence() -> None:
    for verb in cli.verbs():
        assert re.fullmatch(r"[A-Z].*\.", verb.summary), verb


def test_the_group_check_tells_its_three_in_full() -> None:
    told = sections(help_text("check", width=80))["Commands"]
    for name in ("plugins", "protocols", "records"):
        summary = " ".join(help_text("check", name).split("\n\n")[1].split())
        assert f"{name} {summary}" in told


def test_a_new_verb_is_one_new_file(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bench", tmp_path / "bench", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "bench" / "cli" / "hello.py").write_text(HELLO)

    def condensebench(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "bench", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "110"},
            capture_output=True,
            text=True,
        )

    answer = condensebench("hello", "Ada", "--json")
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, "Hello Ada!\n", "")
    told = sections(condensebench("--help").stdout)["Extend"]
    assert "hello Greet somebody by name" in told
    assert "written for this test alone, and end with code 1." in told
    assert "More is not said." in condensebench("hello", "--help").stdout
    assert condensebench("hello").returncode == 2
