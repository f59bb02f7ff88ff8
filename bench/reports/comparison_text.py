"""Prints a comparison: text for a terminal, Markdown, LaTeX; CSV and JSON hold the raw numbers of the cells."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from bench.reports.comparison import Comparison
from bench.reports.printing import METHOD_WIDTH, MISSING, grid, interval, listed, p_value, percent, raw, titled, wrapped
from bench.stats.significance import DRAWS, EXACT_UP_TO

_SHOWN = 3  # cells that were not paired, for each reason
_WIDTHS = {"dataset": 22, "student": 20, "protocol": 20, "method": METHOD_WIDTH}
# What says which cell a row is, with its heading. Where all rows agree it stands above the table instead.
_PLACE = {"dataset": "", "protocol": "", "labels": " labels", "ipc": "ipc ", "student": "student "}


def render_comparison(found: Comparison, format: str = "text") -> str:
    """`compare(...)` as text, md, csv, latex or json.

    Text, Markdown and LaTeX: a table in percent and points, the overall line, what was left out and why, and notes. CSV
    and JSON: the cells with every column of `bench.reports.comparison.COLUMNS`, unrounded. Raises UserError for other
    formats.
    """
    if (text := raw(found.cells, format)) is not None:
        return text
    notes = list(_left_out(found))
    if found.cells.empty:
        return f"A = {found.a}, B = {found.b}: no cell could be paired.\n\n{listed(notes, format)}\n"
    return f"{_table(found, format)}\n\n{listed([*notes, *_notes(found)], format)}\n"


def _table(found: Comparison, format: str) -> str:
    frame = found.cells
    place, constant = {}, []
    for name in _PLACE:
        if frame[name].nunique() > 1:
            place[name] = frame[name].astype(str)
        else:
            before, after = (_PLACE[name], "") if _PLACE[name].endswith(" ") else ("", _PLACE[name])
            constant.append(f"{before}{frame[name].iloc[0]}{after}")
    for name in ("method", "compressor"):
        ours, theirs = (frame[f"{name}_{side}"].fillna(MISSING).astype(str) for side in "ab")
        same = bool((ours == theirs).all())
        for heading, values in {name: ours}.items() if same else {f"{name} A": ours, f"{name} B": theirs}.items():
            if values.nunique() > 1:
                place[heading] = values
            elif same and values.iloc[0] != MISSING:  # else the names of A and B tell it
                constant.append(values.iloc[0])
    headers = [*place, "n", "A %", "B %", "A - B", "A", "p (t)", "Holm", "p (flip)", "at least"]
    lines = []
    for i, row in enumerate(frame.itertuples()):
        where = [values.iloc[i] for values in place.values()]
        if format == "text":
            where = [
                wrapped(text, _WIDTHS.get(name.removesuffix(" A").removesuffix(" B"), 20))
                for name, text in zip(place, where, strict=True)
            ]
        lines.append([*where, *_figures(row)])
    heading = f"A = {found.a}, B = {found.b}: {', '.join(constant)}"
    left = [name for name in (*place, "A") if name != "ipc"]
    return titled(heading, grid([lines], headers, left, format), _overall(found), format)


def _figures(row: Any) -> list[str]:
    return [
        str(row.n),
        percent(row.mean_a),
        percent(row.mean_b),
        interval(row.difference, row.ci95, "+"),
        row.result,
        p_value(row.p_t),
        p_value(row.p_t_holm),
        p_value(row.p_flip),
        p_value(row.p_flip_smallest),
    ]


def _overall(found: Comparison) -> str:
    cells = len(found.cells)
    return (
        f"{cells} {'cell' if cells == 1 else 'cells'}: A wins {found.wins}, ties {found.ties}, loses {found.losses}; "
        f"mean difference {interval(found.difference, math.nan, '+')} points; {found.sign.name}, over cells: "
        f"p = {p_value(found.sign.p)} (at least {p_value(found.sign.smallest_p)})."
    )


def _left_out(found: Comparison) -> Iterator[str]:
    cells = defaultdict(list)
    for cell, reason in found.unpaired:
        cells[reason].append(cell)
    for reason, those in cells.items():
        more = f"; and {len(those) - _SHOWN} more" if len(those) > _SHOWN else ""
        yield f"not compared ({len(those)}; {reason}): {'; '.join(those[:_SHOWN])}{more}."


def _notes(found: Comparison) -> Iterator[str]:
    yield (
        "A - B: mean difference in points ± half of the 95 % t interval, over the n replicates that both have. A: win "
        "or loss where the interval does not hold 0 (not corrected for the number of cells), else tie."
    )
    yield "p (t): paired t test, two-sided; Holm: the same, Holm-adjusted over all cells."
    few = found.cells["n"].max() <= EXACT_UP_TO
    exact = "exact" if few else f"exact up to {EXACT_UP_TO} pairs, else {DRAWS:,} draws"
    yield (
        f"p (flip): sign-flip permutation test, two-sided, {exact}; at least: the smallest p that so many pairs "
        "can give it."
    )
    yield "Cells share data, teachers and seeds; the sign test over them takes them as independent."
