"""The leaderboard as data of a page: one table per data set, protocol digest and label regime."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.records.schema import FIXED
from bench.reports.leaderboard.columns import COLUMNS
from bench.reports.leaderboard.page import columns_shown, notes, resolution
from bench.reports.printers import LATEX, LIVELY
from bench.reports.table import Column, MarkNote, Row, Shown, by_key, typed
from bench.website.material import BoardRow, Material

_FIXED_IN_TABLE = [part for part in FIXED if part != "network"]  # students stand in a column
# Beside the columns of the leaderboard in text, where these two stand in headings.
_IN_HEADINGS = (
    Column("ipc", "int64", heading="ipc"),
    Column("student", "str", heading="student", left=True),
)


# Columns of the leaderboard whose values are those of the whole table, and the others; digests of the cell apart.
TABLE_KEYS = ["dataset", "protocol", "labels", "protocol_digest"]
ROW_KEYS = [key for key in COLUMNS if key not in (*TABLE_KEYS, "fixed_digest")]


@dataclass(frozen=True)
class BoardTable:
    """Rows that one table shows. Ranks and differences are those within one ipc and student."""

    key: str  # stable, of names and digests: it stands in addresses
    rows: tuple[BoardRow, ...]

    @property
    def first(self) -> BoardRow:
        """Any row: dataset, protocol, labels and digests are the same for all."""
        return self.rows[0]

    @property
    def title(self) -> str:
        """Data set, protocol and label regime."""
        values = self.first.values
        balance = ", classes not balanced" if values["unbalanced"] else ""
        return f"{values['dataset']}, {values['protocol']}, {values['labels']} labels{balance}"

    @property
    def cells(self) -> list[tuple[int, str, list[BoardRow]]]:
        """(ipc, student, rows): what is ranked together, whatever the compressor."""
        groups: dict[tuple[int, str, str], list[BoardRow]] = defaultdict(list)
        for row in self.rows:
            groups[row.values["ipc"], row.values["student"], row.values["fixed_digest"]].append(row)
        return [(ipc, student, rows) for (ipc, student, _), rows in groups.items()]


def board_tables(rows: Iterable[BoardRow]) -> list[BoardTable]:
    """The tables that rows make, in the order of the rows. No table spans two protocol digests."""
    groups: dict[tuple[Any, ...], list[BoardRow]] = defaultdict(list)
    for row in rows:
        names = tuple(row.values[part] for part in ("dataset", "protocol", "labels"))
        groups[(*names, *(row.standing.entry.digest(part) for part in _FIXED_IN_TABLE))].append(row)
    return [BoardTable(_short_hash(key), tuple(members)) for key, members in groups.items()]


def row_key(row: BoardRow) -> str:
    """What an address calls a row: the same for the same trial, regime and digests."""
    return _short_hash([row.standing.entry.name])


def _short_hash(key: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]


def page_columns(material: Material) -> list[Column]:
    """All columns of the page, from the left."""
    shown: dict[str, Column] = dict(by_key(columns_shown([row.values for row in material.rows])))
    named = [shown.pop(key) for key in ("method", "compressor") if key in shown]
    return [*named, *_IN_HEADINGS, *shown.values()]


def data(material: Material, chunk_of: dict[str, str]) -> dict[str, Any]:
    """What the page of the leaderboard loads.

    Args:
        material: what was gathered.
        chunk_of: key of a row -> name of the file that holds its details.
    """
    columns = page_columns(material)
    return {
        "keys": list(COLUMNS),
        "row_keys": ROW_KEYS,
        "latex": LATEX,
        "lively": LIVELY.pattern,
        "columns": [
            {"key": each.key, "title": each.title, "left": each.left, "mark": each.starred} for each in columns
        ],
        "tables": [_table(table, columns, chunk_of) for table in board_tables(material.rows)],
        "first": first_table(material),
    }


def first_table(material: Material) -> str | None:
    """Key of the table that is seen first: the official one with most rows of the folder that was named first."""
    places = set(material.sources[0].loaded.places)
    tables = board_tables(material.rows)

    def weight(table: BoardTable) -> tuple[bool, int]:
        return table.first.values["official"], sum(not places.isdisjoint(row.places) for row in table.rows)

    return max(tables, key=weight).key if tables else None


def _note(note: str | MarkNote) -> str:
    return f"bold: {note.says}" if isinstance(note, MarkNote) else note


def _table(table: BoardTable, columns: Sequence[Column], chunk_of: dict[str, str]) -> dict[str, Any]:
    values = table.first.values
    several = len(table.cells) > 1
    fixed = list(dict.fromkeys(row.values["fixed_digest"] for row in table.rows))
    return {
        "key": table.key,
        "title": table.title,
        "shared": {key: values[key] for key in TABLE_KEYS},
        "fixed": fixed,
        "official": all(row.values["official"] for row in table.rows),
        "default_recipe": any(row.values["default_recipe"] for row in table.rows),
        "resolution": [
            (f"ipc {ipc}, {student}: " if several else "") + resolution([row.values for row in rows])
            for ipc, student, rows in table.cells
        ],
        "notes": [_note(note) for note in notes(typed(COLUMNS, [row.values for row in table.rows]))],
        "best": [best for ipc, student, rows in table.cells for best in _best(ipc, student, rows)],
        "rows": [_row(row, columns, fixed, chunk_of[row_key(row)]) for row in table.rows],
    }


def _best(ipc: int, student: str, rows: Sequence[BoardRow]) -> Iterator[dict[str, Any]]:
    """The best of each budget and what is tied with it, best first, as the leaderboard marks them."""
    budgets: dict[str | None, list[Row]] = {row.values["budget"]: [] for row in rows}
    for row in rows:
        if row.values["best"]:
            budgets[row.values["budget"]].append(row.values)
    for budget, marked in budgets.items():
        names = [[row["method"], row["compressor"]] for row in sorted(marked, key=lambda row: -row["mean"])]
        at = [f"ipc {ipc}", student] + ([budget or "no budget"] if len(budgets) > 1 else [])
        if names:
            yield {"at": at, "rows": names}


def _row(row: BoardRow, columns: Sequence[Column], fixed: Sequence[str], chunk: str) -> dict[str, Any]:
    cells = [_cell(column, row) for column in columns]
    return {
        "key": row_key(row),
        "chunk": chunk,
        "raw": [row.values[key] for key in ROW_KEYS],
        "fixed": fixed.index(row.values["fixed_digest"]),
        "shown": [cell.before + cell.text for cell in cells],
        "best": row.values["best"],
        "status": row.values["status"],
        "flags": _flags(row),
        "broken": list(dict.fromkeys(finding.rule for finding in row.findings if finding.severity == "error")),
    }


def _cell(column: Column, row: BoardRow) -> Shown:
    cell = column.cell(row.values)
    return cell if isinstance(cell, Shown) else Shown(cell)


def _flags(row: BoardRow) -> list[str]:
    """What a reader must see of a row before its figures. What holds for the whole table stands above it."""
    flags = []
    if row.stale:
        flags.append("stale")
    if row.values["status"] != "ok":
        flags.append(row.values["status"])
    return flags
