"""What lies in a store, by kind: how many files, how many bytes, how old."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.artifacts.size_limits import STORE_LIMIT, free_bytes
from bench.photographs.cache_limits import cache_limit, shown
from bench.reports.table import Column, Page, Table, by_key, typed

SUBJECTS = {
    "dataset": "descriptions of data sets",
    "datasets": "data sets, and decoded photographs (--cache-limit)",
    "train-split": "copies of training splits, for the processes of methods",
    "teacher": "teachers that were trained or fetched here",
    "backbone": "further networks of methods",
    "features": "teachers' features of training splits",
    "logits": "teachers' logits of training splits",
    "scoring-labels": "teachers' soft labels of training splits",
    "dynamics": "class probabilities of training dynamics",
    "dynamics-scores": "scores of training dynamics",
    "condensed": "condensed sets",
    "raw-labels": "raw labels that compressors share (--keep-labels)",
    "label-norms": "norms of teachers' labels",
    "labels": "encoded labels",
    "network-labels": "labels that `labels` studies",
    "checkpoints": "checkpoints of trainings and methods that were stopped",
    "scratch": "folders of plugins at work",
}
DAY = 86_400.0  # seconds


@dataclass(frozen=True)
class Holding:
    """One kind of what lies in a store."""

    kind: str
    files: int
    size: int  # bytes
    oldest: float  # seconds since the epoch
    newest: float


def holdings(root: Path) -> list[Holding]:
    """The kinds in a store, the largest first; a folder is a kind. What goes away meanwhile is left out."""
    kinds = []
    for folder in root.iterdir() if root.is_dir() else ():
        if folder.is_dir() and (states := list(_states(folder))):
            times = [state.st_mtime for state in states]
            size = sum(state.st_size for state in states)
            kinds.append(Holding(folder.name, len(states), size, min(times), max(times)))
    return sorted(kinds, key=lambda each: (-each.size, each.kind))


def _states(folder: Path) -> Iterator[os.stat_result]:
    for path, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".lock"):
                continue
            try:
                yield os.stat(os.path.join(path, name), follow_symlinks=False)
            except OSError:
                continue


COLUMNS = (
    Column("kind", heading="kind", left=True),
    Column("what", heading="what", left=True),
    Column("files", "Int64", "files", lambda value: f"{value:,}"),
    Column("bytes", "Int64", "size", lambda value: shown(int(value))),
    Column("newest_days", "Float64", "newest", lambda value: age(value)),
    Column("oldest_days", "Float64", "oldest", lambda value: age(value)),
)


def contents(root: Path, now: float) -> Page:
    """The kinds as a page; `now` in seconds since the epoch."""
    rows = [
        {
            "kind": each.kind,
            "what": SUBJECTS.get(each.kind, ""),
            "files": each.files,
            "bytes": each.size,
            "newest_days": (now - each.newest) / DAY,
            "oldest_days": (now - each.oldest) / DAY,
        }
        for each in holdings(root)
    ]
    frame = typed(by_key(COLUMNS), rows)
    return Page([Table(COLUMNS, [rows], below=summary(root))] if rows else [], frame, nothing=summary(root))


def age(days: float) -> str:
    """A time in days as it is told: 3 days, 5 h, 2 min."""
    if days >= 1:
        return f"{days:.0f} day{'' if round(days) == 1 else 's'}"
    minutes = max(0, round(days * 24 * 60))
    return f"{minutes // 60} h" if minutes >= 60 else f"{minutes} min"


def summary(root: Path) -> str:
    """All kinds together, the store's limits, and what its disk has left."""
    total = sum(each.size for each in holdings(root))
    limit = STORE_LIMIT.bytes()
    allowed = "no limit (--store-limit)" if limit is None else f"limit {shown(limit)}"
    return (
        f"{root}: {shown(total)}, {allowed}; decoded photographs at most {shown(cache_limit())}. "
        f"Its disk has {shown(free_bytes(root))} left."
    )
