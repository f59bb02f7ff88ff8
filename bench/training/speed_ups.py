"""Speed-ups of a run: what makes training faster on a GPU and belongs to no recipe. Records tell which were on.

prefetch: the next batches are made by a thread of their own while the network trains; the bits stay.
compile: torch compiles the network's forward and backward pass; sums may have another order.
graphs: as compile, and the kernels of a step are launched as one CUDA graph.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from bench.artifacts.ahead import ahead
from bench.errors import UserError, unknown

if TYPE_CHECKING:  # a driver reads the names, and loads no torch
    from torch import nn

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
    if not {"compile", "graphs"} & set(chosen):
        return network
    import torch

    if "graphs" in chosen:
        return torch.compile(network, backend=BACKEND, mode="reduce-overhead" if BACKEND == "inductor" else None)
    return torch.compile(network, backend=BACKEND)


def prefetched(batches: Iterator[T]) -> Iterator[T]:
    """The same batches, made by a thread while the ones before are used, where that is asked for."""
    if "prefetch" not in speed_ups():
        return batches
    coming = ahead(lambda _: next(batches, None), itertools.repeat(None), DEPTH)
    return (batch for batch in itertools.takewhile(lambda batch: batch is not None, coming) if batch is not None)
