"""A shared leaderboard: a results folder that takes submissions, each whole or not at all.

| in the folder | what it is |
|---|---|
| `accepted-ID.jsonl` | the records that a submission brought; whoever reads the folder reads them |
| `plugins/` | the plugins that records name, for `--plugin DIR` |
| `submissions/ID/` | the submission as it came, and `accepted.json`: what was found when it was accepted |

The records are written last, under their name at once. A submission without them was never accepted: what a killed
command left of it is removed by the next.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.checks.records.board import Line
from bench.errors import UserError
from bench.records.files import Loaded, Record, load
from bench.records.lines import record_files
from bench.records.union import disagreements
from bench.submission.archive_contents import PLUGINS, Submission, as_json

SUBMISSIONS, ACCEPTED = "submissions", "accepted.json"
PARTIAL = ".partial"


@dataclass(frozen=True)
class Sorted:
    """The records of a submission against those of the leaderboard, by identity."""

    new: tuple[Line, ...]  # of trials without a result by the same code
    same: tuple[Line, ...]  # with the result that is there
    other_machine: tuple[tuple[Line, str], ...]  # another result, on a machine that need not agree; the text tells both
    contradicting: tuple[tuple[Line, str], ...]


class SharedBoard:
    """The folder of a shared leaderboard, which need not be there yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def lines(self) -> list[Line]:
        """Its records with their places. Raises UserError where the folder is a file, or holds a file that is no
        record file."""
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"--into {self.folder} is a file; name the folder of the leaderboard.")
        if not self.folder.is_dir() or not record_files(self.folder):
            return []
        loaded = load(self.folder)
        return [Line(record, where) for record, where in zip(loaded.records, loaded.places, strict=True)]

    def plugins(self) -> list[Path]:
        """The files of its plugins."""
        return sorted(path for path in (self.folder / PLUGINS).glob("*") if path.suffix in (".py", ".toml"))

    def has(self, submission: Submission) -> bool:
        """Whether it was accepted before."""
        return self._records(submission.id).is_file()

    def put(self, submission: Submission, records: Sequence[Record], verdict: object) -> None:
        """Add a submission and its records: all of it or, where this process is killed, nothing that counts.

        Needs the lock of the folder (`bench.records.files.locked`).
        """
        placed = [name for name in submission.plugins if not (self.folder / PLUGINS / name).exists()]
        place = self.folder / SUBMISSIONS / submission.id
        partial = place.with_name(f"{submission.id}{PARTIAL}")
        for name, content in submission.files.items():
            _write(partial / name, content)
        _write(partial / ACCEPTED, as_json({"verdict": verdict, "plugins": placed}))
        os.rename(partial, place)
        _sync(place.parent)
        for name in placed:
            _write(self.folder / PLUGINS / name, submission.plugins[name])
        lines = "".join(f"{record.line()}\n" for record in records)
        _write(self._records(submission.id), lines.encode())

    def sweep(self) -> None:
        """Remove what a killed command left. Needs the lock of the folder."""
        for place in sorted((self.folder / SUBMISSIONS).glob("*")):
            if place.name.endswith(PARTIAL) or not self._records(place.name).is_file():
                for name in _placed(place):
                    (self.folder / PLUGINS / name).unlink(missing_ok=True)
                shutil.rmtree(place)
        for folder in (self.folder, self.folder / PLUGINS):
            for path in folder.glob(f".*{PARTIAL}"):
                path.unlink()

    def _records(self, identity: str) -> Path:
        return self.folder / f"accepted-{identity}.jsonl"


def sort_by_identity(lines: Iterable[Line], present: Iterable[Line]) -> Sorted:
    """The records of a submission by what the leaderboard has of their trials; the rules are those of `merge`.

    A trial that is there with a result by the same code keeps it: nobody replaces another's number.
    """
    last = {line.record.id: line for line in present}
    groups: dict[str, list[tuple[Line, str]]] = {kind: [] for kind in ("new", "same", "other-machine", "conflict")}
    for line in lines:
        there = last.get(line.record.id)
        if there is None or there.record.status == "failed":
            groups["new"].append((line, ""))
            continue
        both = Loaded([there.whole, line.whole], [there.where, line.where])
        cases = disagreements(both)
        kind = cases[0].kind if cases else "same"
        if kind == "same" and there.record.made_by != line.record.made_by:
            kind = "other-code"  # the same result by newer code: the leaderboard's line may be stale
        groups["new" if kind == "other-code" else kind].append((line, cases[0].text if cases else ""))
    return Sorted(
        new=tuple(line for line, _ in groups["new"]),
        same=tuple(line for line, _ in groups["same"]),
        other_machine=tuple(groups["other-machine"]),
        contradicting=tuple(groups["conflict"]),
    )


def _placed(place: Path) -> list[str]:
    """The plugins that a submission which was never accepted put into the folder of all."""
    try:
        names = json.loads((place / ACCEPTED).read_bytes())["plugins"]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # it was killed before it put any
    return [name for name in names if isinstance(name, str) and Path(name).name == name]


def _write(path: Path, content: bytes) -> None:
    """Write a file so that it is whole or not there, on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}{PARTIAL}")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
