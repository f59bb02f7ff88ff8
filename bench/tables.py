"""Prints a leaderboard: text for a terminal, Markdown, LaTeX; CSV and JSON hold the raw numbers."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterator
from typing import Any, Literal, get_args

import pandas as pd
from tabulate import SEPARATING_LINE, tabulate

from bench import stats
from bench.errors import UserError
from bench.standings import REFERENCE_METHOD

Format = Literal["text", "md", "csv", "latex", "json"]
_STYLE = {"text": "simple", "md": "github", "latex": "latex_booktabs"}
# Characters of a line of a specification in text, so that a table fits into 150 columns.
_METHOD_WIDTH = 30
_COMPRESSOR_WIDTH = 16
_NOTE_WIDTH = 110
_MISSING = "-"
_BEST = ""  # the heading of the column of stars


def render(frame: pd.DataFrame, format: str = "text") -> str:
    """`leaderboard(...)` as text, md, csv, latex or json.

    Text, Markdown and LaTeX: a table for each data set, protocol, ipc and student, in percent and human units, with
    notes on how to read them. CSV and JSON: every column of `bench.standings.COLUMNS`, unrounded, missing values
    empty or null; JSON is a list of objects. Raises UserError for any other format.
    """
    if format not in get_args(Format):
        raise UserError(f"unknown format '{format}'. Allowed: {', '.join(get_args(Format))}. Type: --format md")
    if format == "csv":
        return str(frame.to_csv(index=False))
    if format == "json":
        return _json(frame)
    if frame.empty:
        return "No records yet. Make some with: condensebench run --results DIR\n"
    keys = ["dataset", "protocol", "ipc", "student", "fixed_digest"]
    tables = [table for _, table in frame.groupby(keys, sort=False)]
    headings = [_heading(table) for table in tables]
    if len(set(headings)) < len(headings):  # the same names under other digests
        headings = [f"{_heading(table)}, fixed parts {table.fixed_digest.iloc[0][:8]}" for table in tables]
    parts = [_table(heading, table, format) for heading, table in zip(headings, tables, strict=True)]
    notes = list(_notes(frame, format))
    if format == "text":
        notes = [textwrap.fill(note, _NOTE_WIDTH, subsequent_indent="  ") for note in notes]
    else:
        notes = [f"{'-' if format == 'md' else '%'} {note}" for note in notes]
    return "\n\n".join([*parts, "\n".join(notes)]) + "\n"


def _json(frame: pd.DataFrame) -> str:
    rows = [{key: None if pd.isna(value) else value for key, value in row.items()} for row in frame.to_dict("records")]
    return json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _heading(table: pd.DataFrame) -> str:
    row = table.iloc[0]
    digest = f" (protocol {row.protocol_digest[:8]})" if row.protocol_digest else ""
    return f"{row.dataset}, {row.protocol}, ipc {row.ipc}, student {row.student}{digest}"


def _table(heading: str, table: pd.DataFrame, format: str) -> str:
    columns = _columns(bool(table.compressor.notna().any()), starred=format != "md")
    rows: list[Any] = []
    for _, group in table.groupby(["compressor", "budget"], sort=False, dropna=False):
        if rows and format == "text":
            rows.append(SEPARATING_LINE)
        cells = [_cells(row, format) for row in group.itertuples()]
        rows += [[texts[name] for name in columns] for texts in cells]
    body = tabulate(
        rows,
        headers=columns,
        tablefmt=_STYLE[format],
        disable_numparse=True,
        colalign=["left" if name in ("method", "compressor", _BEST) else "right" for name in columns],
    )
    body = "\n".join(line.rstrip() for line in body.splitlines())
    resolution = _resolution(table)
    if format == "latex":
        body = body.replace("±", r"$\pm$").replace("≥", r"$\geq$")
        caption = _latex(f"{heading}. {resolution}")
        return f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n{body}\n\\end{{table}}"
    title = f"### {heading}\n" if format == "md" else heading
    after = f"\n{resolution}" if format == "md" else resolution
    return f"{title}\n{body}\n{after}"


def _columns(labelled: bool, starred: bool) -> list[str]:
    return [
        *(["compressor"] if labelled else []),
        "method",
        "accuracy %",
        *([_BEST] if starred else []),
        "std",
        "n",
        f"vs {REFERENCE_METHOD}",
        "rank",
        *(["labels"] if labelled else []),
        "images",
        "bits/class",
        "time",
    ]


def _cells(row: Any, format: str) -> dict[str, str]:
    compressor = f"{row.compressor}@{row.budget}" if row.budget else row.compressor or _MISSING
    delta = "reference" if row.method == REFERENCE_METHOD else _interval(row.delta_random, row.delta_random_ci95, "+")
    return {
        "compressor": _wrapped(compressor, _COMPRESSOR_WIDTH) if format == "text" else compressor,
        "method": _wrapped(row.method, _METHOD_WIDTH) if format == "text" else row.method,
        "accuracy %": _result(row, format),
        _BEST: "*" if row.best else "",
        "std": _percent(row.std),
        "n": str(row.n),
        f"vs {REFERENCE_METHOD}": delta,
        "rank": row.rank or _MISSING,
        "labels": _size(row.bytes_labels, "B"),
        "images": _size(row.bytes_images, "B"),
        "bits/class": _size(row.bpc, ""),
        "time": _duration(row.seconds),
    }


def _result(row: Any, format: str) -> str:
    if row.status == "infeasible":
        return f"infeasible, needs ≥ {_size(row.smallest_bytes, 'B')}"
    if row.status == "failed":
        return "failed"
    text = _interval(row.mean, row.ci95)
    if row.best and format == "md":
        text = f"**{text}**"
    return f"(partial) {text}" if row.status == "partial" else text


def _interval(mean: float, half: float, sign: str = "") -> str:
    if math.isnan(mean):
        return _MISSING
    text = f"{100 * mean:{sign}.1f}"
    text = f"{0:{sign}.1f}" if text == "-0.0" else text
    return text if math.isnan(half) else f"{text} ± {100 * half:.1f}"


def _percent(value: float) -> str:
    return _MISSING if math.isnan(value) else f"{100 * value:.1f}"


def _size(value: Any, unit: str) -> str:
    """Three digits and a decimal prefix: 950 B, 3.12 kB, 22.5 MB (1 kB = 1,000 B)."""
    if pd.isna(value):
        return _MISSING
    size = float(value)
    for prefix in ("", "k", "M", "G", "T"):
        # 999.5 rounds to 1000, which is the next prefix's.
        if size < 999.5 or prefix == "T":
            break
        size /= 1000
    digits = f"{size:.0f}" if size >= 99.95 or not prefix else f"{size:.1f}" if size >= 9.995 else f"{size:.2f}"
    return f"{digits} {prefix}{unit}".strip()


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return _MISSING
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _wrapped(spec: str, width: int) -> str:
    """A long specification on several lines, broken after the colon and after commas."""
    lines = [""]
    for piece in re.findall(r"[^,:]*[,:]|[^,:]+$", spec):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("  ")
        lines[-1] += piece
    return "\n".join(lines)


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
        spread = stats.pooled_std((half * math.sqrt(n) / stats.t_quantile(n), n) for half in compared.delta_random_ci95)
    else:  # without a reference row, as if replicates had nothing in common
        spread = math.sqrt(2) * stats.pooled_std((std, n) for std in table["std"][table.n.eq(n)])
    smallest = 100 * stats.resolvable(spread, n)
    return f"{n} replicates resolve differences from {smallest:.1f} points on (two-sided 5 %, power 80 %)."


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
        "rank: among the methods with the same compressor and budget. '=' is a tie: these replicates do not tell it "
        "from the first of its group (no correction for many comparisons)."
    )
    mark = "bold" if format == "md" else "*"
    yield f"{mark}: the best of all rows of a table with the same budget, and what is tied with it."
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


def _latex(text: str) -> str:
    return re.sub(r"([%_&#$])", r"\\\1", text)
