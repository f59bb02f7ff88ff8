"""What a website is made of: the records of several folders, ranked as the leaderboard ranks them, with findings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.checks.records.check_records import check_records
from bench.errors import UserError, with_short_paths
from bench.finding import Finding
from bench.lock.lock_file import released
from bench.plugins.registry import Registry
from bench.records import files
from bench.records.files import Loaded, Record
from bench.records.union import Disagreement, disagreements
from bench.reports.leaderboard.columns import COLUMNS, Standing
from bench.reports.leaderboard.rows import ranked
from bench.reports.table import Row, rows_of, typed

STALE_RULES = {"stale", "foreign-code", "other-dataset"}  # the record was made by other code or data than stand here


@dataclass(frozen=True)
class BoardRow:
    """A row of the leaderboard: its raw values, and the entry that it was made of."""

    standing: Standing
    values: Row
    findings: tuple[Finding, ...]  # of its records and of its cell
    places: tuple[str, ...]  # FILE:LINE of its records

    @property
    def stale(self) -> bool:
        """Whether a record of the row was made by other code or data than this installation's."""
        return any(finding.rule in STALE_RULES for finding in self.findings)


@dataclass(frozen=True)
class Source:
    """One folder of records, and what `check records` says of it."""

    folder: str
    loaded: Loaded[Record]
    findings: tuple[Finding, ...]
    summary: str


@dataclass(frozen=True)
class Material:
    """All that the pages show of records."""

    sources: tuple[Source, ...]
    records: tuple[Record, ...]  # the last one of every trial
    rows: tuple[BoardRow, ...]  # in the order of `condensebench leaderboard`
    disagreements: tuple[Disagreement, ...]
    registry: Registry

    @property
    def frame(self) -> pd.DataFrame:
        """`bench.reports.leaderboard.rows.leaderboard(...)` of the same records."""
        return typed(COLUMNS, [row.values for row in self.rows])

    @property
    def tampered(self) -> bool:
        """Whether a line of a folder was changed after it was written."""
        return any(source.loaded.tampered for source in self.sources)


def gather(folders: Sequence[str | Path], *, registry: Registry, store: Path) -> Material:
    """Read, join, rank and check the records of several folders.

    A line that stands in more than one folder counts once, and of several records of a trial the last one.

    Raises:
        UserError: a folder holds no records.
    """
    loaded = files.merge(folders)
    by_digest: dict[str, list[Finding]] = defaultdict(list)
    by_cell: dict[str, list[Finding]] = {}
    sources = []
    for folder in folders:
        source, places = _checked(folder, registry, store)
        sources.append(source)
        where = dict(zip(source.loaded.places, source.loaded.records, strict=True))
        for place, findings in places.items():
            if place in where:
                by_digest[where[place].digest] += findings
            else:
                by_cell[place] = [*by_cell.get(place, []), *findings]
    latest = files.latest(loaded.records)
    place_of = {record.digest: place for record, place in zip(loaded.records, loaded.places, strict=True)}
    pairs = ranked(latest, released())
    values = rows_of(typed(COLUMNS, [row for _, row in pairs]))
    rows = []
    for (standing, _), row in zip(pairs, values, strict=True):
        digests = [record.digest for record in standing.entry.whole]
        about = [finding for digest in digests for finding in by_digest.get(digest, [])]
        about += by_cell.get(f"{row['dataset']} ipc={row['ipc']} {row['protocol']} {row['student']}", [])
        rows.append(BoardRow(standing, row, tuple(dict.fromkeys(about)), tuple(place_of[each] for each in digests)))
    return Material(tuple(sources), tuple(latest), tuple(rows), tuple(disagreements(loaded)), registry)


def _checked(folder: str | Path, registry: Registry, store: Path) -> tuple[Source, dict[str, list[Finding]]]:
    """A folder with the findings of `check records`; a check that cannot be done is itself a finding."""
    loaded = files.required(files.load(folder), folder)
    try:
        checked = check_records(folder, registry=registry, store=store)
    except UserError as error:
        finding = Finding("not-checked", str(folder), with_short_paths(str(error)), "error")
        return Source(str(folder), loaded, (finding,), f"{len(loaded)} records, not checked"), {}
    places = {place: list(findings) for place, findings in checked.by_place.items()}
    return Source(str(folder), loaded, checked.findings, checked.summary), places
