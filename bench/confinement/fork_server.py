"""The process that plugins' processes are forked from: it has imported what they need, and has run nothing.

Forking takes milliseconds where importing torch takes seconds. A process that has computed with torch must not be
forked (its threads and its automatic differentiation do not survive that), so the server is forked before anything is
computed (`start`), or it is a new process (where nobody called `start`).
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from bench.confinement import wire
from bench.confinement.plugin_limits import Limits
from bench.confinement.warden import Warden

# What plugins' processes begin in, with torch and all that a context needs.
PRELOADED = ("bench.stages.lent", "bench.checks.plugins.apart_side")


@dataclass(frozen=True)
class Order:
    """One plugin's process, as the server is asked for it."""

    limits: Limits
    folder: str  # the current one
    environment: dict[str, str]
    threads: int | None  # of torch; None: as many as it takes


_server: socket.socket | None = None
_server_owner = 0  # the process that may talk to it: a fork of that has no server yet


def start() -> None:
    """Fork the server from this process, unless it has one. Nothing may have been computed with torch here."""
    global _server, _server_owner
    if _server is not None and _server_owner == os.getpid():
        return
    here, there = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            _keep_only(there.fileno())
            _serve(there)
        finally:
            os._exit(1)
    there.close()
    _server, _server_owner = here, os.getpid()


def start_early(module: str) -> None:
    """Import a module and fork the server, in a program that begins; nothing where torch is imported: it may have been
    used. Forking takes less than a new process, which `order` starts otherwise."""
    if "torch" not in sys.modules:
        importlib.import_module(module)
        start()


def _launch() -> socket.socket:
    """The server of this process, started as a new one where there is none. Raises Closed where that does not start."""
    global _server, _server_owner
    if _server is None or _server_owner != os.getpid():
        here, there = socket.socketpair()
        subprocess.Popen(
            [sys.executable, "-m", "bench.confinement.fork_server", str(there.fileno()), *PRELOADED],
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
        )
        there.close()
        wire.receive(here)  # it has imported all: what takes long on a busy machine is not a plugin's time
        _server, _server_owner = here, os.getpid()
    return _server


def order(limits: Limits) -> tuple[socket.socket, socket.socket]:
    """(the end that speaks with a new plugin's process, the end that speaks with its warden)."""
    torch = sys.modules.get("torch")
    threads = None if torch is None else torch.get_num_threads()
    wanted = pickle.dumps(Order(limits, os.getcwd(), dict(os.environ), threads))
    for attempt in (1, 2):
        plugin, plugins_end = socket.socketpair()
        control, wardens_end = socket.socketpair()
        try:
            server = _launch()
            socket.send_fds(server, [b"."], [plugins_end.fileno(), wardens_end.fileno()])
            wire.send(server, wanted)
        except (OSError, wire.Closed):  # it was killed
            global _server
            _server = None
            if attempt == 2:
                raise
            continue
        finally:
            plugins_end.close()
            wardens_end.close()
        break
    return plugin, control


def _keep_only(descriptor: int) -> None:
    """Close what the server inherited: connections of others would stay open for as long as a plugin lives."""
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < 2**20 else 2**16)


def _serve(end: socket.socket) -> NoReturn:
    """Fork a warden for every order, until the other side is gone."""
    atexit._clear()  # what the process that this one was forked from wanted to do at its own end
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the harness's, which then closes its end
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # wardens are not waited for: they tell the harness themselves
    os.setsid()
    while True:
        try:
            _, descriptors, _, _ = socket.recv_fds(end, 1, 2)
            if len(descriptors) != 2:
                os._exit(0)
            wanted: Order = pickle.loads(wire.receive(end))
        except (OSError, wire.Closed):
            os._exit(0)
        plugins_end, wardens_end = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        if os.fork() == 0:
            try:
                end.close()
                _become_warden(wanted, plugins_end, wardens_end)
            finally:
                os._exit(1)
        plugins_end.close()
        wardens_end.close()


def _become_warden(wanted: Order, plugins_end: socket.socket, wardens_end: socket.socket) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def plugin(tell: Callable[[str], None], fork: Callable[[], None]) -> None:
        from bench.confinement.plugin_side import serve

        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(wanted.folder)
        os.environ.clear()
        os.environ.update(wanted.environment)
        if wanted.threads is not None:
            _set_threads(wanted.threads)
        serve(plugins_end, tell, fork)

    Warden(wardens_end, wanted.limits).run(plugin, plugins_end)


def _set_threads(threads: int) -> None:
    import torch

    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def main() -> NoReturn:
    """A server as a new process: `python -m bench.confinement.fork_server DESCRIPTOR MODULE...`."""
    end = socket.socket(fileno=int(sys.argv[1]))
    with contextlib.suppress(KeyboardInterrupt, wire.Ended):  # who started it may be gone before all is imported
        for module in sys.argv[2:]:
            importlib.import_module(module)
        wire.send(end, b"ready")
        _serve(end)
    os._exit(0)


if __name__ == "__main__":
    # Under its own name: what this module holds exists once.
    from bench.confinement import fork_server

    fork_server.main()
