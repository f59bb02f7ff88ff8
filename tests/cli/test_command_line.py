"""The command line as a user meets it: what it prints, and how it answers a mistake."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.__main__ import main
from bench.cli import cli
from bench.records import files
from tests.worlds import ROOT
from tests.worlds.plugins import SELECT, write
from tests.worlds.records import cell

HARD = ["--dataset", "digits", "--protocol", "small-hard-v1", "--method", "random"]
SOFT = ["--dataset", "digits", "--protocol", "small-soft-v1", "--method", "random"]


class Answer:
    """Exit code and output of one command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


class Shell:
    """Runs `condensebench` in this process, through the same entry as the command."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str) -> Answer:
        self._monkeypatch.setattr(sys, "argv", ["condensebench", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = self._capsys.readouterr()
        return Answer(int(ended.value.code or 0), captured.out, captured.err)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    monkeypatch.chdir(tmp_path)  # no results and no store of this checkout
    monkeypatch.setenv("COLUMNS", "200")
    return Shell(monkeypatch, capsys)


def test_an_interrupted_verb_ends_with_a_code_of_its_own(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.plugins.registry.discover", interrupted)
    answer = shell("check", "protocols")
    assert (answer.code, answer.err.strip()) == (130, "Interrupted.")


# --- list and show ---------------------------------------------------------------------------------------------------


def test_list_tells_what_there_is(shell: Shell) -> None:
    answer = shell("list")
    assert answer.code == 0
    for heading in ("methods", "compressors", "datasets", "protocols", "students"):
        assert re.search(rf"^{heading}$", answer.out, re.MULTILINE)
    assert re.search(r"^  random +Images drawn uniformly", answer.out, re.MULTILINE)
    assert "condensebench show NAME tells more." in answer.out


def test_list_as_json_has_stable_keys(shell: Shell) -> None:
    found = json.loads(shell("list", "--json").out)
    assert list(found) == ["methods", "compressors", "datasets", "protocols", "students"]
    assert all(set(entry) == {"name", "description", "parameters"} for entry in found["methods"])
    assert all(set(entry) == {"name", "description", "labels", "released"} for entry in found["protocols"])
    assert list(json.loads(shell("list", "students", "--json").out)) == ["students"]


def test_show_tells_parameters_source_and_file(shell: Shell) -> None:
    answer = shell("show", "el2n")
    assert answer.code == 0
    assert answer.out.startswith("el2n (method): ")
    assert "file: methods/selection/el2n.py" in answer.out
    found = json.loads(shell("show", "el2n", "--json").out)
    assert found["parameters"]["epochs"] == 10
    told = {"name", "kind", "description", "parameters", "source", "deviations", "published", "file", "digest"}
    assert set(found) == told


def test_show_of_a_protocol_tells_every_fixed_value(shell: Shell) -> None:
    recipe = json.loads(shell("show", "small-soft-v1", "--json").out)["recipe"]
    assert {"epochs", "batch", "views", "optimizer", "schedule", "loss", "augment", "ema"} <= set(recipe)
    assert {"lr", "weight_decay", "betas", "momentum", "nesterov", "decay"} <= set(recipe["optimizer"])


def test_show_of_a_name_of_two_kinds_tells_both(shell: Shell) -> None:
    answer = shell("show", "lpld")
    assert "lpld (method): " in answer.out
    assert "lpld (compressor): " in answer.out


def test_a_plugin_file_is_listed_and_shown(shell: Shell, tmp_path: Path) -> None:
    path = str(write(tmp_path / "mine.py", SELECT))
    assert "  mine " in shell("list", "methods", "--plugin", path).out
    answer = shell("show", "mine", "--plugin", path)
    assert "mine (method): The first images of each class." in answer.out
    assert "offset: 0" in answer.out


def test_the_click_group_works_without_the_entry_point_too() -> None:
    answer = CliRunner().invoke(cli, ["list", "datasets"])
    assert answer.exit_code == 0
    assert "digits" in answer.output


# --- run --dry-run ---------------------------------------------------------------------------------------------------


@pytest.mark.trains
def test_a_dry_run_counts_trials_and_writes_nothing(shell: Shell, tmp_path: Path) -> None:
    answer = shell("run", *HARD, "--method", "herding", "--ipc", "1", "--ipc", "10", "--dry-run", "--results", "mine")
    assert answer.code == 0
    assert "12 trials: 0 done, 12 missing, 0 failed, 0 stale; 12 to run." in answer.err
    assert "by the project's own records of another machine" in answer.err
    assert not (tmp_path / "mine").exists()


@pytest.mark.trains
def test_a_limit_and_a_plan_and_replicates(shell: Shell, tmp_path: Path) -> None:
    plan = '[[grid]]\ndatasets = ["digits"]\nprotocols = ["small-hard-v1"]\nmethods = ["random"]\nipcs = [1, 5]\n'
    path = str(write(tmp_path / "plan.toml", plan))
    answer = shell("run", "--plan", path, "--dry-run", "--limit", "4", "--replicates", "4")
    assert "8 trials: 0 done, 8 missing, 0 failed, 0 stale; 4 to run." in answer.err


@pytest.mark.trains
def test_budgets_and_compressors_in_a_dry_run(shell: Shell) -> None:
    options = [
        "--compressor",
        "svd",
        "--compressor",
        "none",
        "--budget",
        "10x",
        "--budget",
        "20kB",
        "--replicates",
        "1",
    ]
    assert "3 trials: " in shell("run", *SOFT, *options, "--dry-run").err


# --- leaderboard -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["text", "md", "csv", "latex", "json"])
def test_the_leaderboard_of_a_folder(shell: Shell, tmp_path: Path, format_: str) -> None:
    for each in [*cell(0.5), *cell(0.6, method="herding", seed=1)]:
        files.append(tmp_path / "mine" / "records.jsonl", each)
    answer = shell("leaderboard", "--results", "mine", "--format", format_)
    assert answer.code == 0
    assert "herding" in answer.out
    if format_ == "json":
        assert {row["method"]: row["n"] for row in json.loads(answer.out)} == {"random": 3, "herding": 3}


# --- mistakes --------------------------------------------------------------------------------------------------------

MISTAKES = {
    "an unknown verb": (["rnu"], "No such command 'rnu'"),
    "an unknown option": (["run", "--datset", "digits"], "--datset"),
    "an unknown kind": (["list", "method"], "'method' is not one of"),
    "an unknown name": (["show", "hherding"], "Did you mean 'herding'"),
    "an unknown data set": (["run", "--dataset", "digit", "--method", "random"], "Did you mean 'digits'"),
    "an unknown method": (["run", "--dataset", "digits", "--method", "radnom"], "Did you mean 'random'"),
    "an unknown protocol": (["run", *HARD, "--protocol", "small-hard"], "Did you mean 'small-hard-v1'"),
    "an unknown compressor": (["run", *SOFT, "--compressor", "svdd"], "Did you mean 'svd'"),
    "an unknown student": (["run", *HARD, "--student", "convnt"], "Did you mean 'convnet'"),
    "a library without a model": (["run", *HARD, "--student", "timm"], "say which model"),
    "an unknown parameter": (["run", *HARD, "--method", "el2n:ends=hard"], "Did you mean 'end'"),
    "a wrong value": (["run", *HARD, "--method", "el2n:epochs=many"], "'many' is not a whole number"),
    "a value without key": (["run", *HARD, "--method", "el2n:hard"], "'hard' is not key=value"),
    "no method": (["run", "--dataset", "digits"], "no method is named. Type --method NAME"),
    "nothing at all": (["run"], "no dataset is named. Type --dataset NAME"),
    "a bad ipc": (["run", *HARD, "--ipc", "0"], "0 is not in the range x>=1"),
    "an ipc in words": (["run", *HARD, "--ipc", "ten"], "'ten' is not a valid integer"),
    "a bad budget": (["run", *SOFT, "--compressor", "svd", "--budget", "30 %"], "neither a ratio such as 30x"),
    "a ratio below one": (["run", *SOFT, "--compressor", "svd", "--budget", "0.5x"], "a ratio is at least 1x"),
    "no budget": (["run", *SOFT, "--compressor", "svd"], "'svd' needs a budget"),
    "a budget for nothing": (["run", *SOFT, "--budget", "30x"], "takes no budget"),
    "bad replicates": (["run", *HARD, "--replicates", "0"], "0 is not in the range"),
    "a bad choice": (["run", *HARD, "--rerun", "some"], "'some' is not one of"),
    "a missing plan": (["run", "--plan", "nowhere.toml"], "--plan nowhere.toml: there is no such file"),
    "a broken plan": (["run", "--plan", "broken.toml"], "broken.toml: "),
    "an unknown plan key": (["run", "--plan", "key.toml"], "Did you mean 'methods'"),
    "a plan and a grid": (["run", "--plan", "key.toml", *HARD], "A plan file says what to run; leave out"),
    "a plugin that is missing": (["list", "--plugin", "nowhere.py"], "--plugin nowhere.py: there is no such file"),
    "a plugin that is no Python": (["list", "--plugin", "prose.py"], "prose.py, line 1: "),
    "a plugin that is no text": (["list", "--plugin", "image.py"], "is no text file"),
    "a plugin without a function": (["list", "--plugin", "empty.py"], "must define exactly one of select(...)"),
    "a plugin of a known name": (["list", "--plugin", "herding.py"], "Two methods are named 'herding'"),
    "a protocol that is broken": (["list", "--plugin", "broken.toml"], "broken.toml: "),
    "no results": (["leaderboard", "--results", "nowhere"], "no records at nowhere"),
    "results that are none": (["leaderboard", "--results", "prose.py"], "prose.py is no record file"),
    "a format": (["leaderboard", "--format", "pdf"], "'pdf' is not one of"),
    "results in a file": (["run", *HARD, "--results", "prose.py/mine"], "prose.py"),
    "a teacher of nothing": (["teacher", "digit"], "Did you mean 'digits'"),
    "a teacher by no recipe": (["teacher", "digits", "--recipe", "small"], "No teacher recipe is named 'small'"),
}  # fmt: skip


@pytest.mark.trains
@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_gets_a_message_and_exit_code_2(
    shell: Shell, tmp_path: Path, arguments: list[str], message: str
) -> None:
    write(tmp_path / "prose.py", "This is prose.")
    write(tmp_path / "empty.py", "x = 1")
    write(tmp_path / "herding.py", SELECT)
    write(tmp_path / "broken.toml", "[[grid]\n")
    write(tmp_path / "key.toml", "[[grid]]\nmethod = ['random']\n")
    (tmp_path / "image.py").write_bytes(b"\x89PNG\xff")
    answer = shell(*arguments)
    assert answer.code == 2
    assert message in answer.err
    assert "Traceback" not in answer.err + answer.out
    assert answer.out == ""


# --- as a process ----------------------------------------------------------------------------------------------------


def process(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    root = str(ROOT)
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True
    )  # fmt: skip


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    answer = process("-X", "importtime", "-m", "bench", "run", "--help", folder=tmp_path)
    assert answer.returncode == 0
    assert "--dry-run" in answer.stdout
    imported = {
        line.rpartition("|")[2].strip() for line in answer.stderr.splitlines() if line.startswith("import time")
    }
    assert "click" in imported
    assert not imported & {"torch", "numpy", "pandas", "ray", "rich", "pydantic", "scipy", "matplotlib"}


def test_a_mistake_as_a_process(tmp_path: Path) -> None:
    answer = process("-m", "bench", "show", "hherding", folder=tmp_path)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert answer.stderr.startswith("Error: No method, compressor, dataset, student or protocol is named 'hherding'.")
    assert "Traceback" not in answer.stderr
