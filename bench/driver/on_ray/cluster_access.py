"""Who may talk to which Ray: tokens, and a first knock at the address of a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator

TOKEN_HINT = (
    "If the cluster asks for a token (`ray start --head` does so where it finds one), copy ~/.ray/auth_token from its "
    "head to this machine; RAY_AUTH_MODE=disabled on every machine turns tokens off."
)
TOKEN = secrets.token_hex(32)  # of the Ray processes that this process starts


def knock(address: str) -> None:
    """Raise OSError where nobody answers: Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def authenticate(address: str) -> None:
    """Raise RuntimeError where a cluster refuses this machine's token. Ray itself would try for two minutes, and
    print a line every second, so a process of its own asks, and is ended at the first refusal."""
    if not address.rpartition(":")[2].isdigit() or "://" in address:
        return
    code = "import sys; from ray._raylet import GcsClient; GcsClient(address=sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", code, address], stderr=subprocess.PIPE, text=True) as asking:
        assert asking.stderr is not None
        for line in asking.stderr:
            if "Unauthenticated" in line:
                asking.kill()
                raise RuntimeError("it asks for a token, and this machine has none or another one")


@contextlib.contextmanager
def private_token() -> Iterator[None]:
    """Only this run may talk to the processes that it starts: by a token of its own, in memory. Ray would write one to
    the home folder, and it says on the terminal that it uses one. RAY_AUTH_MODE, where it is set, decides instead."""
    if "RAY_AUTH_MODE" in os.environ:
        yield
        return
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")  # ray.init sets the first
    before = {name: os.environ.get(name) for name in names}
    os.environ["RAY_AUTH_TOKEN"] = TOKEN
    log = logging.getLogger("ray._private.authentication")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
