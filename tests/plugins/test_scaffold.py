"""`condensebench new`: what it writes, what it refuses, and what it writes as a package of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.checks.plugins.check_plugins import checks_for, errors
from bench.cli import cli
from bench.errors import UserError
from bench.lock.check_protocols import check_file
from bench.plugins import scaffold as scaffolding
from bench.plugins.registry import ROOT, Registry, discover, read
from bench.plugins.scaffold import DOES, KINDS, PLACES, scaffold
from tests.worlds.wheels import build_wheel, install

MADE = [
    ("method", "select"), ("method", "synthesize"), ("compressor", None), ("dataset", "arrays"), ("dataset", "files"),
]  # fmt: skip


def program(*arguments: str, folder: Path, **environment: str) -> str:
    """What `condensebench` prints, run as a program in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=folder,
        env={**os.environ, "CONDENSEBENCH_STORE": str(folder / "store"), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


def new(*arguments: str):
    return CliRunner().invoke(cli, ["new", *arguments])


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# What is written


@pytest.mark.trains
@pytest.mark.parametrize(("kind", "does"), MADE)
def test_what_is_written_keeps_every_rule(kind, does, empty):
    scaffold(kind, "fresh", does=does, folder=Path()).write()
    for rule, check in checks_for(empty / "fresh.py"):
        assert not errors(check()), rule


def test_a_protocol_is_written_with_every_value_and_a_test_that_passes(empty):
    made = scaffold("protocol", "fresh-v1", folder=Path())
    made.write()
    assert {finding.rule for finding in check_file(empty / "fresh-v1.toml", discover())} == {"unofficial"}
    names: dict = {"__file__": str(empty / "test_fresh_v1.py")}
    exec(made.files[Path("test_fresh_v1.py")], names)
    tests = [function for name, function in names.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


@pytest.mark.trains
def test_the_test_of_a_plugin_finds_what_was_broken(empty):
    scaffold("method", "fresh", folder=Path()).write()
    source = Path("fresh.py").read_text()
    Path("fresh.py").write_text(source.replace("order[:ipc]", "order[: ipc - 1]"))
    names: dict = {"__file__": str(empty / "test_fresh.py")}
    exec(Path("test_fresh.py").read_text(), names)
    test = names["test_fresh_keeps_the_rule"]
    (mark,) = test.pytestmark
    rules = dict(mark.args[1])
    test("is-described", rules["is-described"])
    with pytest.raises(AssertionError):
        test("exact-images-per-class", rules["exact-images-per-class"])


@pytest.mark.parametrize("kind", KINDS)
def test_in_tree_the_files_go_to_their_folders_as_the_linter_likes_them(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(scaffolding, "ROOT", tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / "bench").symlink_to(ROOT / "bench")  # the linter sorts imports by what lies beside
    for place in PLACES.values():
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
    for does in DOES.get(kind, (None,)):
        name = "fresh-v1" if kind == "protocol" else f"fresh_{does or kind}"
        made = scaffold(kind, name, does=does)
        made.write()
        plugin, test = made.files
        assert plugin.parent == tmp_path / PLACES[does if does in PLACES else kind]
        assert test.parent == tmp_path / "tests"
        assert not any("--plugin" in command for command in made.commands)
    for command in (["check", "--quiet"], ["format", "--check", "--quiet"]):
        done = subprocess.run(
            ["ruff", *command, "methods", "protocols", "tests"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=ruff_path(),
        )
        assert done.returncode == 0, done.stdout


def ruff_path() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_a_name_may_have_hyphens_which_the_file_has_not(empty):
    for kind, does in MADE:
        name = f"fresh-{does or kind}"
        files = list(scaffold(kind, name, does=does, folder=Path()).files.items())
        (plugin, source), (test, check) = files
        assert (plugin.name, test.name) == (f"fresh_{does or kind}.py", f"test_fresh_{does or kind}.py")
        plugin.write_text(source)
        assert read(plugin, kind=kind, module_name=None).name == name
        compile(check, test.name, "exec")


def test_a_test_in_tree_asks_for_the_plugin_by_name():
    made = scaffold("compressor", "fresh")
    assert 'checks_for(discover().get("compressor", "fresh"))' in made.files[ROOT / "tests" / "test_fresh.py"]
    assert not any(path.exists() for path in made.files)  # nothing is written until asked for


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["method", "My-Method"], "'My-Method' cannot be the name of a method"),
        (["method", "_hidden"], "small letters, digits and _, a letter first"),
        (["method", "class"], "no word of Python's own"),
        (["compressor", "zlib"], "'zlib' is a module of Python"),
        (["dataset", "torch"], "'torch' is a module of Python or of a package"),
        (["method", "methods"], "which methods.py would hide"),
        (["method", "herding"], "There is a method 'herding' already: condensebench show herding"),
        (["dataset", "digits"], "There is a data set 'digits' already"),
        (["protocol", "mine"], "cannot be the id of a protocol"),
        (["protocol", "small-hard-v1"], "There is a protocol 'small-hard-v1' already"),
        (["protocol", "mine-v1", "--kind", "select"], "--kind select is for methods"),
        (["dataset", "mine", "--kind", "select"], "type arrays or files for a data set"),
        (["dataset", "tiny_imagenet"], "There is a data set 'tiny-imagenet' already, which 'tiny_imagenet' would be"),
        (["method", "../up"], "cannot be the name"),
    ],
)
def test_names_that_cannot_be_are_refused_and_nothing_is_written(arguments, message, empty):
    outcome = new(*arguments)
    assert isinstance(outcome.exception, UserError)
    assert message in str(outcome.exception)
    assert list(empty.iterdir()) == []


def test_nothing_is_overwritten_not_even_half(empty):
    (empty / "test_fresh.py").write_text("mine")
    outcome = new("method", "fresh")
    assert isinstance(outcome.exception, UserError)
    assert "test_fresh.py is there already" in str(outcome.exception)
    assert (empty / "test_fresh.py").read_text() == "mine"
    assert not (empty / "fresh.py").exists()


def test_a_kind_that_there_is_not_is_refused():
    assert new("student", "fresh").exit_code == 2


# As a package of its own


@pytest.mark.trains
def test_a_wheel_with_an_entry_point_is_found_listed_and_checked(tmp_path):
    package = tmp_path / "source" / "their_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for (kind, does), name in zip(MADE[1:4], ("blend", "squeeze", "bars"), strict=True):
        (package / f"{name}.py").write_text(next(iter(scaffold(kind, name, does=does, folder=Path()).files.values())))
    (tmp_path / "source" / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "their-package"\nversion = "1.0"\n'
        '[project.entry-points."condensebench.methods"]\nblend = "their_package.blend"\n'
        '[project.entry-points."condensebench.compressors"]\nsqueeze = "their_package.squeeze"\n'
        '[project.entry-points."condensebench.datasets"]\nbars = "their_package.bars"\n'
        '[tool.setuptools]\npackages = ["their_package"]\n'
    )
    site = tmp_path / "site"
    install(build_wheel(tmp_path / "source", tmp_path), site)

    listed = program("list", folder=tmp_path, PYTHONPATH=str(site))
    for name in ("blend", "squeeze", "bars"):
        assert re.search(rf"\b{name}\b", listed)
    shown = program("show", "blend", folder=tmp_path, PYTHONPATH=str(site))
    assert "together" in shown
    assert str(site) in shown.replace("\n", "")
    checked = program("check", "plugins", "blend", "squeeze", "bars", folder=tmp_path, PYTHONPATH=str(site))
    assert "of 3 plugins" in checked


def test_a_scaffold_is_read_as_any_plugin(empty):
    for kind, does in MADE:
        made = scaffold(kind, f"fresh_{does or kind}", does=does, folder=Path())
        made.write()
        plugin = read(next(iter(made.files)).resolve(), kind=None, module_name=None)
        assert (plugin.kind, plugin.name) == (kind, f"fresh_{does or kind}")
        assert plugin.parameters
        Registry([plugin])
