"""What a method costs: process time and peak memory of one condensation, in a fresh process with one thread.

What methods share (features, logits, training dynamics, scoring labels, further networks) is made once and its time
told apart. A process that had to make some of it is followed by another that finds it, and the second one's figures
count: neither time nor memory depends on which method came first.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from bench.artifacts.opened import TrainSplit
from bench.artifacts.refs import DatasetRef, Workspace
from bench.artifacts.store import Artifact, Store
from bench.driver.outcome import Outcome, attempt, failure
from bench.plugins.registry import Registry
from bench.plugins.spec import Spec, parse
from bench.stages.condense import lent_teacher
from bench.stages.context import HarnessContext
from bench.stages.method_call import build_condensed
from bench.studies.pictures.condensed_sets import SetName
from bench.teachers.teacher_files import TeacherRef, UnusedTeacher
from bench.training.peak_memory import PeakMemory

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Cost:
    """Of one method on one data set at one number of images per class."""

    seconds: float  # process time of the condensation, without what is shared
    wall: float  # the same by the clock on the wall
    peak_bytes: int  # above the interpreter, the libraries, the training images and the teacher
    shared: Mapping[str, float] = field(
        default_factory=dict
    )  # what it uses of what is shared -> process time of making


@dataclass(frozen=True)
class _Measured:
    outcome: Outcome  # of the method
    seconds: float = math.nan  # process time, that of making shared artifacts included
    wall: float = math.nan
    peak_bytes: int = 0
    addresses: tuple[str, ...] = ()  # of the shared artifacts that were asked for
    making: Mapping[str, float] = field(default_factory=dict)  # those of them that were made here -> process time


class _Ledger(Store):
    """A store that tells what was asked of it, and what it took to make what was not there."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.addresses: dict[str, None] = {}
        self.making: dict[str, float] = {}

    def get(
        self, kind: str, inputs: Mapping[str, Any], make: Callable[[], tuple[Mapping[str, Any], Mapping[str, Any]]]
    ) -> Artifact:
        """As Store.get."""
        started = time.process_time()
        absent = not self.path(kind, inputs).is_file()
        artifact = super().get(kind, inputs, make)
        address = self.relative(artifact)
        self.addresses[address] = None
        if absent:
            self.making[address] = time.process_time() - started
        return artifact


class Costs:
    """Measures methods one after the other; what they share lies in `store`, which should be empty at first."""

    def __init__(self, registry: Registry, store: Path) -> None:
        self._registry, self._store = registry, store
        self._making: dict[str, float] = {}

    def measure(self, name: SetName, dataset: DatasetRef, teacher: TeacherRef | UnusedTeacher) -> Outcome:
        """The cost of replicate 0, as the value of an outcome; or `failed` with what the method raised."""
        measured = self._run(name, dataset, teacher)
        if measured.outcome.status == "ok" and measured.making:
            measured = self._run(name, dataset, teacher)
        if measured.outcome.status != "ok":
            return measured.outcome
        shared: dict[str, float] = {}
        for address in measured.addresses:
            kind = address.partition("/")[0]
            shared[kind] = shared.get(kind, 0.0) + self._making.get(address, math.nan)  # nan: its maker was killed
        return Outcome("ok", Cost(measured.seconds, measured.wall, measured.peak_bytes, shared))

    def _run(self, name: SetName, dataset: DatasetRef, teacher: TeacherRef | UnusedTeacher) -> _Measured:
        with _one_thread_for_children(), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            try:
                measured = pool.submit(_measure, self._registry, self._store, name, dataset, teacher).result()
            except BrokenProcessPool as error:  # killed, for instance for its memory
                return _Measured(failure(error))
        self._making |= measured.making
        return measured


@contextmanager
def _one_thread_for_children() -> Iterator[None]:
    """Read by BLAS and OpenMP when they start, so it has to be there before a process begins."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _measure(
    registry: Registry, store: Path, name: SetName, dataset: DatasetRef, teacher: TeacherRef | UnusedTeacher
) -> _Measured:
    torch.set_num_threads(1)
    ws, ledger = Workspace(store, registry, "cpu"), _Ledger(store)
    data, spec = ws.described(dataset), parse(registry, "method", name.method)
    lent, normalisation = lent_teacher(registry, teacher, dataset)
    with ledger.scratch() as scratch:
        ctx = HarnessContext(
            store=ledger,
            registry=registry,
            data=data,
            dataset_digest=dataset.digest,
            teacher=lent,
            normalisation=normalisation,
            coordinates=("condense", str(spec), dataset.spec, name.ipc, 0),
            scratch=scratch,
            device="cpu",
        )
        # Loaded before the count begins: the method's modules, the network's, every training image.
        assert spec.plugin.module is not None
        assert lent is None or not ctx.teacher.training
        for _ in data.train.batches():
            pass
        memory, wall, cpu = PeakMemory(), time.perf_counter(), time.process_time()
        outcome = attempt(_condensed, spec, data.train, name.ipc, ctx)
        seconds, passed, peak = time.process_time() - cpu, time.perf_counter() - wall, memory.above()
    return _Measured(outcome, seconds, passed, peak, tuple(ledger.addresses), ledger.making)


def _condensed(spec: Spec, train: TrainSplit, ipc: int, ctx: HarnessContext) -> None:
    build_condensed(spec, train, ipc, ctx, balanced=not spec.plugin.unbalanced)  # images stay here: figures travel
