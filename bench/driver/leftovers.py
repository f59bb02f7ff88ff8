"""What a run that was killed leaves on the disk: Ray's folders, unfinished artifacts, scratch folders, lock files.

Whatever is in use is locked by the process that uses it, and the system takes a lock away when a process ends, however
it ends. So what is not locked was left. The next run removes it, and says so.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.artifacts.store import Store

PREFIX = "condensebench-ray-"
LOCK = ".lock"  # a file beside a session's folder, which its run keeps locked
ATTEMPTS = 20  # to remove a folder, a tenth of a second apart: Ray's processes take that long to end
# Ray's sockets stand in its folder, and the path of a socket holds no more than 107 bytes (macOS: 103).
LONGEST_PARENT = 12


def sessions() -> Path:
    """Where the folders of Ray's sessions lie: the system's temporary folder, unless its name is too long."""
    folder = Path(tempfile.gettempdir())
    return folder if len(str(folder).encode()) <= LONGEST_PARENT else Path("/tmp")


@contextlib.contextmanager
def session_folder() -> Iterator[Path]:
    """A folder for one Ray, removed afterwards. Raises OSError where none can be made."""
    descriptor, name = tempfile.mkstemp(prefix=PREFIX, suffix=LOCK, dir=sessions())
    lock, folder = Path(name), Path(name.removesuffix(LOCK))
    with open(descriptor, "w") as handle:
        with contextlib.suppress(OSError):  # without locks nobody sweeps either
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            folder.mkdir(mode=0o700)
            yield folder
        finally:
            _remove(folder, lock)


def sweep(store: Store) -> str:
    """Remove what killed runs left. Returns a sentence for the user; empty where there was nothing."""
    parts = []
    folders = [lock for lock in sessions().glob(f"{PREFIX}*{LOCK}") if _abandoned(lock)]
    for lock in folders:
        _remove(lock.with_suffix(""), lock)
    if folders:
        parts.append(f"{_count(len(folders), 'folder')} of Ray in {sessions()}")
    left = store.sweep()
    parts += [_count(number, kind) for kind, number in left.items() if number]
    if not parts:
        return ""
    place = f" in {store.root}" if any(left.values()) else ""
    return f"Removed what a killed run had left: {', '.join(parts)}{place}."


def _abandoned(lock: Path) -> bool:
    """Whether the process that locked a session's folder has ended. What is another user's counts as in use."""
    try:
        with lock.open("r+") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove(folder: Path, lock: Path) -> None:
    """Remove a session's folder; its lock stays for the next run where a process of Ray still writes to it."""
    for _ in range(ATTEMPTS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            lock.unlink(missing_ok=True)
            return
        time.sleep(0.1)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
