"""Reading ahead: the next parts are read in a thread while the present one is worked on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

P = TypeVar("P")
T = TypeVar("T")

DEPTH = 2  # parts that are read ahead


def ahead(read: Callable[[P], T], parts: Iterable[P], depth: int = DEPTH) -> Iterator[T]:
    """`read` of every part, in order. At most `depth` parts are in memory beside the one that is worked on. What `read`
    raises is raised where its part would have come."""
    with ThreadPoolExecutor(1, "ahead") as pool:
        coming = deque[Future[T]]()
        try:
            for part in parts:
                coming.append(pool.submit(read, part))
                if len(coming) > depth:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()
