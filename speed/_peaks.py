"""Peak memory of every process of a command: `python -m speed._peaks COMMAND...` runs it, then prints a table.

Peaks are Linux's own (VmHWM), read twice a second; a process that lives for less may be missed.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time

import psutil
from tabulate import tabulate

PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
EVERY = 0.5  # seconds
KINDS = (  # what a command line begins with or contains -> what the process is
    ("ray::", "worker of Ray"),
    ("fork_server", "process of a plugin"),
    ("gcs_server", "Ray's own"),
    ("raylet", "Ray's own"),
    ("-m bench", "driver"),
)


def peaks(command: list[str]) -> tuple[int, dict[int, tuple[str, int, float]]]:
    """(exit code, process -> (kind, peak in bytes, seconds of CPU)) of a command and all that it starts."""
    seen: dict[int, tuple[str, int, float]] = {}
    with subprocess.Popen(command) as process:
        root = psutil.Process(process.pid)
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                for each in (root, *root.children(recursive=True)):
                    with contextlib.suppress(psutil.Error, OSError):
                        look(each, seen)
            time.sleep(EVERY)
    return process.returncode, seen


def look(process: psutil.Process, seen: dict[int, tuple[str, int, float]]) -> None:
    """Note what a process has taken up to now. A kind once known stays: Ray renames workers that idle."""
    with open(f"/proc/{process.pid}/status", encoding="ascii", errors="replace") as file:
        match = PEAK.search(file.read())
    line = " ".join(process.cmdline())
    kind = next((name for words, name in KINDS if words in line), "other")
    if process.pid in seen and kind == "other":
        kind = seen[process.pid][0]
    times = process.cpu_times()
    seen[process.pid] = kind, int(match[1]) * 1024 if match else 0, times.user + times.system


def main() -> None:
    """Run the command; exit with its code."""
    code, seen = peaks(sys.argv[1:])
    rows = sorted(((kind, pid, size / 2**20, cpu) for pid, (kind, size, cpu) in seen.items()), key=lambda row: -row[2])
    print(tabulate(rows, ["process", "pid", "peak MiB", "CPU s"], floatfmt=".0f"))
    sys.exit(code)


if __name__ == "__main__":
    main()
