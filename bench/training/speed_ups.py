"""Speed-ups of a run: what makes training faster on a GPU and belongs to no recipe. Records tell which were on.

prefetch: the next batches are made by a thread of their own while the network trains; the bits stay.
compile: torch compiles the network's forward and backward pass; sums may have another order.
graphs: as compile, and the kernels of a step are launched as one CUDA graph.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch import nn

from bench.errors import UserError, unknown

VARIABLE = "CONDENSEBENCH_SPEED_UPS"  # of this process and of its workers
NAMES = ("compile", "graphs", "prefetch")
DEPTH = 2  # batches that are made ahead
BACKEND = "inductor"  # of torch.compile
T = TypeVar("T")


def place_speed_ups(names: Iterable[str]) -> None:
    """Let networks be trained with these from now on, in this process and in workers. Raises UserError."""
    chosen = sorted(dict.fromkeys(names))
    for name in chosen:
        if name not in NAMES:
            raise UserError(unknown("speed-up", name, NAMES))
    if chosen:
        os.environ[VARIABLE] = ",".join(chosen)
    else:
        os.environ.pop(VARIABLE, None)


def speed_ups() -> tuple[str, ...]:
    """Those of this process, by name."""
    return tuple(filter(None, os.environ.get(VARIABLE, "").split(",")))


def compiled(network: nn.Module) -> Any:
    """The network as the loop calls it: compiled where that is asked for. It shares its parameters."""
    chosen = speed_ups()
    if "graphs" in chosen:
        return torch.compile(network, backend=BACKEND, mode="reduce-overhead" if BACKEND == "inductor" else None)
    return torch.compile(network, backend=BACKEND) if "compile" in chosen else network


def ahead(batches: Iterator[T]) -> Iterator[T]:
    """The same batches, made ahead by a thread where that is asked for."""
    return _ahead(batches) if "prefetch" in speed_ups() else batches


def _ahead(batches: Iterator[T]) -> Iterator[T]:
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(DEPTH)
    left = threading.Event()

    def put(item: tuple[T | None, BaseException | None]) -> bool:
        while not left.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def make() -> None:
        try:
            for batch in batches:
                if not put((batch, None)):
                    return
            put((None, None))
        except BaseException as error:
            put((None, error))

    maker = threading.Thread(target=make, name="batches", daemon=True)
    maker.start()
    try:
        while True:
            batch, error = ready.get()
            if error is not None:
                raise error
            if batch is None:
                return
            yield batch
    finally:
        left.set()
        maker.join()
