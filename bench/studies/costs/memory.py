"""The peak of this process's resident memory above where it stood."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


class PeakMemory:
    """The record of the peak, begun anew where the system allows it (Linux).

    Elsewhere the peak since the process began is all that there is: what stays below it is not seen.
    """

    def __init__(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5")
            self._base = _status("VmRSS")
        except OSError:
            self._base = _peak()

    def above(self) -> int:
        """Bytes that the peak lies above the resident memory at the beginning."""
        return _peak() - self._base


def _peak() -> int:
    try:
        return _status("VmHWM")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _status(key: str) -> int:
    """Bytes, of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(key + ":")))
