"""What runs in a plugin's process: it answers the harness's calls, and asks the harness for what only that may make."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import pickle
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.confinement import wire
from bench.confinement.watch import Watch, Watched
from bench.errors import InfeasibleError

MOST_MESSAGE, MOST_TRACE = 2_000, 20_000  # characters


class Peer:
    """The harness, as code of a plugin's process sees it. `kept` is what one call leaves for the next."""

    def __init__(self, end: socket.socket, tell: Callable[[str], None], fork: Callable[[], None]) -> None:
        self._end, self._tell, self._fork = end, tell, fork
        self._watch: Watch | None = None
        self.kept: dict[str, Any] = {}

    def watch(self, watched: Watched) -> None:
        """Note from now on what the plugin does beside its task."""
        self._watch = Watch(watched, self._tell, self._fork)
        self._watch.install()

    def note(self, kind: str, what: str) -> None:
        """Tell the harness."""
        if self._watch is not None:
            self._watch.note(kind, what)

    def notes(self) -> list[str]:
        """What was noted in this process so far."""
        return [] if self._watch is None else self._watch.notes()

    def ask(self, name: str, *args: Any) -> Any:
        """Have the harness do it. `args` are JSON values. Raises what the harness raised."""
        wire.send(self._end, json.dumps({"ask": name, "args": args}).encode())
        answer, error = pickle.loads(wire.receive(self._end))
        if error is not None:
            raise error
        return answer


def serve(end: socket.socket, tell: Callable[[str], None], fork: Callable[[], None]) -> None:
    """Answer calls until the harness closes its end."""
    peer = Peer(end, tell, fork)
    with contextlib.suppress(wire.Closed):
        while True:
            target, args, file = pickle.loads(wire.receive(end))
            wire.send(end, json.dumps(_answer(peer, target, args, Path(file))).encode())
    if "multiprocessing.util" in sys.modules:  # pools that the plugin still holds end by themselves
        atexit.register(sys.modules["multiprocessing.util"]._exit_function)
    atexit._run_exitfuncs()


def _answer(peer: Peer, target: str, args: tuple[Any, ...], file: Path) -> dict[str, Any]:
    try:
        module, _, name = target.partition(":")
        return {"value": wire.plain(getattr(importlib.import_module(module), name)(peer, *args), file)}
    except InfeasibleError as error:
        return {"infeasible": error.smallest_bytes, "why": str(error.why)[:MOST_MESSAGE]}
    except BaseException as error:  # also SystemExit: a plugin does not end the harness
        errno = error.errno if isinstance(error, OSError) else None
        return {"error": type(error).__name__, "message": _text(error), "trace": _trace(), "errno": errno}


def _text(error: BaseException) -> str:
    try:
        return str(error)[:MOST_MESSAGE]
    except Exception as another:
        return f"(its message cannot be had: {type(another).__name__})"


def _trace() -> str:
    """The end of the traceback, which tells most."""
    return traceback.format_exc()[-MOST_TRACE:]
