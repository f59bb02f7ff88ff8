"""Tables between data and text: rows of raw values, columns that know how to show them, titles and notes.

A report builds a `Page` of them; bench/reports/printers.py prints it in every format. Programs read the raw values
(CSV, JSON), people the shown ones (text, Markdown, LaTeX).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pandas as pd

from bench.reports.quantities import MISSING
from bench.texts import visible

Row = Mapping[str, Any]  # key of a column -> raw value
AnyColumn = TypeVar("AnyColumn", bound="Column")


@dataclass(frozen=True)
class Shown:
    """A cell with a part that may be marked: in bold where a printer has it, else by a star in a column beside it."""

    text: str
    best: bool = False
    before: str = ""  # what stands before the text, never in bold


@dataclass(frozen=True)
class Column:
    """A column: its key and type for programs, its heading and its cells for people."""

    key: str
    kind: str = "object"  # pandas type of the raw values
    heading: str | None = None  # None: not in tables for people. A line break is where a narrow printer breaks it
    show: Callable[[Any], str] = str  # of a raw value that is not missing
    show_row: Callable[[Row], str | Shown] | None = None  # instead of `show`, where a cell needs more than its value
    unit: str = ""  # of all cells; it stands behind the heading
    left: bool = False  # aligned left, else right
    width: int | None = None  # characters of a line, where specifications are broken into lines
    starred: bool = False  # its cells are `Shown`, and some may be the best

    @property
    def title(self) -> str:
        """The heading with the unit."""
        return " ".join(filter(None, (self.heading, self.unit)))

    def cell(self, row: Row) -> str | Shown:
        """What people see of this column in a row."""
        if self.show_row is not None:
            return self.show_row(row)
        value = row[self.key]
        missing = value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
        return MISSING if missing else self.show(value)


@dataclass(frozen=True)
class MarkNote:
    """A note that explains how this printer marks the best cells."""

    says: str


Note = str | MarkNote


@dataclass(frozen=True)
class Split:
    """How a narrow printer divides a table that is too wide: into several tables that begin with the same columns."""

    fixed: int  # the first columns, which all of them have
    most: int  # further columns of one of them
    what: str  # what these columns are: the titles count them


@dataclass(frozen=True)
class Table:
    """Rows under their columns."""

    columns: Sequence[Column]
    groups: Sequence[Sequence[Row]]  # rows that belong together
    title: str = ""
    above: str = ""  # a paragraph before the table
    below: str = ""  # a sentence after it
    notes: Sequence[Note] = ()
    split: Split | None = None


@dataclass(frozen=True)
class Page:
    """The tables of a report with what stands around them, and the same for programs."""

    tables: Sequence[Table]
    frame: pd.DataFrame  # of CSV and JSON, unrounded
    notes: Sequence[Note] = ()
    title: str = ""  # of a document
    nothing: str = ""  # what stands in place of tables where there are none
    document: Any = None  # of JSON, where the frame is not all that was measured


def typed(columns: Mapping[str, Column], rows: Sequence[Row]) -> pd.DataFrame:
    """Rows as a frame with these columns in their order."""
    # Column by column with its type, since pandas would guess another one for a column that lacks values.
    return pd.DataFrame({key: _series([row[key] for row in rows], each.kind) for key, each in columns.items()})


def _series(values: list[Any], kind: Any) -> pd.Series[Any]:  # of pandas, as `Column.kind`
    try:
        series: pd.Series[Any] = pd.Series(values, dtype=kind)
    except UnicodeEncodeError:  # half a surrogate pair, as a word of another encoding on the command line becomes
        series = pd.Series([visible(each) if isinstance(each, str) else each for each in values], dtype=kind)
    return series


def by_key(columns: Iterable[AnyColumn]) -> dict[str, AnyColumn]:
    """Columns by their keys, in order."""
    return {column.key: column for column in columns}


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """The rows of a frame."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
