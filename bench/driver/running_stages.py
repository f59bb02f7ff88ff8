"""Which stages run now: a small text each, told by the worker that runs it to whoever shows it.

A worker names a stage by the ticket that the driver gave it. So the driver takes back what a killed worker said.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.training.progress_files import Sink, teller

Naming = Callable[[str], contextlib.AbstractContextManager[None]]  # tells of what is done within, by its name
ENDING = ".stage"  # of a file's name, after the ticket


@dataclass(frozen=True)
class RunningStage:
    """A stage that runs."""

    name: str  # for people
    teller: str  # the process that runs it, as its trainings are called (bench.training.progress_files)


def name_of(stage: str, args: Sequence[Any]) -> str:
    """What a stage does, in the words of the command line: `method sre2l on digits, 10 images a class`.

    Args:
        stage: one of bench.driver.on_ray.stage_table.STAGES.
        args: those of its function.
    """
    match stage, args:
        case "describe", (dataset, *_):
            return f"data set {dataset}: opening, digests"
        case "teach", (name, dataset, *_):
            return f"teacher {name} on {dataset.spec}"
        case "condense", (method, dataset, _, ipc, replicate, *_):
            return f"method {method} on {dataset.spec}, ipc {ipc}, replicate {replicate}"
        case "encode_labels", (trial, *_):
            budget = f"@{trial.budget}" if trial.budget else ""
            cell = f"{trial.method} on {trial.dataset}, ipc {trial.ipc}, {trial.protocol}"
            return f"labels of {cell}: {trial.compressor}{budget}"
        case _, (trial, *_):
            return f"student {trial}"
    return stage


@contextlib.contextmanager
def told(sink: Sink | None, ticket: str, stage: str, args: Sequence[Any]) -> Iterator[None]:
    """Tell of a stage while it runs; of none without a sink. What cannot be told is not, and the stage runs."""
    if sink is None or not ticket:
        yield
        return
    with told_as(name_of(stage, args), sink, ticket):
        yield


@contextlib.contextmanager
def told_as(name: str, sink: Sink, ticket: str) -> Iterator[None]:
    """Tell of something that this process does, by its name, until it is done."""
    file = f"{ticket}{ENDING}"
    with contextlib.suppress(Exception):
        sink(file, json.dumps(asdict(RunningStage(name, teller()))).encode())
    try:
        yield
    finally:
        with contextlib.suppress(Exception):
            sink(file, None)


def untold(name: str) -> contextlib.AbstractContextManager[None]:  # noqa: ARG001
    """A `Naming` that tells nobody."""
    return contextlib.nullcontext()


def nothing_named() -> contextlib.AbstractContextManager[Naming]:
    """Shows nothing; gives what names nothing."""
    return contextlib.nullcontext(untold)


def running_stages(folder: Path) -> dict[str, RunningStage]:
    """Ticket -> the stage that runs under it, of all that a folder tells."""
    stages = {}
    for file in sorted(folder.glob(f"*{ENDING}")):
        with contextlib.suppress(OSError, ValueError, TypeError):  # it ended, or is none
            stages[file.stem] = RunningStage(**json.loads(file.read_text(encoding="utf-8")))
    return stages
