"""Outcome of a stage: its value or the reason of its failure. It travels from a worker as plain data."""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from bench.artifacts.store import DamagedArtifact
from bench.confinement.plugin_limits import PluginFailure
from bench.driver.faults import machine_fault
from bench.errors import InfeasibleError
from bench.texts import TRACEBACK, cut, without_orders


@dataclass(frozen=True)
class Outcome:
    """`ok` with a value, `infeasible` with the smallest feasible size, `failed` with the error, or `lost`: no record,
    with the fault of a machine as its message."""

    status: Literal["ok", "infeasible", "failed", "lost"]
    value: Any = None
    smallest_bytes: int | None = None
    error_type: str = ""
    message: str = ""
    traceback: str = ""
    notes: tuple[str, ...] = ()  # what the log says of it, beside the value

    def get(self) -> Any:
        """The value. Raises NoValue where there is none."""
        if self.status != "ok":
            raise NoValue(self)
        return self.value


class NoValue(Exception):
    """A stage has no value, which ends the trial; `outcome` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


def attempt(function: Callable[..., Any], *args: Any) -> Outcome:
    """Call, and turn an exception into an outcome: a plugin's failure is a result, not a crash of the harness."""
    try:
        return Outcome("ok", value=function(*args))
    except InfeasibleError as error:
        return Outcome("infeasible", smallest_bytes=error.smallest_bytes, message=cut(str(error)))
    except (Exception, SystemExit) as error:  # sys.exit() in a plugin must not look like a machine that died
        return fault_or_failure(error, traceback.format_exc())


def fault_or_failure(error: BaseException, trace: str = "") -> Outcome:
    """`lost` where a machine is to blame for an exception, else `failed`."""
    fault = machine_fault(error)
    if fault is None:
        return failure(error, trace)
    # The walk makes such a file anew, and tells it by this name.
    kind = type(error).__name__ if isinstance(error, DamagedArtifact) else ""
    return Outcome("lost", error_type=kind, message=fault)


def failure(error: BaseException, trace: str = "") -> Outcome:
    """A failed outcome from an exception: message and traceback without colours, and cut to `MESSAGE` and `TRACEBACK`
    characters. A plugin's has the name and the traceback that it had in the plugin's process."""
    cause = getattr(error, "cause", None)  # of Ray, whose own text names a process and a machine
    error = cause if isinstance(cause, BaseException) else error
    kind = type(error).__name__
    if isinstance(error, PluginFailure):
        kind, trace = without_orders(error.kind), error.trace or trace
    message, trace = without_orders(_message(error)), without_orders(trace)
    return Outcome("failed", error_type=kind, message=cut(message), traceback=cut(trace, TRACEBACK))


@contextlib.contextmanager
def notes_of_the_log() -> Iterator[list[str]]:
    """Collect what the harness's log says in the block: a worker's log is seen by nobody."""
    notes: list[str] = []

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            notes.append(cut(record.getMessage()))

    log, handler = logging.getLogger("condensebench"), Notes(logging.WARNING)
    before, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield notes
    finally:
        log.removeHandler(handler)
        log.propagate = before


def _message(error: BaseException) -> str:
    """The text of an exception; that of its own `__str__` may fail."""
    try:
        return str(error)
    except Exception as second:
        return f"its message cannot be read ({type(second).__name__})"


def ignore(*_: object) -> None:
    """The callback that does nothing."""
