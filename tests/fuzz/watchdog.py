"""Inputs read by a process that is watched: one that hangs, dies or takes too much memory costs that input alone."""

from __future__ import annotations

import json
import mmap
import os
import resource
import signal
import struct
import time
from dataclasses import asdict
from pathlib import Path
from random import Random

from tests.fuzz.reader import Reader, folder
from tests.fuzz.tallies import LONGEST, Tally, laid_out, read_inputs

MEMORY = 2**30  # bytes that readers may take above the start
PATIENCE = 5 * LONGEST  # seconds of process time after which an input is ended from outside
SILENCE = 60.0  # seconds of wall time without any computing after which it is ended
LOOK = 0.1  # seconds between two looks


def watched(reader: Reader, name: str, seed: int, numbers: range) -> Tally:
    """Read the inputs in a child process. What it does not survive is a fault of that input; the next ones go on."""
    with laid_out():  # what a child that is killed leaves lies in it
        reader.make(Random(name))  # what good inputs are made from, once for all child processes
        return _watched(reader, name, seed, numbers)


def _watched(reader: Reader, name: str, seed: int, numbers: range) -> Tally:
    tally = Tally()
    while numbers:
        part, number, death = _in_child(reader, name, seed, numbers)
        if part is not None:
            tally.add(part)
            return tally
        # Of a child that died nothing comes back but the number that it was at: those before are read again.
        before = range(numbers.start, number)
        if before:
            tally.add(_watched(reader, name, seed, before))
        tally.add(Tally(inputs=1, faults={death: f"{name}/{seed}/{number}"}))
        numbers = range(number + 1, numbers.stop)
    return tally


def _in_child(reader: Reader, name: str, seed: int, numbers: range) -> tuple[Tally | None, int, str]:
    """(what the inputs came to; or the input at which the child died, and of what)."""
    place = mmap.mmap(-1, 8)  # the number that the child is at; both processes have it
    answers, write = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(answers)
            for stream in (1, 2):  # decoders and logs have much to say of such inputs
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            _bound_memory()
            with laid_out(folder()):
                tally = read_inputs(reader, name, seed, numbers, lambda number: struct.pack_into("q", place, 0, number))
            os.write(write, json.dumps(asdict(tally)).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    death = _watch(child, place)
    with os.fdopen(answers, "rb") as pipe:
        answer = pipe.read()
    number = struct.unpack_from("q", place, 0)[0]
    return (Tally(**json.loads(answer)), number, "") if not death else (None, number, death)


def _watch(child: int, place: mmap.mmap) -> str:
    """Wait for the child, and end it where an input takes too long. Returns what it died of, "" where it did not."""
    at, since, spent = -1, time.monotonic(), 0.0
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return "" if code == 0 else f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        number = struct.unpack_from("q", place, 0)[0]
        if number != at:
            at, since, spent = number, time.monotonic(), _process_time(child)
        elif _process_time(child) - spent > PATIENCE or (
            time.monotonic() - since > SILENCE and _process_time(child) - spent < LONGEST / 10
        ):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"no end after {PATIENCE:g} s of computing or {SILENCE:g} s of waiting"
        time.sleep(LOOK)


def _process_time(process: int) -> float:
    """Seconds that a living process has computed."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _bound_memory() -> None:
    """More than `MEMORY` above what this process has now is a MemoryError, or its end."""
    status = Path("/proc/self/status").read_text()
    has = int(status.partition("VmData:")[2].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (has + MEMORY, has + MEMORY))
