"""Quantities as people read them: percentages, p values, sizes, durations, and specifications on several lines."""

from __future__ import annotations

import math
import re
from typing import Any

import pandas as pd

MISSING = "-"
DEFAULT_RECIPE = (
    "default recipe: the protocol has no entry for the data set, and its default values were used; no official result."
)
UNOFFICIAL = "unofficial: the protocol is no released one, or a changed or scaled-down one; its figures stand alone."
# Characters of a line of a specification in text, so that a table fits into 150 columns.
METHOD_WIDTH = 26
COMPRESSOR_WIDTH = 14


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


def marked(heading: str, official: bool, default_recipe: bool) -> str:
    """The heading of a table, with what keeps its results from being official before it."""
    mark = "default recipe: " if default_recipe else "" if official else "unofficial: "
    return f"{mark}{heading}"


def unofficial_notes(frame: pd.DataFrame) -> list[str]:
    """What the marks mean that stand before the headings of a frame's tables (columns `official`, `default_recipe`)."""
    notes = [] if (frame["official"] | frame["default_recipe"]).all() else [UNOFFICIAL]
    return [*notes, DEFAULT_RECIPE] if frame["default_recipe"].any() else notes
