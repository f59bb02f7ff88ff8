"""`check protocols`, and the lock through the command line of a whole copy of the project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.finding import Finding, Severity, as_json, as_text
from bench.lock import check_protocols, differences, lock_file, release
from bench.plugins.registry import ROOT
from tests.worlds.locked import MINE, edit, folder, registry


def findings(path: Path) -> dict[str, Finding]:
    """What is wrong with mine-v1, by rule."""
    return {
        found.rule: found for found in check_protocols.check_file(path.parent / "mine-v1.toml", registry(path), path)
    }


@pytest.mark.parametrize(
    ("old", "new", "rule", "told"),
    [
        ("[recipe]", "[recipe", "protocol-form", "mine-v1.toml"),
        ("flip = 0.5", "flip = 1.5", "protocol-form", "augment.flip"),
        ("flip = 0.5\n", "", "left-to-default", "recipe.augment.flip"),
        ("gamma = 0.1\nrestart = false\n", "", "left-to-default", "recipe.schedule.gamma, recipe.schedule.restart"),
        ('source = "This test."', 'source = " "', "no-source", "source is empty"),
        ('digits = "small-teacher-v1"', 'digits = "nobody-v1"', "unknown-teacher", "nobody-v1.toml"),
        ('student = "convnet:width=4"', 'student = "convent"', "unknown-student", "Did you mean 'convnet'"),
        ('student = "convnet:width=4"', 'student = "convnet:with=4"', "unknown-student", "with"),
        ('student = "convnet:width=4"', 'student = "convnet:width=0"', "unknown-student", "width"),
        ("convnet = 0.01", "convent = 0.01", "unknown-student", "convent"),
        ("convnet = 0.01", '"torchvision:resnet81" = 0.01', "unknown-student", "resnet18"),
    ],
)
def test_what_is_wrong_with_a_file_is_an_error_that_names_it(
    tmp_path: Path, old: str, new: str, rule: str, told: str
) -> None:
    path = folder(tmp_path, mine_v1=MINE)
    edit(path.parent / "mine-v1.toml", old, new)
    found = findings(path)[rule]
    assert found.severity == "error"
    assert told in found.message


def test_a_sound_file_that_is_not_released_yet_is_a_warning_only(tmp_path: Path) -> None:
    path = folder(tmp_path, mine_v1=MINE)
    (found,) = findings(path).values()
    assert (found.rule, found.severity) == ("not-released", "warning")
    assert "lock --release mine-v1" in found.message


@pytest.mark.parametrize(("where", "severity"), [("beside the lock", "error"), ("elsewhere", "warning")])
def test_somebody_s_own_protocol_may_leave_values_out(tmp_path: Path, where: str, severity: Severity) -> None:
    path = folder(tmp_path, mine_v1=MINE.replace("flip = 0.5\n", ""))
    file = path.parent / "mine-v1.toml"
    if where == "elsewhere":
        file = Path(shutil.move(file, tmp_path))
    found = {f.rule: f for f in check_protocols.check_file(file, registry(path), path)}
    assert found["left-to-default"].severity == severity
    assert ("unofficial" in found) == (where == "elsewhere")


def test_values_are_missed_in_every_branch_of_a_table(tmp_path: Path) -> None:
    text = MINE[: MINE.index("[recipe.loss]")] + MINE[MINE.index("[recipe.augment]") :]
    text += '[recipe.loss]\nby = "dataset"\ndigits = { name = "ce", temperature = 1.0 }\n'
    text += (
        'default = { name = "kl", temperature = 4.0, times_t_squared = false, hard_weight = 0.0, mix_labels = true }\n'
    )
    found = findings(folder(tmp_path, mine_v1=text))["left-to-default"]
    assert "recipe.loss.digits.times_t_squared, recipe.loss.digits.hard_weight" in found.message
    assert "recipe.loss.default" not in found.message


@pytest.mark.trains
def test_a_released_file_may_lack_a_field_that_came_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "LIBRARY_NETWORKS", ())
    path = folder(tmp_path, mine_v1=MINE)
    release.release(["mine-v1"], path, registry(path))
    edit(path.parent / "mine-v1.toml", "cutout = 0.0\n", "")  # the digest is the same
    assert findings(path)["left-to-default"].severity == "warning"
    assert differences.everything(lock_file.read(path), path) == []


@pytest.mark.trains
@pytest.mark.parametrize(("released", "severity"), [(True, "warning"), (False, "error")])
def test_a_withdrawn_protocol_is_told_and_an_error_only_where_its_file_may_go(
    tmp_path: Path, released: bool, severity: Severity
) -> None:
    path = folder(tmp_path, mine_v1=MINE)
    if released:
        release.release(["mine-v1"], path, registry(path))
    digest = differences.load(path.parent / "mine-v1.toml").digest
    path.with_name("errata.toml").write_text(
        f'[[withdrawn]]\nprotocol = "mine-v1"\ndigest = "{digest}"\ndate = 2030-01-31\nreason = "Use mine-v2."\n'
    )
    found = findings(path)["withdrawn"]
    assert (found.message, found.severity) == ("withdrawn on 2030-01-31: Use mine-v2.", severity)


# --- the command line of a copy ---------------------------------------------------------------------------------------

SESSION = """
import contextlib, io, json, sys
from bench.lock import lock_file, release
from bench.__main__ import main

assert str(lock_file.PATH).startswith(sys.argv[1]), lock_file.PATH
release.LIBRARY_NETWORKS = ()

def call(*words):
    out, err = io.StringIO(), io.StringIO()
    sys.argv[1:] = words
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as end:
            code = end.code
    told[" ".join(words[:2])].append([code, out.getvalue() + err.getvalue()])

def edit(file, old, new):
    path = lock_file.PATH.parent / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))

from collections import defaultdict
told = defaultdict(list)
RUN = ("run", "--dataset=digits", "--protocol=small-hard-v1", "--method=random", "--ipc=1", "--dry-run",
       "--store=store", "--results=results")
"""
EDITED = """
call("lock", "--release", "small-hard-v1", "--release", "small-soft-v1")
call("lock", "--release", "small-hard-v1")
call("lock", "--check")
call("check", "protocols", "--json")
call(*RUN)
edit("small-hard-v1.toml", "batch = 20", "batch = 21")
call("lock", "--check")
call("check", "protocols", "--json")
call(*RUN)
"""
CHANGED_CODE = """
call("lock", "--check")
call("check", "protocols", "--json")
call(*RUN)
"""


def session(copy: Path, script: str) -> dict[str, list[list]]:
    """Verb and first option -> [exit code, output] of each call, in one process that imports the copy."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    text = SESSION + script + "print(json.dumps(told))"
    command = [sys.executable, "-c", text, str(copy)]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project without what this does not need; of its protocols only the two small ones, and nothing released."""
    place = tmp_path / "copy"
    unneeded = shutil.ignore_patterns("__pycache__", "*.safetensors", "lock.json")
    for name in ("bench", "methods", "protocols"):
        shutil.copytree(ROOT / name, place / name, ignore=unneeded)
    for file in (place / "protocols").glob("*-v*.toml"):
        if not file.name.startswith("small-"):
            file.unlink()
    lock_file.write(lock_file.Lock(), place / "protocols" / "lock.json")
    return place


@pytest.mark.trains
def test_an_edited_protocol_or_engine_stops_run_and_checks_with_exit_code_3(copy: Path) -> None:
    told = session(copy, EDITED)
    assert [code for code, _ in told["lock --release"]] == [0, 3]
    assert "small-hard-v2.toml" in told["lock --release"][1][1]
    for verb in ("lock --check", "check protocols", "run --dataset=digits"):
        (before, sound), (after, broken) = told[verb]
        assert (before, after) == (0, 3), (verb, sound, broken)
        assert "small-hard-v1.toml" in broken
        digest = json.loads((copy / "protocols" / "lock.json").read_text())["protocols"]["small-hard-v1"]["digest"]
        assert digest[:16] in broken
        assert "small-hard-v1" not in sound or "not-released" not in sound
    rules = {found["rule"] for found in json.loads(told["check protocols"][1][1])}
    assert "lock-edited" in rules

    edit(copy / "protocols" / "small-hard-v1.toml", "batch = 21", "batch = 20")
    losses = copy / "bench" / "training" / "losses.py"
    losses.write_text(losses.read_text().replace("return F.cross_entropy(", "return 1.01 * F.cross_entropy("))
    told = session(copy, CHANGED_CODE)
    for verb in ("lock --check", "check protocols", "run --dataset=digits"):
        ((code, output),) = told[verb]
        assert code == 3, (verb, output)
        assert "small-hard-v1, canary 1" in output
        assert "expected" in output


@pytest.mark.trains
def test_the_command_counts_what_it_looked_at() -> None:
    answer = CliRunner().invoke(cli, ["check", "protocols"])
    last = answer.stdout.splitlines()[-1]
    assert answer.exit_code == 0, last
    files = len(list(lock_file.PATH.parent.glob("*-v*.toml")))
    assert last.startswith(f"{files} protocols, ")
    assert "canaries" in last


def test_files_of_this_project_are_told_as_they_are_called_in_it_and_others_in_full(tmp_path: Path) -> None:
    own, other = ROOT / "protocols" / "rded-v1.toml", tmp_path / "protocols" / "mine-v1.toml"
    found = [
        Finding("lock-edited", str(own), f"not as {own.with_name('lock.json')} holds"),
        Finding("x", str(other), ""),
    ]
    for text in (as_text(found, "2 files"), as_json(found)):
        assert str(ROOT) not in text.replace(str(other), "")
        assert str(other) in text
    assert as_text(found, "2 files").startswith(
        "error: [lock-edited] protocols/rded-v1.toml: not as protocols/lock.json"
    )
