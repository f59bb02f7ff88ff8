"""Sizes that the user sets for a store: of the raw labels that are kept, and of all that lies there.

Both are known to this process and to all that it starts by a variable of the environment. The limit of decoded
photographs is in bench/photographs/cache_limits.py.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.errors import MachineError
from bench.photographs import cache_limits
from bench.photographs.cache_limits import parse_size, shown

LEAST_FREE = 256 * 10**6  # bytes of a disk that no artifact takes


@dataclass(frozen=True)
class SizeLimit:
    """A size that an option and a variable set; None where neither does and there is no default."""

    option: str
    variable: str
    default: str | None

    def place(self, text: str) -> None:
        """Make the option's value known to this process and to all that it starts. Raises UserError where it is no
        size."""
        parse_size(text, self.option)
        os.environ[self.variable] = text

    def bytes(self) -> int | None:
        """The limit. Raises UserError where the variable holds no size."""
        text = os.environ.get(self.variable) or self.default
        return None if text is None else parse_size(text, f"${self.variable}")


KEEP_LABELS = SizeLimit("--keep-labels", "CONDENSEBENCH_KEEP_LABELS", "40GB")
STORE_LIMIT = SizeLimit("--store-limit", "CONDENSEBENCH_STORE_LIMIT", None)


def keep_limit() -> int:
    """Bytes of raw labels that may be kept in a store; 0: none are kept. Raises UserError."""
    return KEEP_LABELS.bytes() or 0


def given() -> dict[str, str]:
    """The variables that are set here, as worker processes are told of them, wherever they run."""
    names = (cache_limits.VARIABLE, KEEP_LABELS.variable, STORE_LIMIT.variable)
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def place(variables: Mapping[str, str], *, ours_first: bool) -> None:
    """Take over the variables of the process that started this one. `ours_first`: where this machine has a value of its
    own, that one counts."""
    for name, value in variables.items():
        if not (ours_first and name in os.environ):
            os.environ[name] = value


def used_bytes(root: Path) -> int:
    """What lies below a folder, in bytes; a file that goes away meanwhile is not counted."""
    total, pending = 0, [os.fspath(root)]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
            else:
                try:
                    total += entry.stat(follow_symlinks=False).st_size
                except OSError:
                    continue
    return total


def refuse_if_too_large(root: Path, size: int, what: str) -> None:
    """Raise MachineError where so many bytes more would exceed the store's limit or fill its disk: what is refused
    early leaves no half of a file, and nobody else without room."""
    advice = (
        f"Type condensebench store --store {root} to see what lies there, condensebench store prune to remove what no "
        f"record needs"
    )
    limit = STORE_LIMIT.bytes()
    if limit is not None and (used := used_bytes(root)) + size > limit:
        raise MachineError(
            f"{what} takes {shown(size)}, beside {shown(used)} that {root} holds; the limit is {shown(limit)}. "
            f"{advice}, or {STORE_LIMIT.option} SIZE."
        )
    if size > LEAST_FREE and size + LEAST_FREE > (free := free_bytes(root)):
        raise MachineError(
            f"{what} takes {shown(size)}, and the disk of {root} has {shown(free)} left. {advice}, or name another "
            f"folder with --store."
        )


def free_bytes(root: Path) -> int:
    """Of the disk that a folder is on, or will be."""
    place = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    return shutil.disk_usage(place).free
