"""Peak memory of every process of a command: `python -m speed._peaks COMMAND...` runs it, then prints a table.

Peaks are Linux's own (VmHWM), read four times a second; a process that lives for less may be missed. The largest sizes
seen of its two parts stand beside a peak: memory that is the process's own, and pages of files that it has mapped
(libraries, decoded photographs, artifacts), which all processes share and the system takes back.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from dataclasses import dataclass

import psutil
from tabulate import tabulate

SIZES = re.compile(r"^(VmHWM|RssAnon|RssFile):\s+(\d+) kB$", re.MULTILINE)
EVERY = 0.25  # seconds
KINDS = (  # what a command line begins with or contains -> what the process is
    ("ray::", "worker of Ray"),
    ("fork_server", "process of a plugin"),
    ("gcs_server", "Ray's own"),
    ("raylet", "Ray's own"),
    ("-m bench", "driver"),
)


@dataclass
class Seen:
    """What a process has taken up to now; sizes in bytes."""

    kind: str = "other"
    peak: int = 0
    anonymous: int = 0  # its own, at most
    files: int = 0  # mapped, at most
    cpu: float = 0.0  # seconds


def peaks(command: list[str]) -> tuple[int, dict[int, Seen]]:
    """(exit code, what each process took, by number) of a command and all that it starts."""
    seen: dict[int, Seen] = {}
    with subprocess.Popen(command) as process:
        root = psutil.Process(process.pid)
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                for each in (root, *root.children(recursive=True)):
                    with contextlib.suppress(psutil.Error, OSError):
                        look(each, seen)
            time.sleep(EVERY)
    return process.returncode, seen


def look(process: psutil.Process, seen: dict[int, Seen]) -> None:
    """Note what a process has taken up to now. A kind once known stays: Ray renames workers that idle."""
    with open(f"/proc/{process.pid}/status", encoding="ascii", errors="replace") as file:
        sizes = {name: int(size) * 1024 for name, size in SIZES.findall(file.read())}
    line, times = " ".join(process.cmdline()), process.cpu_times()
    entry = seen.setdefault(process.pid, Seen())
    entry.kind = next((name for words, name in KINDS if words in line), entry.kind)
    entry.peak = max(entry.peak, sizes.get("VmHWM", 0))
    entry.anonymous = max(entry.anonymous, sizes.get("RssAnon", 0))
    entry.files = max(entry.files, sizes.get("RssFile", 0))
    entry.cpu = times.user + times.system


def main() -> None:
    """Run the command; exit with its code."""
    code, seen = peaks(sys.argv[1:])
    rows = [
        (each.kind, pid, each.peak / 2**20, each.anonymous / 2**20, each.files / 2**20, each.cpu)
        for pid, each in sorted(seen.items(), key=lambda item: -item[1].peak)
    ]
    print(tabulate(rows, ["process", "pid", "peak MiB", "its own", "files", "CPU s"], floatfmt=".0f"))
    sys.exit(code)


if __name__ == "__main__":
    main()
