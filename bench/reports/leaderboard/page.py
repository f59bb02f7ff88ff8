"""The leaderboard as a page: a table for each data set, protocol, ipc, student and label regime, with notes on how to
read them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence

import pandas as pd

from bench.reports.leaderboard.columns import COLUMNS, LeaderboardColumn
from bench.reports.leaderboard.entries import LEARNED_REFERENCE, REFERENCE_METHOD
from bench.reports.printers import printed
from bench.reports.quantities import marked, unofficial_notes
from bench.reports.table import MarkNote, Note, Page, Row, Table, rows_of
from bench.stats import intervals

# A table: the same names, the same label regime, and the same digests of all that the protocol fixes.
TABLE_KEYS = ("dataset", "protocol", "ipc", "student", "labels", "fixed_digest")
NO_RECORDS = "No records yet. Make some with: condensebench run --results DIR"


def render(frame: pd.DataFrame, format: str = "text", wished: Sequence[str] = ()) -> str:
    """`leaderboard(...)` in a format of bench.reports.printers; `wished`: keys of columns that stand there on wish.

    Text, Markdown and LaTeX: in percent and human units. CSV and JSON: every column of
    `bench.reports.leaderboard.columns.COLUMNS`, unrounded. Raises UserError for a format that there is not.
    """
    return printed(page(frame, wished), format)


def page(frame: pd.DataFrame, wished: Sequence[str] = ()) -> Page:
    """The tables of `leaderboard(...)`."""
    if frame.empty:
        return Page([], frame, nothing=NO_RECORDS)
    grouped: dict[Hashable, list[Row]] = defaultdict(list)
    for row in rows_of(frame):
        grouped[tuple(row[key] for key in TABLE_KEYS)].append(row)
    tables = list(grouped.values())
    headings = [_heading(table) for table in tables]
    if len(set(headings)) < len(headings):  # the same names under other digests
        headings = [f"{_heading(table)}, fixed parts {table[0]['fixed_digest'][:8]}" for table in tables]
    parts = [_table(heading, table, wished) for heading, table in zip(headings, tables, strict=True)]
    return Page(parts, frame, notes=list(notes(frame, wished)))


def _heading(table: Sequence[Row]) -> str:
    row = table[0]
    digest = f" (protocol {row['protocol_digest'][:8]})" if row["protocol_digest"] else ""
    kind = f"{row['labels']} labels{', classes not balanced' if row['unbalanced'] else ''}"
    place = f"{row['dataset']}, {row['protocol']}, {kind}, ipc {row['ipc']}, student {row['student']}"
    return marked(f"{place}{digest}", row["official"], row["default_recipe"])


def _table(heading: str, table: Sequence[Row], wished: Sequence[str]) -> Table:
    groups: dict[Hashable, list[Row]] = defaultdict(list)
    for row in table:
        groups[row["compressor"], row["budget"]].append(row)
    return Table(columns_shown(table, wished), list(groups.values()), title=heading, below=resolution(table))


def columns_shown(table: Sequence[Row], wished: Sequence[str] = ()) -> list[LeaderboardColumn]:
    """The columns of a table for people, from the left; those that only some tables need where this one does."""
    headed = (column for column in COLUMNS.values() if column.heading is not None)
    shown = (column for column in headed if not column.on_wish or column.key in wished)
    present = (
        column
        for column in shown
        if not column.needs or any(pd.notna(row[key]) for key in column.needs for row in table)
    )
    return sorted(present, key=lambda column: column.place)


def resolution(table: Sequence[Row]) -> str:
    """What the replicates of this table can tell apart."""
    if not any(row["n"] > 0 for row in table):
        return "No entry has a result."
    n, spread, comparisons = _spread(table)
    if n < 2:
        return "One replicate tells no two entries apart: every rank is a tie. Type: --replicates 3"
    text = f"{n} replicates resolve differences from {_points(spread, n)} on (two-sided 5 %, power 80 %)"
    if comparisons > 1:
        text += f"; from {_points(spread, n, comparisons)} on with Holm's correction for {comparisons} comparisons"
    return f"{text}."


def resolved_points(table: Sequence[Row]) -> str | None:
    """The difference that the replicates of this table resolve, as `resolution` says it; None where there is none."""
    if not any(row["n"] > 0 for row in table):
        return None
    n, spread, _ = _spread(table)
    return None if n < 2 else _points(spread, n)


def _spread(table: Sequence[Row]) -> tuple[int, float, int]:
    """(the usual number of replicates, standard deviation of a paired difference, entries that are compared)."""
    counts = Counter(row["n"] for row in table if row["n"] > 0)
    n = min(number for number, rows in counts.items() if rows == max(counts.values()))
    usual = [row for row in table if row["n"] == n]
    compared = [row["delta_random_ci95"] for row in usual if not math.isnan(row["delta_random_ci95"])]
    if n < 2:
        return n, math.nan, 0
    if compared:
        spread = intervals.pooled_std((half * math.sqrt(n) / intervals.t_quantile(n), n) for half in compared)
    else:  # without a reference row, as if replicates had nothing in common
        spread = math.sqrt(2) * intervals.pooled_std((row["std"], n) for row in usual)
    return n, spread, len(compared)


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


def notes(frame: pd.DataFrame, wished: Sequence[str] = ()) -> Iterator[Note]:
    """How to read the tables of a frame: a note for each thing that stands in them; `wished`: as of `render`."""
    yield (
        "accuracy: test split, last epoch, mean over n replicates ± half of the 95 % t interval; "
        "std: sample standard deviation."
    )
    yield (
        f"vs {REFERENCE_METHOD}: mean difference in points ± half of the 95 % t interval, paired by replicate "
        "(same initialisation and data order)."
    )
    if frame.curve_mean.notna().any():
        yield (
            "by student: continual protocols train and test a student after each step of classes, slimming protocols "
            "one for each share of channels; accuracy is the last one's, average the mean over all."
        )
    if frame.unbalanced.any():
        yield (
            "classes not balanced: the protocol lets a set have ipc images a class on the mean; images/class: fewest "
            "and most of a class, and classes without any."
        )
    if (frame.labels == "learned").any():
        yield f"learned labels: those that a method hands in; {LEARNED_REFERENCE} stands in for {REFERENCE_METHOD}."
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
    if "peak_train" in wished:
        yield (
            "peak: memory of the student's training above where it began: of the GPU, or of the process; the least "
            "over n, since the first training of a process also loads libraries."
        )
    yield (
        "sizes: encoded bytes, 1 kB = 1,000 B; bits/class: of images and labels, k thousand, M million; "
        "time: wall time of a trial."
    )
