"""The peak of memory above where it stood: of this process, or of its GPU."""

from __future__ import annotations

import gc
import resource
import sys
from pathlib import Path

import torch

from bench.machine import hand_back_freed_memory


class PeakMemory:
    """The record of the peak, begun anew where the system allows it.

    On a processor that is Linux. Elsewhere the peak since the process began is all that there is: what stays below it
    is not seen, and `exact` is False. On a GPU it is what torch allocates, which kernels and its own reserve exceed.

    Memory that was freed before is handed back to the system first: a process that worked before would else work within
    it, and seem to need nothing. What libraries load on first use counts for whoever comes first in a process.

    Args:
        device: whose memory.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device, self.exact = torch.device(device), True
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._base = torch.cuda.memory_allocated(self._device)
            return
        gc.collect()
        hand_back_freed_memory()
        try:
            Path("/proc/self/clear_refs").write_text("5")
            self._base = _status("VmRSS")
        except OSError:
            self._base, self.exact = _peak(), False

    def above(self) -> int:
        """Bytes that the peak lies above the memory at the beginning; at least 0."""
        cuda = self._device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self._device) if cuda else _peak()
        return max(0, peak - self._base)


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
