"""The wheel holds all that the harness needs, and works in a folder that is no checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.worlds import ROOT
from tests.worlds.wheels import build_wheel, install

PACKAGES = ("bench", "methods", "protocols")
SMALL = "small-hard-v1:scale=0.01"

Program = Callable[..., str]


def shipped_files() -> list[str]:
    """Every file of the three packages but pages for readers of the checkout, relative to the project."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()]
    return sorted(
        path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts and path.suffix != ".md"
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a build leaves files behind."""
    source, wheels = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    return build_wheel(source, wheels)


@pytest.fixture(scope="module")
def condensebench(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Runs the installed command in an empty folder that all tests share, and returns what it prints."""
    site, folder = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("elsewhere")
    install(wheel, site)
    command = [sys.executable, str(site / "bin" / "condensebench")]
    environment = {**os.environ, "PYTHONPATH": str(site), "CONDENSEBENCH_STORE": str(folder / "store")}

    def run(*arguments: str, exit_code: int = 0, program: list[str] = command) -> str:
        done = subprocess.run(
            [*program, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == exit_code, f"{arguments}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout + done.stderr

    where = run("-c", "import bench, methods, protocols; print(bench.__file__)", program=[sys.executable])
    assert where.startswith(str(site))  # not the checkout that the tests stand in
    return run


# What it holds


def test_every_folder_with_code_is_a_package_that_pyproject_lists() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        listed = tomllib.load(file)["tool"]["setuptools"]["packages"]
    folders = {Path(name).parent for name in shipped_files() if name.endswith(".py")}
    assert all((ROOT / folder / "__init__.py").is_file() for folder in folders)
    assert sorted(listed) == sorted(folder.as_posix().replace("/", ".") for folder in folders)


def test_every_file_is_in_the_wheel_and_no_other(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert sorted(names) == shipped_files()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_type_checker_finds_the_types_of(package: str) -> None:
    assert f"{package}/py.typed" in shipped_files()


# What it does


def test_it_lists_and_shows(condensebench: Program) -> None:
    listed = condensebench("list")
    assert all(re.search(rf"\b{name}\b", listed) for name in ("herding", "klt", "glyphs", "small-soft-v1"))
    assert "epochs" in condensebench("show", "small-hard-v1")


def test_it_runs_prints_a_table_and_checks_its_records(condensebench: Program) -> None:
    grid = ("--dataset", "digits", "--protocol", SMALL, "--ipc", "1", "--replicates", "2", "--method", "random")
    assert "2/2 trials" in condensebench("run", *grid, "--jobs", "1", "--results", "mine")
    assert re.search(r"^random .*%?.* 2 ", condensebench("leaderboard", "--results", "mine"), re.MULTILINE)
    assert "error:" not in condensebench("check", "records", "mine")


def test_the_python_of_the_pages_is_the_same_and_runs(condensebench: Program) -> None:
    """Only the protocol is run in miniature."""
    pages = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/commands.md")]
    source, other = [re.findall(r"^```python\n(import bench\n.*?)^```$", page, re.M | re.S)[0] for page in pages]
    assert source == other
    table = condensebench("-c", source.replace("small-hard-v1", SMALL), program=[sys.executable])
    assert "delta_random" in table
    assert "herding" in table


def test_the_protocols_are_those_of_the_lock(condensebench: Program) -> None:
    assert "nothing found" in condensebench("check", "protocols")


def test_it_writes_a_plugin_that_keeps_the_rules(condensebench: Program) -> None:
    assert "wrote fresh.py" in condensebench("new", "method", "fresh")
    assert "of 1 plugin: nothing found" in condensebench("check", "plugins", "fresh", "--plugin", "fresh.py")


def test_claims_says_what_to_type(condensebench: Program) -> None:
    assert "condensebench claims FILE --results DIR" in condensebench("claims", exit_code=2)
