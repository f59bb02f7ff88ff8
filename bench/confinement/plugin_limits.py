"""Limits of a plugin's processes, and the errors by which the harness learns how they ended."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

from bench.errors import UserError

SECONDS = 24 * 3600.0
OPENING = 600.0  # of the opening of a data set, where nothing else waits for it but a person
PROCESSES = 256
DIED, KILLED = "died", "killed"  # kinds of PluginDied
MEMORY_SHARE = 0.8  # of the machine's


@dataclass(frozen=True)
class Limits:
    """What the processes of one plugin may take together.

    Args:
        seconds: of one call, by the clock on the wall; what the harness computes for it meanwhile is not counted.
        memory: bytes; None: MEMORY_SHARE of the machine's.
        processes: alive at once, the plugin's own included.
        output: bytes that it may print; None: any number, they are thrown away.
    """

    seconds: float = SECONDS
    memory: int | None = None
    processes: int = PROCESSES
    output: int | None = None

    def __post_init__(self) -> None:
        for option, value in (("timeout", self.seconds), ("memory", self.memory), ("processes", self.processes)):
            if value is not None and not value > 0:
                raise UserError(f"--stage-{option} {value:g}: it must be above 0.")

    @property
    def bytes(self) -> int:
        """Bytes of memory."""
        return self.memory or int(MEMORY_SHARE * psutil.virtual_memory().total)

    def as_text(self) -> str:
        """As a record tells them: `86400 s, 256 processes, 80 % of memory`."""
        memory = f"{100 * MEMORY_SHARE:.0f} % of memory" if self.memory is None else f"{self.memory / 2**20:g} MiB"
        return f"{self.seconds:g} s, {self.processes} processes, {memory}"


class PluginFailure(Exception):
    """A plugin ended otherwise than by returning: `kind` is the name that a record gives it. `errno`: of an OSError."""

    def __init__(self, kind: str, message: str, trace: str = "", errno: int | None = None) -> None:
        super().__init__(message)
        self.kind, self.trace, self.errno = kind, trace, errno


class LimitExceeded(PluginFailure):
    """A limit was exceeded: `kind` is timeout, oom, processes or output."""


class PluginDied(PluginFailure):
    """The plugin's process ended in the middle of a call: `kind` is died, or killed where somebody else killed it."""
