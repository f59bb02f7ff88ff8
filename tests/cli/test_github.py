"""What GitHub and pre-commit run of this project, run here: schemas, and every line for a shell."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.worlds import ROOT
from tests.worlds.plugins import SELECT, write

ACTION = ROOT / ".github/actions/check/action.yml"
PAGES = ROOT / ".github/workflows/pages.yml"
HOOKS = ROOT / ".pre-commit-hooks.yaml"
GUIDE = (ROOT / "docs/github.md").read_text(encoding="utf-8")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def snippets() -> list[Any]:
    return [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)]


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody's repository, with the records and the plan of this project, and `condensebench` on its path."""
    place, programs = tmp_path / "repository", tmp_path / "bin"
    (place / "results").mkdir(parents=True)
    programs.mkdir()
    program = programs / "condensebench"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m bench "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CONDENSEBENCH_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(place)
    shutil.copytree(ROOT / "results/default-plan", place / "results/mine")
    write(place / "sharpest.py", SELECT)
    return place


def shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As a runner of GitHub calls bash."""
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def check_step(**inputs: str) -> subprocess.CompletedProcess[str]:
    """The last step of the action with these inputs; the others have their defaults."""
    action = read(ACTION)
    values = {name: inputs.get(name, each.get("default", "")) for name, each in action["inputs"].items()}
    step = action["runs"]["steps"][-1]
    given = {name: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda m: values[m[1]], v) for name, v in step["env"].items()}
    assert not any("${{" in value for value in given.values())
    return shell(step["run"], **given)


@pytest.mark.parametrize(
    ("kind", "file"),
    [("workflows", PAGES), ("workflows", ROOT / ".github/workflows/ci.yml"), ("actions", ACTION)],
    ids=lambda each: each if isinstance(each, str) else each.stem,
)
def test_files_keep_the_schemas_of_github(kind: str, file: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.github-{kind}", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_hooks_keep_the_schema_of_pre_commit() -> None:
    done = subprocess.run([sys.executable, "-m", "pre_commit", "validate-manifest", str(HOOKS)], capture_output=True)
    assert done.returncode == 0, done.stdout


def test_no_input_is_put_into_a_line_for_the_shell() -> None:
    for step in read(ACTION)["runs"]["steps"]:
        assert "${{" not in step.get("run", "")


def test_what_is_installed_is_the_version_that_the_action_comes_with() -> None:
    install = read(ACTION)["runs"]["steps"][1]
    project = install["env"]["PROJECT"].replace("${{ github.action_path }}", str(ACTION.parent))
    assert Path(project).resolve() == ROOT
    assert install["run"] == 'python -m pip install --constraint "$PROJECT/constraints.txt" "$PROJECT"'
    assert {"pyproject.toml", "constraints.txt"} <= {path.name for path in ROOT.iterdir()}


def test_the_check_passes_honest_records_and_ends_at_a_finding(scratch: Path) -> None:
    done = check_step(records="results/mine\n", plugins="sharpest.py\n", baseline="results/mine")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " records in " in done.stdout
    records = scratch / "results/mine/records.jsonl"
    records.write_text(records.read_text().replace('"accuracy":0.9', '"accuracy":0.8', 1))
    done = check_step(records="results/mine")
    assert done.returncode == 1
    assert "[edited-line]" in done.stdout


def test_every_folder_is_checked_and_the_worst_counts(scratch: Path) -> None:
    done = check_step(records="results/nowhere\nresults/mine")
    assert done.returncode == 2
    assert "no records at results/nowhere" in done.stderr
    assert " records in " in done.stdout


def test_verify_is_called_where_it_is_asked_for(scratch: Path) -> None:
    calls = scratch.parent / "bin" / "condensebench"
    calls.write_text('#!/bin/sh\necho "$@"\n')
    assert check_step(records="a b\nc", verify="3", plugins="p q.py").stdout.splitlines() == [
        "check records a b --plugin p q.py", "verify a b --sample 3 --plugin p q.py",
        "check records c --plugin p q.py", "verify c --sample 3 --plugin p q.py",
    ]  # fmt: skip


def test_the_page_of_the_committed_records_is_made(tmp_path: Path, scratch: Path) -> None:
    (job,) = read(PAGES)["jobs"].values()
    runs = [step["run"] for step in job["steps"] if "run" in step]
    (install, report) = runs
    assert install == "python -m pip install --constraint constraints.txt ."
    shutil.rmtree(scratch / "results")
    (scratch / "results").symlink_to(ROOT / "results")
    done = shell(report.replace("--figures ", ""))  # figures are drawn by tests/website
    assert done.returncode == 0, done.stdout + done.stderr
    (upload,) = [step for step in job["steps"] if "upload-pages-artifact" in step.get("uses", "")]
    assert (scratch / upload["with"]["path"] / "index.html").is_file()


def test_the_guide_names_inputs_hooks_and_folders_that_there_are(scratch: Path) -> None:
    step, config = snippets()
    uses = step[1]["uses"]
    assert re.fullmatch(r"OWNER/condensebench/\.github/actions/check@v[\d.]+", uses)
    assert step[1]["with"].keys() <= read(ACTION)["inputs"].keys()
    table = re.findall(r"^\| `(\w+)` \|", GUIDE, re.MULTILINE)
    assert table == list(read(ACTION)["inputs"])
    hooks = {hook["id"]: hook for hook in read(HOOKS)}
    (repository,) = config["repos"]
    assert [hook["id"] for hook in repository["hooks"]] == list(hooks)


def test_the_hooks_of_the_guide_run_in_a_repository(scratch: Path) -> None:
    """With the program that is on the path; pre-commit would install it from the project's address."""
    (repository,) = snippets()[1]["repos"]
    manifest = {hook["id"]: hook for hook in read(HOOKS)}
    hooks = [{**manifest[hook["id"]], **hook, "language": "system"} for hook in repository["hooks"]]
    hooks[1]["args"] = ["--help"]  # the check itself takes half a minute: tests/checks runs it
    (scratch / ".pre-commit-config.yaml").write_text(yaml.safe_dump({"repos": [{"repo": "local", "hooks": hooks}]}))
    for command in (["git", "init", "--quiet"], ["git", "add", "--all"]):
        subprocess.run(command, cwd=scratch, check=True)
    run = [sys.executable, "-m", "pre_commit", "run", "--all-files"]
    environment = {**os.environ, "PRE_COMMIT_HOME": str(scratch.parent / "hooks")}
    done = subprocess.run(run, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Passed") == 2
    records = scratch / "results/mine/records.jsonl"
    records.write_text(records.read_text().replace('"accuracy":0.9', '"accuracy":0.8', 1))
    subprocess.run(["git", "add", "--all"], cwd=scratch, check=True)
    done = subprocess.run(run, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "[edited-line]" in done.stdout
