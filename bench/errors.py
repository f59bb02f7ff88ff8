"""The errors that are a user's or a plugin author's to read: shown as a message, never as a traceback."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path

_HERE = Path(__file__).resolve().parent.parent
_OWN_FILE = re.compile(re.escape(f"{_HERE}{os.sep}") + r"(?=(?:bench|methods|protocols)\b)")


def with_short_paths(text: str) -> str:
    """Files of this project as they are called in it (protocols/rded-v1.toml), wherever it lies; others as they are."""
    return _OWN_FILE.sub("", text)


_LONGEST_NAME = 200  # characters of a name that are compared with the known ones and shown


class UserError(Exception):
    """Bad input. The message says what was asked, where, what is allowed and what to type."""

    exit_code = 2  # of the program


class MachineError(UserError):
    """A machine is at its end: a disk, its memory, a folder, Ray. Never a method's failure; no record is written."""


class PluginError(UserError):
    """A plugin broke its contract. The message names the plugin, the rule and what was seen."""


class LockError(UserError):
    """What protocols/lock.json holds fast has moved. The message names the file or canary, and both values."""

    exit_code = 3


class CorruptBlobError(UserError, ValueError):
    """Encoded labels that their compressor cannot decode: damaged, or made by somebody to look like a label file."""


class InfeasibleError(Exception):
    """A byte budget cannot hold even the smallest code of a compressor.

    Not a failure: the trial gets the status `infeasible`, and `smallest_bytes` stands in its record.
    """

    def __init__(self, smallest_bytes: int, why: str = "") -> None:
        self.smallest_bytes = int(smallest_bytes)
        self.why = why
        super().__init__(f"smallest feasible size is {self.smallest_bytes} bytes{': ' + why if why else ''}")

    def __reduce__(self) -> tuple[type[InfeasibleError], tuple[int, str]]:
        return (InfeasibleError, (self.smallest_bytes, self.why))


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """The message for a name that nothing answers to."""
    known, name = sorted(known), str(name)[:_LONGEST_NAME]
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    return f"No {kind} is named '{name}'.{hint}\nKnown {kind}s: {', '.join(known) or '(none)'}."
