"""Outcome of a stage: its value or the reason of its failure. It travels from a worker as plain data."""

from __future__ import annotations

import contextlib
import logging
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from bench.confinement.limits import PluginFailure
from bench.errors import InfeasibleError

MOST_MESSAGE, MOST_TRACE = 2_000, 20_000  # characters
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)")


@dataclass(frozen=True)
class Outcome:
    """`ok` with a value, `infeasible` with the smallest feasible size, or `failed` with the error."""

    status: Literal["ok", "infeasible", "failed"]
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
        return Outcome("infeasible", smallest_bytes=error.smallest_bytes, message=str(error))
    except (Exception, SystemExit) as error:  # sys.exit() in a plugin must not look like a machine that died
        return failure(error, traceback.format_exc())


def failure(error: BaseException, trace: str = "") -> Outcome:
    """A failed outcome from an exception; of a plugin's, by the name and the traceback that it had there. Texts are cut
    to a size, and carry no colours of a terminal."""
    kind, trace = (error.kind, error.trace or trace) if isinstance(error, PluginFailure) else (_name(error), trace)
    return Outcome(
        "failed", error_type=_plain(kind), message=_plain(_cut(_message(error))), traceback=_plain(trace[-MOST_TRACE:])
    )


@contextlib.contextmanager
def notes_of_the_log() -> Iterator[list[str]]:
    """Collect what the harness's log says in the block: a worker's log is seen by nobody."""
    notes: list[str] = []

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            notes.append(_cut(record.getMessage()))

    log, handler = logging.getLogger("condensebench"), Notes(logging.WARNING)
    before, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield notes
    finally:
        log.removeHandler(handler)
        log.propagate = before


def _name(error: BaseException) -> str:
    return type(error).__name__


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # of a plugin's own class
        return "(its message cannot be had)"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_MESSAGE else f"{text[:MOST_MESSAGE]} ... ({len(text)} characters)"


def _plain(text: str) -> str:
    """The text without the escape sequences of a terminal."""
    return _ESCAPES.sub("", text)


def ignore(*_: object) -> None:
    """The callback that does nothing."""
