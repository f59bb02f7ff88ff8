"""One entry under several protocols: what a recipe alone is worth. Never a ranking: every column is another recipe.

The verb `leaderboard --by protocol` prints what is built here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from bench.records.files import ReadRecord
from bench.reports.leaderboard.columns import stored_as
from bench.reports.leaderboard.entries import entries_of, entry_order, natural
from bench.reports.leaderboard.page import NO_RECORDS
from bench.reports.printers import printed
from bench.reports.quantities import COMPRESSOR_WIDTH, METHOD_WIDTH, MISSING, interval, unofficial_notes
from bench.reports.table import Column, Page, Row, Split, Table, by_key, rows_of, typed
from bench.stats import intervals
from bench.trials.plan import UNCOMPRESSED

WARNING = "Not comparable between columns: each column is another recipe (and label regime)."
# In the order of CSV and JSON. Tables for people begin with those that have a heading; a column for each value of
# `column` follows.
COLUMNS = by_key(
    (
        Column("dataset", "str"),
        Column("ipc", "int64"),
        Column("method", "str", "method", left=True, width=METHOD_WIDTH),
        Column("student", "str"),
        # None under hard labels.
        Column("compressor", heading="compressor", show_row=stored_as, left=True, width=COMPRESSOR_WIDTH),
        Column("budget"),  # None where there is none
        Column("protocol", "str"),
        Column("labels", "str"),  # the label regime: hard, stored or online
        Column("protocol_digest"),
        Column("fixed_digest", "str"),  # of data set, teacher, protocol, engine and network
        Column("n", "int64"),  # replicates that have a result
        Column("mean", "float64"),
        Column("ci95", "float64"),  # half of the 95 % t interval of the mean
        Column("status", "str"),  # ok, partial, failed, infeasible
        Column("official", "bool"),  # see bench.reports.leaderboard.entries.Entry.official
        Column("default_recipe", "bool"),  # whether the protocol has no entry for the data set
        # Where tables show it: protocol, regime and, where it needs one to be told apart, a digest.
        Column("column", "str"),
    )
)
_SHARED = [column for column in COLUMNS.values() if column.heading is not None]
_ACROSS = 4  # protocols side by side in text, so that a table fits into 150 columns
_ROW = ("method", "compressor", "budget")


def by_protocol(records: Iterable[ReadRecord], released: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row per entry and protocol, with the columns of `COLUMNS`, accuracies as fractions.

    Of several records of a trial the last one counts. The frame is long, so that programs can group it; tables show
    a column for each value of `column`. `released`: protocol id -> digest of what was released, for `official`.
    """
    entries = sorted(entries_of(records), key=entry_order)
    fixed = defaultdict(set)
    for entry in entries:
        fixed[entry.names[:-1], entry.labels].add(entry.fixed)
    rows: list[dict[str, Any]] = []
    for entry in entries:
        accuracy = intervals.summary(entry.accuracies.values())
        official = entry.official(released)
        balance = ", classes not balanced" if entry.unbalanced else ""
        heading = f"{entry.trial['protocol']} ({entry.labels} labels{balance})"
        if len(fixed[entry.names[:-1], entry.labels]) > 1:
            heading = f"{heading[:-1]}, fixed parts {entry.fixed[:8]})"
        if not official:
            heading = f"{heading[:-1]}, {'default recipe' if entry.default_recipe else 'unofficial'})"
        rows.append(
            {
                **{key: value for key, value in entry.trial.items() if key in COLUMNS},
                "labels": entry.labels,
                "protocol_digest": entry.digest("protocol"),
                "fixed_digest": entry.fixed,
                "n": accuracy.n,
                "mean": accuracy.mean,
                "ci95": accuracy.half,
                "status": entry.status,
                "official": official,
                "default_recipe": entry.default_recipe,
                "column": heading,
            }
        )
    return typed(COLUMNS, rows)


def render_across(frame: pd.DataFrame, format: str = "text") -> str:
    """`by_protocol(...)` in a format of bench.reports.printers.

    Text, Markdown and LaTeX: a table for each data set, ipc and student, with a column for each protocol, and the
    warning that columns do not compare. CSV and JSON: every column of `COLUMNS`, unrounded. Raises UserError for a
    format that there is not.
    """
    return printed(page_across(frame), format)


def page_across(frame: pd.DataFrame) -> Page:
    """The tables of `by_protocol(...)`."""
    if frame.empty:
        return Page([], frame, nothing=NO_RECORDS)
    tables = [
        _table(f"{dataset}, ipc {ipc}, student {student}", table)
        for (dataset, ipc, student), table in frame.groupby(["dataset", "ipc", "student"], sort=False)
    ]
    return Page(tables, frame, notes=list(_notes(frame)))


def _table(heading: str, table: pd.DataFrame) -> Table:
    recipes = [
        Column(recipe, heading=recipe.replace(" (", "\n(", 1).replace(", ", ",\n"), show=result_cell)
        for recipe in sorted(set(table["column"]), key=natural)
    ]
    # One line for what a protocol stores uncompressed and what another one does not store at all.
    table = table.assign(compressor=table["compressor"].replace(UNCOMPRESSED, None))
    # Records that another version of the method made stand on a line of their own.
    version = table.groupby([*_ROW, "column"], dropna=False).cumcount()
    rows = []
    for _, group in table.groupby([*_ROW, version], sort=False, dropna=False):
        results = {row["column"]: row for row in rows_of(group)}
        first = next(iter(results.values()))
        rows.append({**{key: first[key] for key in _ROW}, **{each.key: results.get(each.key) for each in recipes}})
    split = Split(fixed=len(_SHARED), most=_ACROSS, what="protocols")
    return Table([*_SHARED, *recipes], [rows], title=heading, below=WARNING, split=split)


def result_cell(row: Row) -> str:
    """The result of an entry in a table with a column for each of something: its accuracy, or why there is none."""
    if not row["n"]:
        return str(row["status"])
    text = interval(row["mean"], row["ci95"])
    return f"(partial) {text}" if row["status"] == "partial" else text


def _notes(frame: pd.DataFrame) -> Iterator[str]:
    yield "Down a column stand results of one recipe; along a row stands what the recipe alone changes."
    yield "accuracy in %: test split, last epoch, mean over replicates ± half of the 95 % t interval."
    yield "labels: hard: the class; stored: a fixed set of soft labels; online: the teacher labels every batch anew."
    yield f"compressor {MISSING}: labels are stored uncompressed, or not stored at all."
    yield f"{MISSING}: no records under that protocol. (partial): some replicates have no result."
    yield from unofficial_notes(frame)
