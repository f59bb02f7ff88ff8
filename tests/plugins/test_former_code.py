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
from bench.plugins.former_code import FILE, former, renewed
from bench.plugins.registry import CALLED

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
