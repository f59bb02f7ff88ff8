"""The tutorial, followed word by word in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_pages import NOT_RUN, lines_of_code
from tests.worlds import ROOT

PAGE = ROOT / "docs/tutorial.md"
TEXT = PAGE.read_text(encoding="utf-8")


def follow(line: str, folder: Path) -> str:
    """Type one line of the page; what it prints."""
    program, *arguments = shlex.split(line)
    assert program == "condensebench", line
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CONDENSEBENCH_STORE": ""}
    del environment["CONDENSEBENCH_STORE"]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def edit(file: Path) -> None:
    """Make the changes that the page shows."""
    (diff,) = re.findall(r"^```diff\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    source = file.read_text(encoding="utf-8")
    pairs = re.findall(r"^-(.*)\n\+(.*)$", diff, re.MULTILINE)
    assert len(pairs) == 3
    for old, new in pairs:
        assert source.count(f"{old}\n") == 1, old
        source = source.replace(f"{old}\n", f"{new}\n")
    file.write_text(source, encoding="utf-8")


@pytest.mark.slow  # minutes: a plugin's checks, nine students, and some of them again
def test_every_line_leads_to_the_next(tmp_path: Path) -> None:
    printed = {}
    for line in lines_of_code(PAGE):
        if line in NOT_RUN and not line.startswith("condensebench "):  # those install
            continue
        printed[line.split()[1]] = follow(line, tmp_path)
        if line.startswith("condensebench new"):
            assert sorted(path.name for path in tmp_path.iterdir()) == ["sharpest.py", "test_sharpest.py"]
            edit(tmp_path / "sharpest.py")
    assert "The images of each class with the steepest edges." in printed["show"]
    assert "nothing found" in printed["check"]
    assert "9 trials: 0 done, 9 missing" in printed["run"]
    assert re.search(r"\bsharpest\b", printed["run"])
    assert "sharpest" in printed["compare"]
    assert (tmp_path / "site" / "index.html").is_file()
    assert "3 of 3 records run again, 3 as claimed to the bit" in printed["submit"]
    assert (tmp_path / "mine-submission.zip").is_file()
