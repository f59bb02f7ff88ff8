"""Faults of a machine, told from those of a method: they never become a record.

A full disk, a folder that went away, a machine that Ray lost: the trial is left out, and the same command runs it.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from bench.confinement.plugin_limits import PluginFailure
from bench.errors import MachineError
from bench.places import NotHere

# What the system says where a machine, not a program, is at its end.
ERRNOS = frozenset(
    (
        errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE,
        errno.ENOLCK, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EREMOTEIO,
    )
)  # fmt: skip
# Ray's exceptions that a task causes: what it raised, and the end of its process.
OF_A_TASK = ("RayTaskError", "WorkerCrashedError")
GPU_FULL = "GpuFull"  # error type of an outcome: a GPU's memory did not do
_OOM_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class RayLost(MachineError):
    """A server of Ray died, so that nothing can run any more."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} The run has ended. What had ended is recorded; the same command continues.")


def machine_fault(error: BaseException) -> str | None:
    """The message of an exception that a machine is to blame for, in one line; None where it is the method's."""
    cause = getattr(error, "cause", None)  # of Ray, where it wraps what a task raised
    error = cause if isinstance(cause, BaseException) else error
    if isinstance(error, MachineError | NotHere):
        return _line(str(error))
    if isinstance(error, OSError | PluginFailure) and error.errno in ERRNOS:
        place = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
        return f"{os.strerror(error.errno)}{place}"
    kind = type(error)
    if kind.__module__.partition(".")[0] == "ray" and not any(each.__name__ in OF_A_TASK for each in kind.__mro__):
        return f"Ray lost it ({kind.__name__}): {_line(str(error))}"
    return None


def memory_fault(error_type: str, message: str) -> str | None:
    """What is to be said where an exception tells that memory lacks, on the processor or on a GPU; else None."""
    if error_type in ("MemoryError", "_ArrayMemoryError") or "DefaultCPUAllocator" in message:
        return "the machine ran out of memory"
    if error_type == "OutOfMemoryError":  # of torch
        return "the device ran out of memory"
    return None


def oom_kills() -> int:
    """How many processes this machine has ended for want of memory since it started; 0 where that cannot be read."""
    try:
        match = _OOM_KILLS.search(Path("/proc/vmstat").read_text(encoding="ascii"))
    except OSError:
        return 0
    return int(match[1]) if match else 0


def _line(text: str) -> str:
    """The first sentence or line of a message: Ray's own go on for pages."""
    first = text.strip().partition("\n")[0]
    return first[:400]
