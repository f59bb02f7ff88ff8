"""Bound on the memory that decoding takes. What a blob says of itself is a claim, and some claims are of terabytes.

A compressor that believes a damaged count asks for as much memory as it names. The bound has such a request fail, where
the machine would otherwise serve it and then end some process.
"""

from __future__ import annotations

import math
import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

FREE = 2**28  # bytes that decoding may take, however little is decoded
PER_BYTE = 64  # more, for each byte of the blobs and of the logits that are asked for
_TORCH = re.compile(r"allocate (\d+) bytes")
_lock = Lock()
_inside = 0  # blocks that are bounded now, in all threads


@contextmanager
def bounded_memory(most: int) -> Iterator[None]:
    """Have a request for memory fail that takes this process `most` bytes beyond what it holds, as long as the block
    runs. Elsewhere than on Linux nothing is bounded; inside of another such block the outer one counts."""
    before = _tighten(most)
    try:
        yield
    finally:
        _restore(before)


def refused(error: Exception, most: int) -> int | None:
    """Bytes that a request asked for and the bound refused; None where the error is another, or the machine itself has
    no room for `most` bytes."""
    shape, dtype = getattr(error, "shape", None), getattr(error, "dtype", None)
    if shape is not None and dtype is not None:  # numpy's
        size = int(math.prod(shape) * dtype.itemsize)
    elif found := _TORCH.search(str(error)):
        size = int(found[1])
    else:
        return None
    return size if size > most or _available() > most else None


def _tighten(most: int) -> tuple[int, int] | None:
    global _inside
    with _lock:
        _inside += 1
        try:
            held = int(Path("/proc/self/statm").read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")
        except OSError:  # not Linux
            return None
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        if _inside > 1 or 0 <= soft <= held + most:
            return None
        resource.setrlimit(resource.RLIMIT_DATA, (held + most, hard))
        return soft, hard


def _restore(before: tuple[int, int] | None) -> None:
    global _inside
    with _lock:
        _inside -= 1
        if before is not None:
            resource.setrlimit(resource.RLIMIT_DATA, before)


def _available() -> int:
    """Bytes that the machine has left; none where that is not known."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), 0)
