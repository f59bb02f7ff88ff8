"""A leaderboard on one screen: the best of each table and budget, what is tied with it, and what was not decided."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pandas as pd

from bench.reports.leaderboard.page import TABLE_KEYS, resolved_points
from bench.reports.printers import printed
from bench.reports.quantities import interval, marked
from bench.reports.table import Column, Page, Row, Table, by_key, rows_of, typed

SCREEN = 40  # lines that a terminal shows at once
TIED = 2  # names of what is tied with the best; more are counted
MOST = 28  # rows; more are counted below the table

_COLUMNS = by_key(
    [
        Column("table", "object", "table", left=True, width=38),
        Column("budget", "object", "budget", left=True),
        Column("best", "object", "best", left=True, width=34),
        Column("mean", "float64", "accuracy %", show_row=lambda row: interval(row["mean"], row["ci95"])),
        Column("ci95", "float64"),
        Column("tied", "object", "tied with it", left=True, width=34),
        Column("undecided", "object", "neighbours\nundecided"),
        Column("resolves", "object", "resolves\nfrom"),
    ]
)


def summary(frame: pd.DataFrame) -> Page:
    """A page with a row for each table and budget of `leaderboard(...)`."""
    rows = list(_rows(frame))
    shown = [column for column in _COLUMNS.values() if column.heading is not None]
    left_out = f"{len(rows) - MOST} more tables and budgets are in the files below." if len(rows) > MOST else ""
    notes = [
        "tied with it: what the replicates do not tell from the best. neighbours undecided: of the pairs of methods "
        "next to each other with the same compressor and budget, those that are ties. resolves from: points of "
        "difference that these replicates find in 80 % of all cases."
    ]
    return Page([Table(shown, [rows[:MOST]], below=left_out)], typed(_COLUMNS, rows), notes=notes)


def on_a_screen(frame: pd.DataFrame, whole: str) -> str:
    """The tables as they are where they fit a screen, else their summary."""
    return whole if whole.count("\n") <= SCREEN else printed(summary(frame), "text")


def _rows(frame: pd.DataFrame) -> Iterator[Row]:
    several = frame.student.nunique() > 1
    for _, table in frame.groupby(list(TABLE_KEYS), sort=False):
        first = table.iloc[0]
        name = f"{first.dataset}, ipc {first.ipc}, {first.protocol}{f', {first.student}' if several else ''}"
        for _, group in table.groupby(table.budget.fillna(""), sort=False):
            measured = group[group.n > 0].sort_values("mean", ascending=False, kind="stable")
            if measured.empty:
                continue
            best = rows_of(measured.head(1))[0]
            tied = [_name(row) for row in rows_of(measured[measured.best]) if _name(row) != _name(best)]
            more = f" and {len(tied) - TIED} more" if len(tied) > TIED else ""
            pairs = [
                pair for _, rows in measured.groupby("compressor", sort=False, dropna=False) for pair in _pairs(rows)
            ]
            yield {
                "table": marked(name, bool(first.official), bool(first.default_recipe)),
                "budget": best["budget"] if isinstance(best["budget"], str) else "-",
                "best": _name(best),
                "mean": best["mean"],
                "ci95": best["ci95"],
                "tied": f"{', '.join(tied[:TIED])}{more}" or "nothing",
                "undecided": f"{sum(pairs)} of {len(pairs)}" if pairs else "-",
                "resolves": resolved_points(rows_of(table)) or "-",
            }


def _pairs(rows: pd.DataFrame) -> Iterator[bool]:
    """Of each pair of methods next to each other: whether they are a tie."""
    ranks = [str(rank) for rank in rows["rank"]]
    for first, second in itertools.pairwise(ranks):
        yield first == second and first.endswith("=")


def _name(row: Row) -> str:
    compressor = row["compressor"]
    return f"{row['method']} / {compressor}" if isinstance(compressor, str) and compressor != "none" else row["method"]
