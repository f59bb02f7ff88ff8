"""While Ray starts, a server of it that dies ends the process in one sentence.

Ray's client would wait for such a server for a minute, in compiled code that no exception reaches, and then end the
process without a word of what to do. Once stages run, bench/driver/pulse.py looks after the servers instead.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import ray

from bench.driver.faults import RayLost
from bench.driver.on_ray.lean_node import LeanNode

SERVERS = ("gcs_server", "raylet")
EVERY = 0.25  # seconds between two looks
PATIENCE = 5.0  # seconds in which Ray may notice by itself, and raise an exception


@contextlib.contextmanager
def servers_watched(clean_up: Callable[[], object]) -> Iterator[None]:
    """End this process with exit code 2 where a server that it started dies inside the block; `clean_up` comes first.

    An exception would not do: the main thread waits in compiled code.
    """
    over, LeanNode.latest = threading.Event(), None  # a node of before is none of this start
    threading.Thread(target=_watch, args=(over, clean_up), daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(over: threading.Event, clean_up: Callable[[], object]) -> None:
    while not over.wait(EVERY):
        node: Any = LeanNode.latest or ray._private.worker._global_node
        ended = dead_server(node)
        if ended is None or over.wait(PATIENCE):
            continue
        lost = RayLost(f"Ray's server '{ended}' ended while Ray was started.")
        print(f"Error: {lost}", file=sys.stderr, flush=True)
        with contextlib.suppress(Exception):
            node.kill_all_processes(check_alive=False, allow_graceful=False)
        clean_up()
        os._exit(lost.exit_code)


def dead_server(node: Any) -> str | None:
    """The name of a server that the node has started and that has ended; None where all live."""
    processes = getattr(node, "all_processes", {})
    return next((name for name in SERVERS for each in processes.get(name, ()) if each.process.poll() is not None), None)
