"""The process that plugins' processes are forked from."""

from __future__ import annotations

import socket
import subprocess
import sys

from tests.worlds import ROOT


def test_it_ends_in_silence_where_who_started_it_is_gone_before_it_is_ready() -> None:
    ours, its = socket.socketpair()
    server = subprocess.Popen(
        [sys.executable, "-m", "bench.confinement.fork_server", str(its.fileno()), "json"],
        pass_fds=[its.fileno()], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    its.close()
    ours.close()
    said, _ = server.communicate(timeout=300)
    assert (server.returncode, said) == (0, b"")
