"""Entries under several students: how far condensed sets carry over to networks other than the protocol's own.

The verb `leaderboard --by student` prints what is built here. A row has one condensed set and one label set; its
columns differ by the network that was trained on them, and by nothing else that a protocol fixes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from bench.records.files import ReadRecord
from bench.records.schema import FIXED
from bench.reports.leaderboard.by_protocol import result_cell
from bench.reports.leaderboard.columns import stored_as
from bench.reports.leaderboard.entries import Entry, entries_of, entry_order, natural
from bench.reports.leaderboard.page import NO_RECORDS
from bench.reports.printers import printed
from bench.reports.quantities import COMPRESSOR_WIDTH, METHOD_WIDTH, MISSING, marked, unofficial_notes
from bench.reports.table import Column, Page, Split, Table, by_key, rows_of, typed
from bench.stats import intervals
from bench.trials.plan import UNCOMPRESSED

# In the order of CSV and JSON. Tables for people begin with those that have a heading; a column for each student
# follows, and the mean over those students that every row of the table has.
COLUMNS = by_key(
    (
        Column("dataset", "str"),
        Column("protocol", "str"),
        Column("labels", "str"),  # the label regime: hard, stored or online
        Column("ipc", "int64"),
        Column("method", "str", "method", left=True, width=METHOD_WIDTH),
        # None under hard labels.
        Column("compressor", heading="compressor", show_row=stored_as, left=True, width=COMPRESSOR_WIDTH),
        Column("budget"),  # None where there is none
        Column("student", "str"),
        Column("network_digest"),
        Column("shared_digest", "str"),  # of what the protocol fixes but for the network
        Column("n", "int64"),  # replicates that have a result
        Column("mean", "float64"),
        Column("ci95", "float64"),  # half of the 95 % t interval of the mean
        Column("status", "str"),  # ok, partial, failed, infeasible
        Column("official", "bool"),  # see bench.reports.leaderboard.entries.Entry.official
        Column("default_recipe", "bool"),  # whether the protocol has no entry for the data set
        Column("unbalanced", "bool"),  # whether the protocol lets classes have different numbers of images
    )
)
_SHARED = [column for column in COLUMNS.values() if column.heading is not None]
_ACROSS = 5  # students side by side in text, so that a table fits into 150 columns
_ROW = ("method", "compressor", "budget")
_TABLE = ("dataset", "protocol", "labels", "ipc", "shared_digest")
_MEAN = "mean of these"


def by_student(records: Iterable[ReadRecord], released: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row per entry and student, with the columns of `COLUMNS`, accuracies as fractions.

    Of several records of a trial the last one counts. `released`: protocol id -> digest of what was released, for
    `official`.
    """
    rows: list[dict[str, Any]] = []
    for entry in sorted(entries_of(records), key=entry_order):
        accuracy = intervals.summary(entry.accuracies.values())
        rows.append(
            {
                **{key: value for key, value in entry.trial.items() if key in COLUMNS},
                "labels": entry.labels,
                "network_digest": entry.digest("network"),
                "shared_digest": _shared(entry),
                "n": accuracy.n,
                "mean": accuracy.mean,
                "ci95": accuracy.half,
                "status": entry.status,
                "official": entry.official(released),
                "default_recipe": entry.default_recipe,
                "unbalanced": entry.unbalanced,
            }
        )
    return typed(COLUMNS, rows)


def _shared(entry: Entry) -> str:
    digests = [digest for part, digest in zip(FIXED, entry.digests, strict=True) if part != "network"]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def render_students(frame: pd.DataFrame, format: str = "text") -> str:
    """`by_student(...)` in a format of bench.reports.printers.

    Text, Markdown and LaTeX: a table for each data set, protocol, label regime and ipc. CSV and JSON: every column of
    `COLUMNS`, unrounded. Raises UserError for a format that there is not.
    """
    return printed(page_of_students(frame), format)


def page_of_students(frame: pd.DataFrame) -> Page:
    """The tables of `by_student(...)`."""
    if frame.empty:
        return Page([], frame, nothing=NO_RECORDS)
    tables = []
    for (dataset, protocol, labels, ipc, shared), table in frame.groupby(list(_TABLE), sort=False):
        kind = f"{labels} labels{', classes not balanced' if table['unbalanced'].any() else ''}"
        heading = f"{dataset}, {protocol}, {kind}, ipc {ipc} (fixed but for the student: {str(shared)[:8]})"
        official, default = bool(table["official"].all()), bool(table["default_recipe"].any())
        tables.append(_table(marked(heading, official, default), table))
    return Page(tables, frame, notes=list(_notes(frame)))


def _table(heading: str, table: pd.DataFrame) -> Table:
    # A network that was edited under its name is another student.
    edited = table.groupby("student")["network_digest"].transform(lambda digests: digests.nunique(dropna=False) > 1)
    digest = table["network_digest"].fillna("no digest").str[:8]
    table = table.assign(
        compressor=table["compressor"].replace(UNCOMPRESSED, None),
        student=table["student"].where(~edited, table["student"] + " (" + digest + ")"),
    )
    students = sorted(set(table["student"]), key=natural)
    # Records that another version of the method made stand on a line of their own.
    version = table.groupby([*_ROW, "student"], dropna=False).cumcount()
    rows = []
    for _, group in table.groupby([*_ROW, version], sort=False, dropna=False):
        results = {row["student"]: row for row in rows_of(group)}
        first = next(iter(results.values()))
        rows.append({**{key: first[key] for key in _ROW}, **{name: results.get(name) for name in students}})
    common = [name for name in students if all(row[name] is not None and row[name]["n"] for row in rows)]
    for row in rows:
        row[_MEAN] = sum(row[name]["mean"] for name in common) / len(common) if len(common) > 1 else None
    columns = [Column(name, heading=_broken(name), show=result_cell) for name in students]
    if len(common) > 1:
        columns.append(Column(_MEAN, heading=f"mean of\n{len(common)} students", show=lambda mean: f"{100 * mean:.1f}"))
    split = Split(fixed=len(_SHARED), most=_ACROSS, what="students")
    return Table([*_SHARED, *columns], [rows], title=heading, split=split)


def _broken(student: str) -> str:
    """A student's name on two lines where it has a prefix or parameters."""
    return student.replace(":", ":\n", 1).replace(" (", "\n(", 1)


def _notes(frame: pd.DataFrame) -> Iterator[str]:
    yield "Down a column stand results of one student; along a row stands what the student alone changes."
    yield "accuracy in %: test split, last epoch, mean over replicates ± half of the 95 % t interval."
    yield "mean: over the students that every row of the table has; it has no interval, since students are no sample."
    yield f"compressor {MISSING}: labels are stored uncompressed, or not stored at all."
    yield f"{MISSING}: no records of that student. (partial): some replicates have no result."
    yield from unofficial_notes(frame)
