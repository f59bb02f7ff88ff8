"""A comparison as a page: the table in percent and points, the overall line, what was left out and why, and notes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

from bench.reports.comparison import COLUMNS, Comparison
from bench.reports.printers import printed
from bench.reports.quantities import MISSING, interval, p_value
from bench.reports.table import Column, Page, Row, Table, rows_of
from bench.stats.significance import DRAWS, EXACT_UP_TO

_SHOWN = 3  # cells that were not paired, for each reason
# What says which cell a row is, and how a title says it where all rows agree.
_PLACE = {"dataset": "{}", "protocol": "{}", "labels": "{} labels", "ipc": "ipc {}", "student": "student {}"}
_SIDES = ("method", "compressor")  # A and B have one each


def render_comparison(comparison: Comparison, format: str = "text") -> str:
    """`compare(...)` in a format of bench.reports.printers.

    CSV and JSON: the cells with every column of `bench.reports.comparison.COLUMNS`, unrounded. Raises UserError for a
    format that there is not.
    """
    return printed(comparison_page(comparison), format)


def comparison_page(comparison: Comparison) -> Page:
    """The table of `compare(...)`, or that there is none, and notes."""
    left_out = list(_left_out(comparison))
    if comparison.cells.empty:
        nothing = f"A = {comparison.a}, B = {comparison.b}: no cell could be paired."
        return Page([], comparison.cells, notes=left_out, nothing=nothing)
    return Page([_table(comparison)], comparison.cells, notes=[*left_out, *_notes(comparison)])


def _table(comparison: Comparison) -> Table:
    rows = rows_of(comparison.cells)
    place, shared = _place(rows)
    known = {*_PLACE, *(f"{name}_{side}" for name in _SIDES for side in "ab")}
    figures = [column for key, column in COLUMNS.items() if column.heading is not None and key not in known]
    title = f"A = {comparison.a}, B = {comparison.b}: {', '.join(shared)}"
    return Table([*place, *figures], [rows], title=title, below=_overall(comparison))


def _place(rows: list[Row]) -> tuple[list[Column], list[str]]:
    """The columns that say which cell a row is, and what all rows share, for the title."""
    columns, shared = [], []
    for name, phrase in _PLACE.items():
        if len({row[name] for row in rows}) > 1:
            columns.append(COLUMNS[name])
        else:
            shared.append(phrase.format(rows[0][name]))
    for name in _SIDES:
        a, b = COLUMNS[f"{name}_a"], COLUMNS[f"{name}_b"]
        same = all(a.cell(row) == b.cell(row) for row in rows)
        for column in [replace(a, heading=name)] if same else [a, b]:
            values = {column.cell(row) for row in rows}
            if len(values) > 1:
                columns.append(column)
            elif same and values != {MISSING}:  # else the names of A and B tell it
                shared += map(str, values)
    return columns, shared


def _overall(comparison: Comparison) -> str:
    cells = len(comparison.cells)
    return (
        f"{cells} {'cell' if cells == 1 else 'cells'}: A wins {comparison.wins}, ties {comparison.ties}, "
        f"loses {comparison.losses}; mean difference {interval(comparison.difference, math.nan, '+')} points; "
        f"{comparison.sign.name}, over cells: p = {p_value(comparison.sign.p)} "
        f"(at least {p_value(comparison.sign.smallest_p)})."
    )


def _left_out(comparison: Comparison) -> Iterator[str]:
    cells = defaultdict(list)
    for cell, reason in comparison.unpaired:
        cells[reason].append(cell)
    for reason, those in cells.items():
        more = f"; and {len(those) - _SHOWN} more" if len(those) > _SHOWN else ""
        yield f"not compared ({len(those)}; {reason}): {'; '.join(those[:_SHOWN])}{more}."


def _notes(comparison: Comparison) -> Iterator[str]:
    yield (
        "A - B: mean difference in points ± half of the 95 % t interval, over the n replicates that both have. A: win "
        "or loss where the interval does not hold 0 (not corrected for the number of cells), else tie."
    )
    yield "p (t): paired t test, two-sided; Holm: the same, Holm-adjusted over all cells."
    few = comparison.cells["n"].max() <= EXACT_UP_TO
    exact = "exact" if few else f"exact up to {EXACT_UP_TO} pairs, else {DRAWS:,} draws"
    yield (
        f"p (flip): sign-flip permutation test, two-sided, {exact}; at least: the smallest p that so many pairs "
        "can give it."
    )
    yield "Cells share data, teachers and seeds; the sign test over them takes them as independent."
