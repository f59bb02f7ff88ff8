"""How tables print: the formats, and numbers and specifications as people read them."""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import pandas as pd
from tabulate import SEPARATING_LINE, tabulate

from bench.errors import UserError

Format = Literal["text", "md", "csv", "latex", "json"]
MISSING = "-"
UNOFFICIAL = "unofficial: the protocol is no released one, or a changed or scaled-down one; its figures stand alone."
# Characters of a line of a specification in text, so that a table fits into 150 columns.
METHOD_WIDTH = 26
COMPRESSOR_WIDTH = 14
_STYLE = {"text": "simple", "md": "github", "latex": "latex_booktabs"}
_NOTE_WIDTH = 110


def raw(frame: pd.DataFrame, format: str) -> str | None:
    """The frame as csv or json: every column unrounded, missing values empty or null; JSON is a list of objects. None
    for the formats of tables. Raises UserError for any other."""
    if format not in get_args(Format):
        raise UserError(f"unknown format '{format}'. Allowed: {', '.join(get_args(Format))}. Type: --format md")
    if format == "csv":
        return str(frame.to_csv(index=False))
    if format == "json":
        rows = [{k: None if pd.isna(v) else v for k, v in row.items()} for row in frame.to_dict("records")]
        return json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return None


def grid(groups: Iterable[Sequence[Sequence[str]]], headers: Sequence[str], left: Iterable[str], format: str) -> str:
    """Rows of cells under their headers, in text with a line between groups; columns align right but for `left`."""
    rows: list[Any] = []
    for group in groups:
        if rows and format == "text":
            rows.append(SEPARATING_LINE)
        rows += group
    body = tabulate(
        rows,
        headers=headers,
        tablefmt=_STYLE[format],
        disable_numparse=True,
        colalign=["left" if name in left else "right" for name in headers],
    )
    return "\n".join(line.rstrip() for line in body.splitlines())


def titled(heading: str, body: str, below: str, format: str) -> str:
    """A table with its heading, and a sentence under it."""
    if format == "latex":
        for sign, command in (("±", r"$\pm$"), ("≥", r"$\geq$")):
            body = body.replace(sign, command)
        caption = re.sub(r"([%_&#$])", r"\\\1", f"{heading}. {below}" if below else heading)
        return f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n{body}\n\\end{{table}}"
    parts = [f"### {heading}\n" if format == "md" else heading, body]
    if below:
        parts.append(f"\n{below}" if format == "md" else below)
    return "\n".join(parts)


def listed(notes: Iterable[str], format: str) -> str:
    """Notes under the tables: filled lines of text, a list of Markdown, comments of LaTeX."""
    if format == "text":
        return "\n".join(textwrap.fill(note, _NOTE_WIDTH, subsequent_indent="  ") for note in notes)
    return "\n".join(f"{'-' if format == 'md' else '%'} {note}" for note in notes)


def interval(mean: float, half: float, sign: str = "") -> str:
    """Fractions as percent or points: 39.4 ± 8.2; without ± where half is nan."""
    if math.isnan(mean):
        return MISSING
    text = f"{100 * mean:{sign}.1f}"
    text = f"{0:{sign}.1f}" if text == "-0.0" else text
    return text if math.isnan(half) else f"{text} ± {100 * half:.1f}"


def percent(value: float) -> str:
    """A fraction as percent."""
    return MISSING if math.isnan(value) else f"{100 * value:.1f}"


def p_value(value: float) -> str:
    """Three decimals, as journals print them: .031, <.001, 1."""
    if math.isnan(value):
        return MISSING
    return "<.001" if value < 0.0005 else f"{value:.3f}".lstrip("0") if value < 0.9995 else "1"


def size(value: Any, unit: str) -> str:
    """Three digits and a decimal prefix: 950 B, 3.12 kB, 22.5 MB (1 kB = 1,000 B)."""
    if pd.isna(value):
        return MISSING
    number = float(value)
    for prefix in ("", "k", "M", "G", "T"):
        # 999.5 rounds to 1000, which is the next prefix's.
        if number < 999.5 or prefix == "T":
            break
        number /= 1000
    places = 0 if number >= 99.95 or not prefix else 1 if number >= 9.995 else 2
    return f"{number:.{places}f} {prefix}{unit}".strip()


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if math.isnan(seconds):
        return MISSING
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def wrapped(spec: str, width: int) -> str:
    """A long specification on several lines, broken after the colon and after commas."""
    lines = [""]
    for piece in re.findall(r"[^,:]*[,:]|[^,:]+$", spec):
        if lines[-1] and len(lines[-1]) + len(piece) > width:
            lines.append("  ")
        lines[-1] += piece
    return "\n".join(lines)
