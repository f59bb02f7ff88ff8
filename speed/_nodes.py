"""Machines of a Ray cluster, simulated on this one: each is `ray start`, as docs/cluster.md shows it, on loopback."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RAY = [sys.executable, "-m", "ray.scripts.scripts"]
LIMIT = 300.0  # seconds for a node to come up beside other work


class Nodes:
    """A cluster; the first node that is added is its head.

    Args:
        home: a folder for `$HOME` of all nodes.
        environment: what else they have in their environment.
    """

    def __init__(self, home: Path, **environment: str) -> None:
        self.token = secrets.token_hex(32)
        own = {"HOME": str(home), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "RAY_worker_niceness": "0"}
        self.environment = {**os.environ, **own, **environment}
        self._processes: dict[str, subprocess.Popen[str]] = {}
        # Ray's sockets need a short path.
        self._folder = Path(tempfile.mkdtemp(prefix="nodes-", dir="/tmp"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"

    def add(self, name: str, *options: str, **environment: str) -> None:
        """Start a node and wait until it serves. `options`: of `ray start`, as `--num-cpus=2`."""
        head = ["--head", f"--port={self.address.rpartition(':')[2]}", "--include-dashboard=false"]
        role = [f"--address={self.address}"] if self._processes else [*head, f"--temp-dir={self._folder}"]
        process = subprocess.Popen(
            [*RAY, "start", "--block", "--node-ip-address=127.0.0.1", "--disable-usage-stats", *role, *options],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        said = []
        deadline = time.monotonic() + LIMIT
        for line in process.stdout:
            said.append(line)
            if "Ray runtime started" in line:
                break
            if time.monotonic() > deadline:
                break
        else:
            raise RuntimeError(f"the node {name} did not start:\n{''.join(said)}")
        self._processes[name] = process

    def kill(self, name: str) -> None:
        """End a node as a power cut does."""
        process = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def close(self) -> None:
        """End all nodes."""
        for name in reversed(list(self._processes)):
            self.kill(name)
        shutil.rmtree(self._folder, ignore_errors=True)
