"""Prints a leaderboard: text for a terminal, Markdown, LaTeX; CSV and JSON hold the raw numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from bench.reports.leaderboard.rows import REFERENCE_METHOD, TABLE
from bench.reports.printing import (
    COMPRESSOR_WIDTH,
    METHOD_WIDTH,
    MISSING,
    UNOFFICIAL,
    duration,
    grid,
    interval,
    listed,
    p_value,
    percent,
    raw,
    size,
    titled,
    wrapped,
)
from bench.stats import intervals

_BEST = ""  # the heading of the column of stars


def render(frame: pd.DataFrame, format: str = "text") -> str:
    """`leaderboard(...)` as text, md, csv, latex or json.

    Text, Markdown and LaTeX: a table for each data set, protocol, ipc, student and label regime, in percent and human
    units, with notes on how to read them. CSV and JSON: every column of `bench.reports.leaderboard.rows.COLUMNS`,
    unrounded, missing values empty or null; JSON is a list of objects. Raises UserError for any other format.
    """
    if (text := raw(frame, format)) is not None:
        return text
    if frame.empty:
        return "No records yet. Make some with: condensebench run --results DIR\n"
    tables = [table for _, table in frame.groupby(list(TABLE), sort=False)]
    headings = [_heading(table) for table in tables]
    if len(set(headings)) < len(headings):  # the same names under other digests
        headings = [f"{_heading(table)}, fixed parts {table.fixed_digest.iloc[0][:8]}" for table in tables]
    parts = [_table(heading, table, format) for heading, table in zip(headings, tables, strict=True)]
    return "\n\n".join([*parts, listed(_notes(frame, format), format)]) + "\n"


def _heading(table: pd.DataFrame) -> str:
    row = table.iloc[0]
    digest = f" (protocol {row.protocol_digest[:8]})" if row.protocol_digest else ""
    name = f"{row.dataset}, {row.protocol}, {row.labels} labels, ipc {row.ipc}, student {row.student}{digest}"
    return name if row.official else f"unofficial: {name}"


def _table(heading: str, table: pd.DataFrame, format: str) -> str:
    columns = _columns(bool(table.compressor.notna().any()), starred=format != "md")
    groups = [
        [[texts[name] for name in columns] for texts in (_cells(row, format) for row in group.itertuples())]
        for _, group in table.groupby(["compressor", "budget"], sort=False, dropna=False)
    ]
    return titled(heading, grid(groups, columns, ("method", "compressor", _BEST), format), _resolution(table), format)


def _columns(labelled: bool, starred: bool) -> list[str]:
    return [
        *(["compressor"] if labelled else []),
        "method",
        "accuracy %",
        *([_BEST] if starred else []),
        "std",
        "n",
        f"vs {REFERENCE_METHOD}",
        "p",
        "rank",
        *(["labels"] if labelled else []),
        "images",
        "bits/class",
        "time",
    ]


def _cells(row: Any, format: str) -> dict[str, str]:
    compressor = f"{row.compressor}@{row.budget}" if row.budget else row.compressor or MISSING
    delta = "reference" if row.method == REFERENCE_METHOD else interval(row.delta_random, row.delta_random_ci95, "+")
    return {
        "compressor": wrapped(compressor, COMPRESSOR_WIDTH) if format == "text" else compressor,
        "method": wrapped(row.method, METHOD_WIDTH) if format == "text" else row.method,
        "accuracy %": _result(row, format),
        _BEST: "*" if row.best else "",
        "std": percent(row.std),
        "n": str(row.n),
        f"vs {REFERENCE_METHOD}": delta,
        "p": p_value(row.p_random_holm),
        "rank": f"{row.rank} [{row.rank_low}-{row.rank_high}]" if row.rank else MISSING,
        "labels": size(row.bytes_labels, "B"),
        "images": size(row.bytes_images, "B"),
        "bits/class": size(row.bpc, ""),
        "time": duration(row.seconds),
    }


def _result(row: Any, format: str) -> str:
    if row.status == "infeasible":
        return f"infeasible, ≥ {size(row.smallest_bytes, 'B')}"
    if row.status == "failed":
        return "failed"
    text = interval(row.mean, row.ci95)
    if row.best and format == "md":
        text = f"**{text}**"
    return f"(partial) {text}" if row.status == "partial" else text


def _resolution(table: pd.DataFrame) -> str:
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


def _notes(frame: pd.DataFrame, format: str) -> Iterator[str]:
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
    mark = "bold" if format == "md" else "*"
    yield f"{mark}: the best of all rows of a table with the same budget, and what is tied with it."
    if not frame.official.all():
        yield UNOFFICIAL
    if (frame.status == "infeasible").any():
        yield "infeasible: the compressor cannot meet the budget; it needs at least the size that follows."
    if told := list(_mended(frame)):
        yield (
            "approximated probabilities, before they are mended: the largest share of values that were negative, and "
            f"of rows that did not sum to one, in {'; '.join(told)}."
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
