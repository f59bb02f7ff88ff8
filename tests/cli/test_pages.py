"""Pages say what is so: commands are understood, files that are named exist, tables are the measured ones."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from bench.cli import cli
from bench.engine import ENGINE_VERSION
from bench.plugins.registry import discover
from bench.records.schema import SCHEMA
from tests.worlds import ROOT
from tests.worlds.plugins import SELECT, write
from tests.worlds.published_sets import publish

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEACHERS = (ROOT / "docs/teachers.md").read_text(encoding="utf-8")  # with recipes to save
OWN_AUTOENCODER = (ROOT / "docs/own-autoencoder.md").read_text(encoding="utf-8")  # its first block is own_d4m.py
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
LONGEST_README = 150  # lines

# Lines that need a network, are the shell's own, or change the checkout or its history.
NOT_RUN = {
    "export CONDENSEBENCH_DATA=~/data",
    "ray get-auth-token --generate",  # tests/driver/test_cluster.py starts such machines
    "ray start --head --port=6379",
    "ray start --address=HEAD:6379",
    "ray stop",
    "python -m pip install pre-commit",
    "pre-commit install",
    "python -m pip wheel --no-deps --wheel-dir dist .",  # tests/cli/test_wheel.py builds it
    "python -m pip install PATH/TO/dist/condensebench-0.2.0-py3-none-any.whl",  # and installs it
    "condensebench compare random sharpest --results results/mine",  # tests/cli/test_tutorial.py runs it
    'git tag --annotate v0.2.0 --message "CondenseBench 0.2.0"',
}
# Folders and files that a page has the reader make, and what they look like: committed ones.
MADE_BEFORE = {
    "results/mine": "results/default-plan",
    "results/new": "results/default-plan",
    "results/cifar10": "results/default-plan",
    "results/released": "results/default-plan",
    "plan.toml": "results/default-plan.toml",
}


def lines_of_code(page: Path) -> list[str]:
    """The lines of the page's indented blocks and of its blocks for a shell."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    shell = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    fenced = [part for block in shell for line in block.splitlines() for part in line.split("&&")]
    rest = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    # A block stands after an empty line; what is indented after a line of a list only continues it.
    indented = re.findall(r"(?<=\n\n)(?:(?: {4}| {7})\S.*\n)+", rest)
    lines = [*fenced, *(line for block in indented for line in block.splitlines())]
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


def commands() -> list[str]:
    """What follows `condensebench` in a line of code, once each."""
    lines = [line.removeprefix(".venv/bin/") for page in PAGES for line in lines_of_code(page)]
    run = (line for line in lines if line.startswith("condensebench ") and line not in NOT_RUN)
    return list(dict.fromkeys(line.partition(" ")[2] for line in run))


def mentions() -> list[str]:
    """What follows `condensebench` within a sentence, once each; words in capitals stand for something."""
    texts = [text for page in PAGES for text in re.findall(r"`condensebench ([^`]+)`", page.read_text("utf-8"))]
    return [text for text in dict.fromkeys(texts) if not re.search("[A-Z]{2}", text)]


def invoke(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the checkout to whoever reads; what is written stays in it."""
    (tmp_path / "results").mkdir()
    for path in (ROOT / "results").iterdir():
        (tmp_path / "results" / path.name).symlink_to(path)
    for name, like in MADE_BEFORE.items():
        (tmp_path / name).symlink_to(ROOT / like)
    saved = re.findall(r"Save this as `(\w+\.toml)`:\n\n```toml\n(.*?)^```$", TEACHERS, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in saved] == ["mine.toml", "tuned.toml"]
    for name, recipe in saved:
        (tmp_path / name).write_text(recipe, encoding="utf-8")
    (tmp_path / "protocols").symlink_to(ROOT / "protocols")
    method = re.findall(r"^```python\n(.*?)^```$", OWN_AUTOENCODER, re.MULTILINE | re.DOTALL)[0]
    (tmp_path / "own_d4m.py").write_text(method, encoding="utf-8")
    (tmp_path / "autoencoder.safetensors").write_bytes(b"")  # a dry run names it, and does not open it
    publish(tmp_path / "sets")
    shared = tmp_path / "results" / "shared"  # as `accept` leaves it
    shared.mkdir()
    (shared / "accepted-0123456789ab.jsonl").symlink_to(ROOT / "results/default-plan/records.jsonl")
    write(shared / "plugins" / "theirs.py", SELECT)
    monkeypatch.setenv("CONDENSEBENCH_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Tables


def test_the_table_is_the_one_that_was_measured() -> None:
    shown = README.split("<!-- table:")[1].split("-->\n", 1)[1].split("<!-- /table -->")[0].strip()
    assert shown.startswith("### digits")
    assert shown in (ROOT / "results/default-plan/leaderboard.md").read_text(encoding="utf-8")


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= LONGEST_README


def test_the_page_of_protocols_lists_those_that_there_are() -> None:
    table = (ROOT / "docs/protocols.md").read_text(encoding="utf-8").split("\n\n")[2]
    named = "".join(row.split("|")[1] for row in table.splitlines())
    assert sorted(re.findall(r"`([\w-]+-v\d+)`", named)) == sorted(discover().protocol_names())


def test_the_rooms_of_the_design_are_the_floors_of_the_contract_and_the_folders() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    (floors,) = [contract["layers"] for contract in contracts if contract["id"] == "floors"]
    folders = {path.parent.name for path in (ROOT / "bench").glob("*/__init__.py")}
    layers = [name for floor in floors for name in floor.split(" | ") if name in folders]
    design = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `bench/(\w+)/` \|", design, re.MULTILINE) == layers
    assert set(layers) == folders


def test_the_changelog_has_the_numbers_of_the_code() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        package = tomllib.load(file)["project"]["version"]
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (package|evaluation engine|record schema) \| ([\d.]+) \|", text, re.MULTILINE))
    assert rows == {"package": package, "evaluation engine": str(ENGINE_VERSION), "record schema": str(SCHEMA)}
    assert re.search(rf"^## .*\b{re.escape(package)}\b", text, re.MULTILINE)
    assert re.findall(r"^\| (\d+)(?: \(version [\d.]+\))? \|", text, re.MULTILINE) == [
        str(number + 1) for number in range(SCHEMA)
    ]


# Commands


def test_there_is_a_command_for_every_verb() -> None:
    assert {command.split()[0] for command in commands()} == set(cli.list_commands(click.Context(cli)))


@pytest.mark.trains
@pytest.mark.parametrize("command", commands())
def test_every_command_is_understood(command: str, folder: Path) -> None:
    arguments = shlex.split(command)
    if arguments[0] in ("run", "sweep") and "--dry-run" not in arguments:
        arguments.append("--dry-run")
    # These train, or take every plugin or canary (tests/checks, tests/lock); or they would write into the checkout
    # (tests/teachers).
    # A network, or a package of the system's, is not everywhere (tests/datasets).
    if arguments[:2] in (["data", "get"], ["data", "check"], ["data", "decode"]):
        arguments.append("--help")
    whole = arguments in (["check", "plugins"], ["check", "protocols"])
    if arguments[0] in ("verify", "submit", "accept") or whole or "--ship" in arguments:
        arguments.append("--help")
    if "sharpest.py" in arguments:
        invoke(["new", "method", "sharpest"])
    invoke(arguments)


@pytest.mark.parametrize("mention", mentions())
def test_what_a_sentence_names_is_understood(mention: str) -> None:
    invoke([*shlex.split(mention), "--help"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_line_of_code_is_one_that_a_test_knows(page: Path) -> None:
    for line in lines_of_code(page):
        program, *arguments = shlex.split(line)
        if program == "make":
            assert re.search(rf"^{arguments[0]}:", MAKEFILE, re.MULTILINE), line
        elif program.endswith("python") and arguments[:2] == ["-m", "pytest"]:
            assert all((ROOT / path).exists() for path in arguments[2:]), line
        else:
            assert line in NOT_RUN or program in ("condensebench", ".venv/bin/condensebench"), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_target_of_make_that_a_sentence_names_is_there(page: Path) -> None:
    for target in re.findall(r"`make ([\w-]+)`", page.read_text(encoding="utf-8")):
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target


def test_the_reference_is_what_the_program_prints() -> None:
    """Where this fails: make reference"""
    printed = CliRunner().invoke(cli, ["reference"], catch_exceptions=False)
    assert (ROOT / "docs/reference.md").read_text(encoding="utf-8") == printed.stdout


# Files


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_that_is_linked_or_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (page.parent / target).exists(), target
    for name in re.findall(r"`((?:bench|methods|protocols|tests|results|speed|docs)/[\w./-]*)`", text):
        if (
            not re.search("[A-Z]{3}", Path(name).stem)
            and name != "results/local/"
            and not name.startswith("methods/_name")
        ):
            assert (ROOT / name).exists(), name


def test_hooks_run_what_check_style_runs() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    hooks = {tuple(hook["entry"].removeprefix(".venv/bin/").split()[:2]) for hook in repository["hooks"]}
    recipe = MAKEFILE.split("check-style: .venv/ready\n")[1].split("\n\n")[0]
    styles = {tuple(line.strip().removeprefix("$(BIN)/").split()[:2]) for line in recipe.splitlines()}
    assert hooks == styles


def test_the_hosted_workflow_calls_the_script_that_decides() -> None:
    (job,) = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"].values()
    assert job["steps"][-1] == {"run": ".ci/run"}
    assert os.access(ROOT / ".ci/run", os.X_OK)
