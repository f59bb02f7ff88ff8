"""The warden of one plugin: starts its process, watches what that takes, and ends all that it started.

A warden is forked from the fork server, is the parent of the plugin's process, and adopts whatever that leaves behind
(Linux: PR_SET_CHILD_SUBREAPER), also what has left its session. It runs no code of a plugin.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable
from typing import NoReturn

import psutil

from bench.confinement import wire
from bench.confinement.plugin_limits import Limits
from bench.confinement.watch import LEFT, MOST_NOTES

EVERY = 0.05  # seconds between two looks
SELDOM = 0.4  # seconds between two counts of processes, where the audit hook tells of no new one
TAIL = 2000  # bytes of what a plugin printed last, that a message shows
END = b"end"  # what the harness sends where a plugin has to go
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of linux/prctl.h
_COUNTS, _REFUSED = struct.Struct("<qq"), struct.Struct("<q")


class Forks:
    """Numbers that the warden and all processes of the plugin share: those alive, started since, and refused."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._memory = mmap.mmap(-1, _COUNTS.size + _REFUSED.size)
        self.counted(1)

    def read(self) -> tuple[int, int, int]:
        """(alive when they were counted last, started since then, refused)."""
        alive, since = _COUNTS.unpack_from(self._memory)
        (refused,) = _REFUSED.unpack_from(self._memory, _COUNTS.size)
        return alive, since, refused

    def counted(self, alive: int) -> None:
        """Set how many are alive. What was refused stays: the warden and a plugin write at the same time."""
        _COUNTS.pack_into(self._memory, 0, alive, 0)

    def take(self) -> None:
        """Count a process that is about to be started. Raises OSError where there are enough: a loop of forks ends in
        its first round, before the warden looks."""
        alive, since, refused = self.read()
        if alive + since >= self._limit:
            _REFUSED.pack_into(self._memory, _COUNTS.size, refused + 1)
            raise BlockingIOError(f"the harness allows a plugin {self._limit} processes at once")
        _COUNTS.pack_into(self._memory, 0, alive, since + 1)


class Warden:
    """Watches one plugin. `run` never returns."""

    def __init__(self, control: socket.socket, limits: Limits) -> None:
        self._control, self._limits = control, limits
        self._forks = Forks(limits.processes)
        self._output, self._told = os.pipe(), os.pipe()
        self._printed, self._tail = 0, b""
        self._notes: list[str] = []
        self._partial = b""
        self._counted_at, self._last_pid = 0.0, ""
        self._status: int | None = None

    def run(
        self, plugin: Callable[[Callable[[str], None], Callable[[], None]], None], *foreign: socket.socket
    ) -> NoReturn:
        """Start the plugin's process, which calls `plugin` with a function that tells notes and one that counts forks,
        and stay until it is gone. `foreign`: what the warden itself does not need."""
        _become_reaper()
        pid = os.fork()
        if pid == 0:
            self._begin_plugin(plugin)
        for end in foreign:
            end.close()
        os.close(self._output[1])
        os.close(self._told[1])
        self._pid, self._process = pid, psutil.Process(pid)
        reason = self._watch(os.pidfd_open(pid))
        left = self._end_all()
        self._drain()
        if left:
            self._notes.append(f"{LEFT}: {left} process{'es' if left > 1 else ''} behind")
        report = {
            "reason": reason,
            "code": os.waitstatus_to_exitcode(self._status) if self._status is not None else None,
            "cpu": sum(os.times()[:4]),  # of the warden and of all that it has collected
            "printed": self._printed,
            "tail": self._tail.decode("utf-8", "replace"),
            "notes": self._notes[:MOST_NOTES],
        }
        with contextlib.suppress(wire.Closed):
            wire.send(self._control, json.dumps(report).encode())
        os._exit(0)

    def _begin_plugin(self, plugin: Callable[[Callable[[str], None], Callable[[], None]], None]) -> NoReturn:
        os.setsid()
        self._control.close()
        os.close(self._output[0])
        os.close(self._told[0])
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        for standard in (1, 2):
            os.dup2(self._output[1], standard)
        os.close(self._output[1])

        def tell(note: str) -> None:
            with contextlib.suppress(OSError):
                os.write(self._told[1], note.replace("\n", " ").encode("utf-8", "replace") + b"\n")

        code = 1
        try:
            plugin(tell, self._forks.take)
            code = 0
        finally:
            os._exit(code)

    def _watch(self, process: int) -> str:
        """Why the plugin has to go: it has `ended`, the harness has `told` so, or the name of a limit."""
        poll = select.poll()
        for descriptor in (process, self._control.fileno(), self._output[0], self._told[0]):
            poll.register(descriptor, select.POLLIN)
        looked = 0.0
        while True:
            ready = [descriptor for descriptor, _ in poll.poll(1000 * EVERY)]
            if process in ready:
                return self._exceeded() or "ended"
            if self._control.fileno() in ready:
                return self._exceeded() or "told"
            for descriptor in ready:
                if not self._take(descriptor):
                    poll.unregister(descriptor)
            if self._limits.output is not None and self._printed > self._limits.output:
                return "output"
            if time.monotonic() - looked >= EVERY:
                looked = time.monotonic()
                if exceeded := self._exceeded():
                    return exceeded

    def _take(self, descriptor: int) -> bool:
        """Read what was printed, or told; False at its end."""
        piece = os.read(descriptor, 2**16)
        if descriptor == self._output[0]:
            self._printed += len(piece)
            self._tail = (self._tail + piece)[-TAIL:]
        else:
            *lines, self._partial = (self._partial + piece[: 2**12]).split(b"\n")
            self._partial = self._partial[:1000]
            if len(self._notes) < MOST_NOTES:
                texts = (line.decode("utf-8", "replace") for line in lines)
                self._notes = list(dict.fromkeys([*self._notes, *texts]))
        return bool(piece)

    def _drain(self) -> None:
        """What was printed and told before the end."""
        for descriptor in (self._output[0], self._told[0]):
            os.set_blocking(descriptor, False)
            with contextlib.suppress(BlockingIOError):
                while self._take(descriptor):
                    pass

    def _exceeded(self) -> str | None:
        """The limit that is exceeded now, of processes and memory."""
        alive, since, refused = self._forks.read()
        if since or refused or (time.monotonic() - self._counted_at > SELDOM and self._started_some()):
            self._counted_at = time.monotonic()
            alive = len(self._processes())
            self._forks.counted(alive)
        if refused or alive > self._limits.processes:
            return "processes"
        return "oom" if self._uses_too_much(alive) else None

    def _started_some(self) -> bool:
        """Whether the machine has started any process since the last call: a look into one file, not into all."""
        before = self._last_pid
        try:
            with open("/proc/loadavg") as file:
                self._last_pid = file.read().rpartition(" ")[2]
        except OSError:  # not Linux
            return True
        return self._last_pid != before

    def _uses_too_much(self, alive: int) -> bool:
        """Whether all processes together take more memory than they may; what they share counts once."""
        family = [self._process] if alive <= 1 else self._processes()
        sizes = []
        for each in family:
            with contextlib.suppress(psutil.Error):
                sizes.append(each.memory_info().rss)
        if sum(sizes) <= self._limits.bytes:
            return False
        exact = 0
        for each in family:
            with contextlib.suppress(psutil.Error):
                full = each.memory_full_info()
                exact += getattr(full, "pss", full.rss)
        return exact > self._limits.bytes

    def _processes(self) -> list[psutil.Process]:
        """Alive among what the plugin started, its own process included."""
        alive = []
        for each in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if each.status() != psutil.STATUS_ZOMBIE:
                    alive.append(each)
        return alive

    def _end_all(self) -> int:
        """Kill until nothing is left; how many there were beside the plugin's own process. They are stopped first: a
        stopped process starts no other."""
        stopped: set[int] = set()
        seen: set[int] = set()
        while True:
            self._reap()
            family = {each.pid for each in self._processes()}
            seen |= family
            if fresh := family - stopped:
                for pid in fresh:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGSTOP)
                stopped |= fresh
                continue
            if not family and self._reap():
                return len(seen - {self._pid})
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)

    def _reap(self) -> bool:
        """Collect those that have ended; whether none is left."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return False
                if pid == self._pid:
                    self._status = status
        except ChildProcessError:
            return True


def _become_reaper() -> None:
    """Adopt the processes that a plugin leaves behind."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
