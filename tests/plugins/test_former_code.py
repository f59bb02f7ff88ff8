"""Former code digests: both columns of code_digests.json are made again from the code as it was."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from bench.plugins.code_digest import ROOT, code_digest
from bench.plugins.former_code import FILE, equal, former, renewed
from bench.plugins.registry import CALLED, discover

KNOWN = json.loads(FILE.read_text(encoding="utf-8"))
PRINT_DIGESTS = """
import json
try:
    from bench.plugins.registry import discover
except ImportError:
    from bench.registry import discover
plugins = [p for kind in ("method", "compressor", "network") for p in discover().all(kind)]
print(json.dumps([[p.kind, p.name, str(p.path), p.digest] for p in plugins]))
"""


def checkout(commit: str, folder: Path) -> None:
    """The code of a commit. Skips where the history is not here, as in a shallow clone."""
    packages = ("bench", "methods", "protocols")
    archive = subprocess.run(["git", "archive", commit, *packages], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"commit {commit[:7]} is not in this clone")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")


@pytest.mark.parametrize("commit", KNOWN["commits"])
def test_both_columns_are_those_of_the_code_as_it_was(commit: str, tmp_path: Path) -> None:
    """The former rule is run from the commit itself, today's rule on its files."""
    checkout(commit, tmp_path)
    command = [sys.executable, "-c", PRINT_DIGESTS]
    printed = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, check=True)
    plugins = json.loads(printed.stdout)
    assert {f"{kind} {name}" for kind, name, _, _ in plugins} == KNOWN["digests"].keys()
    for kind, name, path, before in plugins:
        assert Path(path).is_relative_to(tmp_path)
        entry = KNOWN["digests"][f"{kind} {name}"]
        assert before in entry["before"]
        assert code_digest(Path(path), called=CALLED, root=tmp_path) == entry["after"]


def test_no_digest_stands_for_two_programs() -> None:
    before = [each for entry in KNOWN["digests"].values() for each in entry["before"]]
    after = [entry["after"] for entry in KNOWN["digests"].values()]
    assert len(set(before)) == len(before) == 52
    assert len(set(after)) == len(after) == 51
    assert set(before).isdisjoint(after)


def test_digests_are_renewed_where_both_are_known_and_stay_elsewhere() -> None:
    entry = KNOWN["digests"]["method folder"]
    assert [renewed(each) for each in entry["before"]] == [entry["after"]] * 2
    assert former(entry["after"]) == tuple(entry["before"])
    assert (renewed("0" * 64), renewed(None), former("0" * 64)) == ("0" * 64, None, ())
    assert renewed(entry["after"]) == entry["after"]


@pytest.mark.parametrize("change", KNOWN["equal"], ids=lambda change: change["commits"][1][:7])
def test_both_sides_of_a_change_that_changes_no_byte_are_those_of_its_commits(change, tmp_path: Path) -> None:
    """Today's rule on the files of both commits: every plugin whose digest moved is listed, and no other."""
    sides = []
    for commit in change["commits"]:
        folder = tmp_path / commit
        folder.mkdir()
        checkout(commit, folder)
        plugins = [p for kind in ("method", "compressor", "network") for p in discover().all(kind)]
        files = {f"{p.kind} {p.name}": folder / p.path.relative_to(ROOT) for p in plugins}
        sides.append(
            {key: code_digest(file, called=CALLED, root=folder) for key, file in files.items() if file.is_file()}
        )
    moved = {key: [sides[0][key], sides[1][key]] for key in sides[0].keys() & sides[1].keys()}
    assert {key: pair for key, pair in moved.items() if pair[0] != pair[1]} == change["digests"]
    for before, after in change["digests"].values():
        assert equal(before) == equal(after)


def test_code_that_changed_twice_stands_for_its_last_form_and_no_change_leads_back() -> None:
    pairs = dict(pair for change in KNOWN["equal"] for pair in change["digests"].values())
    for before in pairs:
        passed = [before]
        while passed[-1] in pairs:
            passed.append(pairs[passed[-1]])
            assert len(set(passed)) == len(passed)
        assert equal(before) == passed[-1]
