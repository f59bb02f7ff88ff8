"""Record files: lines of JSON, each written the moment its trial ends, and never changed afterwards.

Lines are only ever appended; the last line of a trial counts. An edited line is found by its digest, a torn one by its
syntax; both are left out and reported.
"""

from __future__ import annotations

import fcntl
import heapq
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Literal, TypeVar

from bench.errors import MachineError, UserError
from bench.records.lean import LeanReader, LeanRecord
from bench.records.lines import lines_of, record_files, record_of, whole_fields
from bench.records.problems import Loaded, Problem
from bench.records.schema import CondensedSet, Failure, LabelBytes, Record, Regime, now

__all__ = [
    "CondensedSet",
    "Failure",
    "LabelBytes",
    "LeanRecord",
    "Loaded",
    "Problem",
    "ReadRecord",
    "Record",
    "Regime",
    "State",
    "Whereabouts",
    "append",
    "latest",
    "load",
    "locked",
    "merge",
    "now",
    "required",
    "scan",
    "status_of",
]

ReadRecord = Record | LeanRecord  # what reports and checks take: they read the same fields of both
AnyRecord = TypeVar("AnyRecord", Record, LeanRecord, Record | LeanRecord)
State = Literal["done", "missing", "stale", "failed"]


# --- writing --------------------------------------------------------------------------------------------------------


def append(path: str | Path, record: Record) -> None:
    """Append one line and return once it is on the disk.

    A last line that a crash cut off is ended first, so that the new line stands by itself. One writer at a time: hold
    `locked` on the folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not os.path.exists(path)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        data = (b"\n" if torn else b"") + record.line().encode() + b"\n"
        while data:  # one write, unless the disk takes less (a signal, a quota)
            data = data[os.write(descriptor, data) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:  # the file's name must survive a crash as well
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Whereabouts:
    """Where the record file of a run lies on the disk, so that it is noticed when the file or its folder goes away.

    `append` would make both anew, and nobody would miss the lines that were there.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self.note()

    def note(self) -> None:
        """Remember the folder, the file and its size, as they are now."""
        self._folder = _identity(self._path.parent)
        self._file = _identity(self._path)
        self._size = self._path.stat().st_size if self._file is not None else 0
        self._states = self._record_files()

    def _record_files(self) -> dict[str, tuple[int, int, int]]:
        """Every record file of the folder -> (its number, bytes, time of the last change)."""
        states = {}
        for path in self._path.parent.glob("*.jsonl"):
            with suppress(FileNotFoundError):
                status = path.stat()
                states[path.name] = status.st_ino, status.st_size, status.st_mtime_ns
        return states

    def check(self) -> None:
        """Raise MachineError unless folder and file are those that were noted, and no line is gone."""
        if _identity(self._path.parent) != self._folder:
            raise MachineError(f"{self._path.parent} was deleted or replaced while the run was writing to it. {_LOST}")
        if self._file is not None and (_identity(self._path) != self._file or self._path.stat().st_size < self._size):
            raise MachineError(f"{self._path} was deleted, replaced or cut while the run was writing to it. {_LOST}")
        now = self._record_files()
        if changed := sorted(name for name in {*now, *self._states} if now.get(name) != self._states.get(name)):
            raise MachineError(
                f"{self._path.parent / changed[0]} was written by something else than this run, which alone may write "
                f"there while it runs. A plugin may have done it: `condensebench check records {self._path.parent}` "
                f"names records that cannot be. Restore the file, then type the same command again."
            )


_LOST = "The records that it held are gone; the same command runs their trials again."


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and number of a file or folder; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Be the only run that writes to `folder` (created if need be). The lock ends with the process, however it ends.

    Raises UserError where another run holds it, and where the file system has no locks.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(
                f"another run (process {file.read().strip() or 'unknown'}) is writing to {folder}. "
                "Wait until it ends, or give this one its own folder: --results OTHER_DIR"
            ) from None
        except OSError as error:  # ENOSYS, ENOLCK: some network file systems
            raise UserError(
                f"{folder} cannot be locked ({error.strerror}): its file system does not keep two runs apart. Give the "
                "run a folder on another disk: --results OTHER_DIR"
            ) from None
        with suppress(OSError):  # on a full disk the lock holds all the same; only its message lacks the number
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), str(os.getpid()).encode())
        yield


# --- reading --------------------------------------------------------------------------------------------------------


def load(path: str | Path) -> Loaded[Record]:
    """Read one record file, or every *.jsonl of a folder.

    Lines that cannot be read and lines that were edited are left out and reported. Raises UserError where there is no
    such folder or file, where a file holds something else, and where all records come from a newer version.
    """
    return _load(Path(path), _record)


def scan(path: str | Path) -> Loaded[LeanRecord]:
    """`load`, for tables and checks: the same records in a tenth of the time and memory, without their provenance."""
    return _load(Path(path), LeanReader().read)


def required(loaded: Loaded[AnyRecord], path: str | Path) -> Loaded[AnyRecord]:
    """What was read, for verbs that have nothing to do without records. Raises UserError where there is no line."""
    if not loaded.records and not loaded.problems:
        raise UserError(f"{path} holds no records. Make some with: condensebench run --results {path}")
    return loaded


def _record(line: bytes, place: str) -> Record | Problem:
    fields = whole_fields(line, place)
    return fields if isinstance(fields, Problem) else record_of(fields, place)


def _load(path: Path, read: Callable[[bytes, str], AnyRecord | Problem]) -> Loaded[AnyRecord]:
    loaded: Loaded[AnyRecord] = Loaded()
    by_file: list[list[tuple[AnyRecord, str]]] = []
    for file in record_files(path):
        pairs = []
        if not os.path.isfile(file):  # a pipe would be waited for
            loaded.problems.append(Problem("torn", "WARNING", f"{file}:0", "no regular file; it is left out"))
            continue
        for number, line in lines_of(file):
            place = f"{file}:{number}"
            answer = read(line, place)
            if isinstance(answer, Problem):
                loaded.problems.append(answer)
            else:
                pairs.append((answer, place))
        by_file.append(pairs)
    # Each file keeps its own order (append order is the truth, clocks are not); files interleave by time.
    several = len(by_file) > 1
    ordered = heapq.merge(*by_file, key=lambda pair: pair[0].finished) if several else chain(*by_file)
    for record, place in ordered:
        loaded.records.append(record)
        loaded.places.append(place)
    newer = next((problem for problem in loaded.problems if problem.kind == "newer"), None)
    if newer is not None and not loaded.records:
        raise UserError(f"{newer.place}: {newer.text}")
    return loaded


# --- which records count --------------------------------------------------------------------------------------------


def latest(records: Iterable[AnyRecord]) -> list[AnyRecord]:
    """One record per trial, the last, in the order in which the trials first appear."""
    return list({record.id: record for record in records}.values())


def merge(paths: Iterable[str | Path]) -> Loaded[Record]:
    """The union of several folders or files; a line that stands in more than one of them counts once."""
    parts = [load(path) for path in paths]
    pairs = (zip(part.records, part.places, strict=True) for part in parts)
    ordered = heapq.merge(*pairs, key=lambda pair: pair[0].finished)
    once = {record.digest: (record, where) for record, where in ordered}
    return Loaded(
        records=[record for record, _ in once.values()],
        places=[where for _, where in once.values()],
        problems=[problem for part in parts for problem in part.problems],
    )


def status_of(
    trial_id: str, made_by: Mapping[str, str | None], records: Iterable[ReadRecord] | Mapping[str, ReadRecord]
) -> State:
    """Whether a trial still has to run, judged by its last record, the one that a leaderboard shows.

    done: ok or infeasible, made by the same digests. failed: failed under the same digests. stale: made by others.
    For many trials hand in `{record.id: record for record in records}`, which is looked up, not searched.
    """
    if isinstance(records, Mapping):
        last = records.get(trial_id)
    else:
        last = next((record for record in reversed(list(records)) if record.id == trial_id), None)
    if last is None:
        return "missing"
    if last.made_by != dict(made_by):
        return "stale"
    return "failed" if last.status == "failed" else "done"
