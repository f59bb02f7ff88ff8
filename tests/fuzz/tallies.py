"""Inputs read and counted in this process: how many were refused, what was at fault, how long they took."""

from __future__ import annotations

import os
import resource
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from bench.errors import UserError
from tests.fuzz import reader as readers_folder
from tests.fuzz.changes import Files
from tests.fuzz.reader import Reader
from tests.worlds import ROOT

LONGEST = 1.0  # seconds of process time that one input may take
WAITING = 2.0  # seconds of wall time between two looks at whether a process waits for a core, or for what never comes
SHRINKS = 400  # attempts to make an input at fault smaller


class Hang(BaseException):
    """An input took too long; no `except Exception` of a reader takes it for its own."""


@dataclass
class Tally:
    """What the inputs of a reader came to."""

    inputs: int = 0
    refused: int = 0
    slowest: float = 0.0  # seconds of process time
    seconds: float = 0.0  # of process time, all inputs together
    peak: float = 0.0  # GiB that the process grew by
    faults: dict[str, str] = field(default_factory=dict)  # the place of an error -> the input that shows it

    def add(self, other: Tally) -> None:
        """Count another part of the same inputs too."""
        self.inputs += other.inputs
        self.refused += other.refused
        self.seconds += other.seconds
        self.slowest, self.peak = max(self.slowest, other.slowest), max(self.peak, other.peak)
        self.faults = {**other.faults, **self.faults}


def input_of(reader: Reader, name: str, seed: int, number: int) -> Files:
    """The input that is called `name/seed/number`."""
    return reader.make(Random(f"{name}/{seed}/{number}"))


def fault_of(reader: Reader, files: Files) -> tuple[str, bool]:
    """(the place of an undeclared error, "" where there was none; whether the input was refused as declared)."""
    try:
        with _timed():
            reader.read(files)
    except UserError as error:
        return ("" if str(error).strip() else "UserError without a message"), True
    except Hang as error:
        return f"no end at {_line(error)}", False
    except Exception as error:
        return f"{type(error).__name__} at {_line(error)}", False
    return "", False


def read_inputs(
    reader: Reader, name: str, seed: int, numbers: range, begin: Callable[[int], object] = lambda _: None
) -> Tally:
    """Read so many inputs of a reader, in the folder that was placed; `begin` is called with each number."""
    tally, before, start = Tally(), _peak(), time.process_time()
    for number in numbers:
        begin(number)
        files = input_of(reader, name, seed, number)
        began = time.process_time()
        fault, refused = fault_of(reader, files)
        took = time.process_time() - began
        tally.inputs += 1
        tally.refused += refused
        tally.slowest = max(tally.slowest, took)
        if not fault and took > LONGEST:
            fault = f"{took:.1f} s"
        if fault:
            tally.faults.setdefault(fault, f"{name}/{seed}/{number}")
    tally.seconds, tally.peak = time.process_time() - start, _peak() - before
    return tally


def shrunk(reader: Reader, files: Files, fault: str) -> Files:
    """A smaller input with the same fault: files left out, then parts of files, halves before bytes."""
    left = SHRINKS

    def same(candidate: Files) -> bool:
        nonlocal left
        left -= 1
        return left >= 0 and fault_of(reader, candidate)[0] == fault

    for name in sorted(files):
        without = {each: data for each, data in files.items() if each != name}
        if without and same(without):
            files = without
    for name in sorted(files):
        step = max(1, len(files[name]) // 2)
        while left > 0:
            at = 0
            while at < len(files[name]) and left > 0:
                data = files[name]
                candidate = {**files, name: data[:at] + data[at + step :]}
                if same(candidate):
                    files = candidate
                else:
                    at += step
            if step == 1:
                break
            step //= 2
    return files


@contextmanager
def laid_out(parent: Path | None = None) -> Iterator[None]:
    """A folder for inputs, below `parent` or in memory, where the system has such a place; signals end an input that
    takes too long."""
    memory = parent or ("/dev/shm" if os.access("/dev/shm", os.W_OK) else None)

    handlers = {number: signal.signal(number, _stop) for number in (signal.SIGPROF, signal.SIGALRM)}
    try:
        with tempfile.TemporaryDirectory(prefix="fuzz-", dir=memory, ignore_cleanup_errors=True) as name:
            readers_folder.place(Path(name))
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _timed() -> Iterator[None]:
    """Have Hang raised in the block once it has computed too long, or waits for what does not come."""
    global _ready
    _ready = None
    signal.setitimer(signal.ITIMER_PROF, LONGEST * 1.05)
    signal.setitimer(signal.ITIMER_REAL, WAITING, WAITING)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


_ready: float | None = None  # seconds that this process had been ready to compute, when an input was last looked at


def _stop(number: int, _: object) -> None:
    """Raise Hang, unless the process was ready to compute since the last look, and only lacked a core."""
    global _ready
    before, _ready = _ready, _seconds_ready()
    if number == signal.SIGPROF or (before is not None and _ready - before < WAITING / 10):
        raise Hang


def _seconds_ready() -> float:
    """Seconds that the main thread has computed, or has waited for a core."""
    try:
        computed, waited = Path("/proc/self/schedstat").read_text().split()[:2]
    except OSError:  # not told here: the watchdog ends what waits
        return time.monotonic()
    return (int(computed) + int(waited)) / 1e9


def _line(error: BaseException) -> str:
    trace = error.__traceback__
    # Of Hang the place is where the signal came, not its handler.
    while trace is not None and trace.tb_next is not None and trace.tb_next.tb_frame.f_code is not _stop.__code__:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f"{trace.tb_frame.f_code.co_filename.removeprefix(f'{ROOT}/')}:{trace.tb_lineno}"


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
