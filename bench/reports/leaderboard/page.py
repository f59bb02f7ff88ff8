"""The leaderboard as a page: a table for each data set, protocol, ipc, student and label regime, with notes on how to
read them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from bench.reports.leaderboard.columns import COLUMNS, LeaderboardColumn
from bench.reports.leaderboard.entries import REFERENCE_METHOD
from bench.reports.printers import printed
from bench.reports.quantities import marked, unofficial_notes
from bench.reports.table import MarkNote, Note, Page, Table, rows_of
from bench.stats import intervals

# A table: the same names, the same label regime, and the same digests of all that the protocol fixes.
_TABLE = ("dataset", "protocol", "ipc", "student", "labels", "fixed_digest")
NO_RECORDS = "No records yet. Make some with: condensebench run --results DIR"


def render(frame: pd.DataFrame, format: str = "text") -> str:
    """`leaderboard(...)` in a format of bench.reports.printers.

    Text, Markdown and LaTeX: in percent and human units. CSV and JSON: every column of
    `bench.reports.leaderboard.columns.COLUMNS`, unrounded. Raises UserError for a format that there is not.
    """
    return printed(page(frame), format)


def page(frame: pd.DataFrame) -> Page:
    """The tables of `leaderboard(...)`."""
    if frame.empty:
        return Page([], frame, nothing=NO_RECORDS)
    tables = [table for _, table in frame.groupby(list(_TABLE), sort=False)]
    headings = [_heading(table) for table in tables]
    if len(set(headings)) < len(headings):  # the same names under other digests
        headings = [f"{_heading(table)}, fixed parts {table.fixed_digest.iloc[0][:8]}" for table in tables]
    parts = [_table(heading, table) for heading, table in zip(headings, tables, strict=True)]
    return Page(parts, frame, notes=list(notes(frame)))


def _heading(table: pd.DataFrame) -> str:
    row = table.iloc[0]
    digest = f" (protocol {row.protocol_digest[:8]})" if row.protocol_digest else ""
    name = f"{row.dataset}, {row.protocol}, {row.labels} labels, ipc {row.ipc}, student {row.student}{digest}"
    return marked(name, row.official, row.default_recipe)


def _table(heading: str, table: pd.DataFrame) -> Table:
    groups = [rows_of(group) for _, group in table.groupby(["compressor", "budget"], sort=False, dropna=False)]
    return Table(columns_shown(table), groups, title=heading, below=resolution(table))


def columns_shown(table: pd.DataFrame) -> list[LeaderboardColumn]:
    """The columns of a table for people, from the left; those that only some tables need where this one does."""
    shown = (column for column in COLUMNS.values() if column.heading is not None)
    present = (column for column in shown if column.needs is None or table[column.needs].notna().any())
    return sorted(present, key=lambda column: column.place)


def resolution(table: pd.DataFrame) -> str:
    """What the replicates of this table can tell apart."""
    counts = table.n[table.n > 0]
    if counts.empty:
        return "No entry has a result."
    n = int(counts.mode().iloc[0])
    compared = table[table.n.eq(n) & table.delta_random_ci95.notna()]
    if n < 2:
        return "One replicate tells no two entries apart: every rank is a tie. Type: --replicates 3"
    if len(compared):
        spread = intervals.pooled_std(
            (half * math.sqrt(n) / intervals.t_quantile(n), n) for half in compared.delta_random_ci95
        )
    else:  # without a reference row, as if replicates had nothing in common
        spread = math.sqrt(2) * intervals.pooled_std((std, n) for std in table["std"][table.n.eq(n)])
    text = f"{n} replicates resolve differences from {_points(spread, n)} on (two-sided 5 %, power 80 %)"
    if len(compared) > 1:
        text += f"; from {_points(spread, n, len(compared))} on with Holm's correction for {len(compared)} comparisons"
    return f"{text}."


def _points(spread: float, n: int, comparisons: int = 1) -> str:
    points = 100 * intervals.resolvable(spread, n, comparisons)
    return f"{points:.1f} points" if points < 100 else "over 100 points"


def _mended(frame: pd.DataFrame) -> Iterator[str]:
    spoilt = frame[(frame.invalid_values > 0) | (frame.invalid_rows > 0)]
    names = spoilt.compressor + spoilt.budget.map(lambda budget: f"@{budget}" if isinstance(budget, str) else "")
    for name, rows in spoilt.groupby(names, sort=False):
        yield f"{name} {rows.invalid_values.max():.2g} and {rows.invalid_rows.max():.2g}"


def _own_teachers(frame: pd.DataFrame) -> Iterator[str]:
    """The teachers that stand in for a protocol's own."""
    others = frame[frame.protocol.str.contains("teacher=") & frame.teachers.notna()]
    for _, rows in others.groupby(["dataset", "protocol"], sort=True):
        first = rows.iloc[0]
        yield f"{first.protocol} has not its own teacher: {first.teachers} on the test split of {first.dataset}."


def notes(frame: pd.DataFrame) -> Iterator[Note]:
    """How to read the tables of a frame: a note for each thing that stands in them."""
    yield (
        "accuracy: test split, last epoch, mean over n replicates ± half of the 95 % t interval; "
        "std: sample standard deviation."
    )
    yield (
        f"vs {REFERENCE_METHOD}: mean difference in points ± half of the 95 % t interval, paired by replicate "
        "(same initialisation and data order)."
    )
    yield (
        f"p: of the difference to {REFERENCE_METHOD}, paired t test, two-sided, Holm-adjusted over the rows of a table."
    )
    yield (
        "rank: among the methods with the same compressor and budget. '=' is a tie: these replicates do not tell it "
        "from the first of its group (no correction for many comparisons). [1-4]: ranks that they leave open for it, "
        "95 %, paired t tests against all others, Holm-adjusted."
    )
    yield MarkNote("the best of all rows of a table with the same budget, and what is tied with it.")
    yield from unofficial_notes(frame)
    yield from _own_teachers(frame)
    if (frame.status == "infeasible").any():
        yield "infeasible: the compressor cannot meet the budget; it needs at least the size that follows."
    if mended := list(_mended(frame)):
        yield (
            "approximated probabilities, before they are mended: the largest share of values that were negative, and "
            f"of rows that did not sum to one, in {'; '.join(mended)}."
        )
    if (frame.status == "partial").any():
        yield "(partial): some replicates have no result; n counts those that do."
    if any(str(budget).endswith("x") for budget in frame.budget.dropna()):
        yield (
            "30x: encoded labels hold at most 1/30 of the bytes of fp16 logits plus 25 B of view parameters per stored "
            "row; other ratios likewise."
        )
    yield (
        "sizes: encoded bytes, 1 kB = 1,000 B; bits/class: of images and labels, k thousand, M million; "
        "time: wall time of a trial."
    )
