"""What a run that was killed leaves on the disk: Ray's folders, unfinished artifacts, scratch folders, lock files.

Whatever is in use is locked by the process that uses it, and the system takes a lock away when a process ends, however
it ends. So what is not locked was left. The next run removes it, and says so. A process of Ray that was just starting
when its run ended makes the folder of the session again, without a lock: that was left too, once no process names it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

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
    with _locked_file() as lock:
        folder = lock.with_suffix("")
        try:
            folder.mkdir(mode=0o700)
            yield folder
        finally:
            _remove(folder, lock)


def sweep(store: Store) -> str:
    """Remove what killed runs left. Returns a sentence for the user; empty where there was nothing."""
    parts = []
    locks = {path if path.suffix == LOCK else path.with_name(f"{path.name}{LOCK}") for path in _of_all_runs()}
    if folders := sum(_remove_where_left(lock.with_suffix(""), lock) for lock in locks):
        parts.append(f"{_count(folders, 'folder')} of Ray in {sessions()}")
    left = store.sweep()
    parts += [_count(number, kind) for kind, number in left.items() if number]
    if not parts:
        return ""
    place = f" in {store.root}" if any(left.values()) else ""
    return f"Removed what a killed run had left: {', '.join(parts)}{place}."


def _of_all_runs() -> Iterator[Path]:
    """Folders of sessions and their locks."""
    return sessions().glob(f"{PREFIX}*")


@contextlib.contextmanager
def _locked_file() -> Iterator[Path]:
    """A new lock, locked. Another run may take it for one that was left before it is locked, and remove it."""
    while True:
        descriptor, name = tempfile.mkstemp(prefix=PREFIX, suffix=LOCK, dir=sessions())
        with open(descriptor, "w") as handle:
            with contextlib.suppress(OSError):  # without locks nobody sweeps either
                fcntl.flock(handle, fcntl.LOCK_EX)
            if os.path.exists(name):
                yield Path(name)
                return


def _unused(folder: Path) -> bool:
    """Whether a folder of this user's is one that no process has in its command line, as Ray's servers have."""
    try:
        if folder.lstat().st_uid != os.getuid():
            return False
    except OSError:  # it is gone
        return False
    lines = (process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"]))
    return not any(str(folder) in word for line in lines for word in line)


def _remove_where_left(folder: Path, lock: Path) -> bool:
    """Remove a session's folder if the process that locked it has ended; whether it had. What is another user's counts
    as in use. The lock is held meanwhile, so that no run that has just made it goes on with it."""
    try:
        with lock.open("r+") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(folder, lock)
    except FileNotFoundError:
        if not _unused(folder):
            return False
        _remove(folder, lock)
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
