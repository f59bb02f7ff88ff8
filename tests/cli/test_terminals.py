"""Where the output goes does not change what a verb does: readers that leave, closed streams, full disks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worlds import ROOT

LEADERBOARD = [sys.executable, "-m", "bench", "leaderboard", "--results", "results/methods", "--format", "json"]
LIST = [sys.executable, "-m", "bench", "list"]
NO_RECORDS = [sys.executable, "-m", "bench", "leaderboard", "--results", "results/nowhere"]


def test_a_reader_that_has_seen_enough_changes_no_exit_code() -> None:
    with subprocess.Popen(LEADERBOARD, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().strip() == b"["
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@pytest.mark.parametrize(("command", "code"), [(LIST, 0), (NO_RECORDS, 2)])
def test_a_verb_works_without_standard_streams(command: list[str], code: int) -> None:
    def close() -> None:
        for descriptor in (0, 1, 2):
            os.close(descriptor)

    assert subprocess.run(command, cwd=ROOT, preexec_fn=close, close_fds=False).returncode == code


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_output_that_cannot_be_written_is_told() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(LIST, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "Error: <stdout>: No space left on device.\n")
