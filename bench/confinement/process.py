"""A plugin's process as the harness holds it: calls go in, values come out, and at the end nothing of it is left."""

from __future__ import annotations

import contextlib
import json
import pickle
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.confinement import fork_server, wire
from bench.confinement.plugin_limits import DIED, KILLED, LimitExceeded, Limits, PluginDied, PluginFailure
from bench.confinement.warden import END
from bench.errors import InfeasibleError, MachineError

PATIENCE = 5.0  # seconds that a process has to end by itself
MOST_MESSAGE, MOST_TRACE = 2_000, 20_000  # characters


class PluginProcess:
    """One plugin's process. Made by `plugin_process`.

    Args:
        what: the plugin as messages name it: `method 'random'`.
        limits: of its processes.
        exchange: an empty folder, where values lie that come back.
        asked: what the plugin's side may ask of the harness, by name.
    """

    def __init__(self, what: str, limits: Limits, exchange: Path, asked: Mapping[str, Callable[..., Any]]) -> None:
        self._what, self._limits, self._exchange, self._asked = what, limits, exchange, asked
        self._plugin, self._control = fork_server.order(limits)
        self._report: dict[str, Any] | None = None
        self._fault: Exception | None = None  # of the machine, while the harness did what it was asked for
        self._count = 0
        self.seconds = 0.0  # that calls took, by the clock on the wall

    def call(self, target: str, *args: Any) -> Any:
        """Call `module:function(peer, *args)` there. Arrays of the value are mapped from a file, and may be written to.

        Raises:
            LimitExceeded: by the name of the limit.
            PluginDied: its process ended.
            InfeasibleError: as the plugin raised it.
            MachineError, OSError: the harness could not make what the plugin asked for.
            PluginFailure: the plugin raised something else, or gave back what is no value.
        """
        started = time.perf_counter()
        self._count += 1
        file = self._exchange / str(self._count)
        try:
            message = self._answer((target, args, str(file)))
            if "value" in message:
                return wire.rebuilt(message["value"], file)
        except wire.Closed as error:
            self._wait(PATIENCE if isinstance(error, wire.Ended) else 0.0)
            self._end()
            raise self._failure() or PluginFailure("PluginError", f"{self._what}: {error}.") from None
        except TimeoutError:
            self._end()
            raise LimitExceeded(
                "timeout",
                f"{self._what} had not ended after {self._limits.seconds:g} s. --stage-timeout SECONDS sets the limit.",
            ) from None
        finally:
            self.seconds += time.perf_counter() - started
        if "infeasible" in message:
            raise InfeasibleError(int(message["infeasible"]), str(message.get("why", "")))
        texts = (str(message.get(name, "")) for name in ("error", "message", "trace"))
        kind, text, trace = texts
        if self._fault is not None:  # of the harness, while it made what the plugin had asked for
            raise self._fault
        errno = message.get("errno") if isinstance(message.get("errno"), int) else None
        raise PluginFailure(kind[:100], text[:MOST_MESSAGE], trace[-MOST_TRACE:], errno)

    def _answer(self, request: tuple[Any, ...]) -> dict[str, Any]:
        left = self._limits.seconds
        begun = time.monotonic()
        wire.send(self._plugin, wire.to_plugin(request))
        while True:
            ready, _, _ = select.select([self._plugin, self._control], [], [], max(0.0, left))
            if not ready:
                raise TimeoutError
            if self._plugin not in ready:  # the warden ended it
                raise wire.Ended("its process has ended")
            content = wire.receive(self._plugin, largest=wire.LARGEST_ANSWER, deadline=begun + left)
            message = wire.from_plugin(content)
            left -= time.monotonic() - begun
            if "ask" not in message:
                return message
            wire.send(self._plugin, self._done(message))
            begun = time.monotonic()  # what the harness computes is not the plugin's time

    def _done(self, message: Mapping[str, Any]) -> bytes:
        try:
            return pickle.dumps((self._asked[message["ask"]](*message["args"]), None))
        except Exception as error:
            if isinstance(error, MachineError | OSError):
                self._fault = error
            try:
                return pickle.dumps((None, error))
            except Exception:  # an error that cannot travel
                return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}")))

    def _end(self) -> None:
        """Have everything of the plugin ended, and wait until it is."""
        if self._report is None:
            with contextlib.suppress(wire.Closed):
                wire.send(self._control, END)
            self._wait(None)

    def close(self) -> None:
        """Let the process end, and wait until nothing of it is left. Raises LimitExceeded where one was exceeded."""
        if self._report is None:
            self._plugin.shutdown(socket.SHUT_RDWR)
            self._wait(PATIENCE)
            self._end()
        failure = self._failure()
        if isinstance(failure, LimitExceeded):
            raise failure

    def _wait(self, patience: float | None) -> None:
        if self._report is None and select.select([self._control], [], [], patience)[0]:
            try:
                self._report = json.loads(wire.receive(self._control))
            except (wire.Closed, ValueError):  # the warden was killed
                self._report = {"reason": "ended", "code": None, "cpu": 0.0, "printed": 0, "tail": "", "notes": []}

    @property
    def conduct(self) -> tuple[str, ...]:
        """What the plugin did beside its task (bench.confinement.watch), known once its process is closed."""
        return tuple((self._report or {}).get("notes", ()))

    @property
    def cpu(self) -> float:
        """Seconds of CPU time that its processes and their warden took, known once it is closed."""
        return float((self._report or {}).get("cpu", 0.0))

    @property
    def printed(self) -> int:
        """Bytes that it printed, known once its process is closed."""
        return int((self._report or {}).get("printed", 0))

    def _failure(self) -> PluginFailure | None:
        """Why its process is gone, where a limit or an end in the middle of a call is the reason."""
        report = self._report
        if report is None:
            return None
        limits = {
            "oom": f"more than {self._limits.bytes / 2**20:.0f} MiB of memory. --stage-memory MIB sets the limit",
            "processes": f"more than {self._limits.processes} processes at once. --stage-processes N sets the limit",
            "output": f"printed more than {self._limits.output} bytes",
        }
        if (reason := report["reason"]) in limits:
            took = "" if reason == "output" else "took "
            return LimitExceeded(reason, f"{self._what} {took}{limits[reason]}.")
        if reason == "told":
            return None
        if (code := report["code"]) is None:
            return PluginDied(KILLED, f"the process that watches {self._what} was killed.")
        if code < 0:
            name = signal.Signals(-code).name if -code in iter(signal.Signals) else f"signal {-code}"
            kind = KILLED if -code == signal.SIGKILL else DIED
            return PluginDied(kind, f"the process of {self._what} died ({name}){self._last_words()}.")
        return PluginDied(DIED, f"{self._what} ended its process with exit code {code}{self._last_words()}.")

    def _last_words(self) -> str:
        tail = " ".join(str((self._report or {}).get("tail", "")).split())[-300:]
        return f"; it printed: {tail}" if tail else ""


@contextmanager
def plugin_process(
    what: str, limits: Limits, exchange: Path, asked: Mapping[str, Callable[..., Any]] | None = None
) -> Iterator[PluginProcess]:
    """A plugin's process, ended with all that it started when the block ends.

    Raises LimitExceeded at the end where a limit was exceeded, though the call gave a value.
    """
    process = PluginProcess(what, limits, exchange, asked or {})
    try:
        yield process
    except BaseException as error:
        process._end()
        exceeded = process._failure()
        if isinstance(exceeded, LimitExceeded) and not isinstance(error, LimitExceeded):
            raise exceeded from error  # the plugin has made another error of it
        raise
    process.close()
