"""One entry under several protocols: what a recipe alone is worth. Never a ranking: every column is another recipe.

The verb `leaderboard --by protocol` prints what is built here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from bench.records.files import Record
from bench.reports.leaderboard.rows import entries_of, entry_order, is_official, natural
from bench.reports.printing import (
    COMPRESSOR_WIDTH,
    METHOD_WIDTH,
    MISSING,
    UNOFFICIAL,
    grid,
    interval,
    listed,
    raw,
    titled,
    wrapped,
)
from bench.stats import intervals
from bench.trials.plan import UNCOMPRESSED

WARNING = "Not comparable between columns: each column is another recipe (and label regime)."
COLUMNS = {
    "dataset": "str",
    "ipc": "int64",
    "method": "str",
    "student": "str",
    "compressor": "object",  # None under hard labels
    "budget": "object",  # None where there is none
    "protocol": "str",
    "labels": "str",  # the label regime: hard, stored or online
    "protocol_digest": "object",
    "fixed_digest": "str",  # of data set, teacher, protocol, engine and network
    "n": "int64",  # replicates that have a result
    "mean": "float64",
    "ci95": "float64",  # half of the 95 % t interval of the mean
    "status": "str",  # ok, partial, failed, infeasible
    "official": "bool",  # see bench.reports.leaderboard.rows.is_official
    "column": "str",  # where tables show it: protocol, regime and, where it needs one to be told apart, a digest
}
_ACROSS = 4  # protocols side by side in text, so that a table fits into 150 columns
_ROW = ("method", "compressor", "budget")


def by_protocol(records: Iterable[Record], released: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row per entry and protocol, with the columns of `COLUMNS`, accuracies as fractions.

    Of several records of a trial the last one counts. The frame is long, so that programs can group it; tables show
    a column for each value of `column`. `released`: protocol id -> digest of what was released, for `official`.
    """
    entries = sorted(entries_of(records), key=entry_order)
    fixed = defaultdict(set)
    for entry in entries:
        fixed[entry.names[:-1], entry.labels].add(entry.fixed)
    rows: list[dict[str, Any]] = []
    for entry in entries:
        found = intervals.summary(entry.accuracies.values())
        official = is_official(entry.trial["protocol"], entry.digest("protocol"), released)
        heading = f"{entry.trial['protocol']} ({entry.labels} labels)"
        if len(fixed[entry.names[:-1], entry.labels]) > 1:
            heading = f"{heading[:-1]}, fixed parts {entry.fixed[:8]})"
        if not official:
            heading = f"{heading[:-1]}, unofficial)"
        rows.append(
            {
                **{key: value for key, value in entry.trial.items() if key in COLUMNS},
                "labels": entry.labels,
                "protocol_digest": entry.digest("protocol"),
                "fixed_digest": entry.fixed,
                "n": found.n,
                "mean": found.mean,
                "ci95": found.half,
                "status": entry.status,
                "official": official,
                "column": heading,
            }
        )
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=kind) for name, kind in COLUMNS.items()})


def render_across(frame: pd.DataFrame, format: str = "text") -> str:
    """`by_protocol(...)` as text, md, csv, latex or json.

    Text, Markdown and LaTeX: a table for each data set, ipc and student, with a column for each protocol, and the
    warning that columns do not compare. CSV and JSON: every column of `COLUMNS`, unrounded, missing values empty or
    null. Raises UserError for any other format.
    """
    if (text := raw(frame, format)) is not None:
        return text
    if frame.empty:
        return "No records yet. Make some with: condensebench run --results DIR\n"
    parts = [
        _table(f"{dataset}, ipc {ipc}, student {student}", table, format)
        for (dataset, ipc, student), table in frame.groupby(["dataset", "ipc", "student"], sort=False)
    ]
    return "\n\n".join([*parts, listed(_notes(frame), format)]) + "\n"


def _table(heading: str, table: pd.DataFrame, format: str) -> str:
    recipes = sorted(set(table["column"]), key=natural)
    lines = _lines(table, format)
    width = _ACROSS if format == "text" else len(recipes)
    blocks = [recipes[start : start + width] for start in range(0, len(recipes), width)]
    parts = []
    for number, block in enumerate(blocks, start=1):
        body = [[*place, *(found.get(name, MISSING) for name in block)] for place, found in lines]
        headers = [name.replace(" (", "\n(", 1).replace(", ", ",\n") if format == "text" else name for name in block]
        whole = grid([body], ["method", "compressor", *headers], ("method", "compressor"), format)
        part = f"{heading}, protocols {number} of {len(blocks)}" if len(blocks) > 1 else heading
        parts.append(titled(part, whole, WARNING, format))
    return "\n\n".join(parts)


def _lines(table: pd.DataFrame, format: str) -> list[tuple[list[str], dict[str, str]]]:
    """(method and compressor, column -> result) of every line."""
    # One line for what a protocol stores uncompressed and what another one does not store at all.
    table = table.assign(compressor=table["compressor"].replace(UNCOMPRESSED, None))
    # Records that another version of the method made stand on a line of their own.
    version = table.groupby([*_ROW, "column"], dropna=False).cumcount()
    lines = []
    for _, group in table.groupby([*_ROW, version], sort=False, dropna=False):
        first: Any = next(group.itertuples())
        place = [first.method, f"{first.compressor}@{first.budget}" if first.budget else first.compressor or MISSING]
        if format == "text":
            place = [wrapped(place[0], METHOD_WIDTH), wrapped(place[1], COMPRESSOR_WIDTH)]
        lines.append((place, {str(row.column): _cell(row) for row in group.itertuples()}))
    return lines


def _cell(row: Any) -> str:
    if not row.n:
        return str(row.status)
    text = interval(row.mean, row.ci95)
    return f"(partial) {text}" if row.status == "partial" else text


def _notes(frame: pd.DataFrame) -> Iterator[str]:
    yield "Down a column stand results of one recipe; along a row stands what the recipe alone changes."
    yield "accuracy in %: test split, last epoch, mean over replicates ± half of the 95 % t interval."
    yield "labels: hard: the class; stored: a fixed set of soft labels; online: the teacher labels every batch anew."
    yield f"compressor {MISSING}: labels are stored uncompressed, or not stored at all."
    yield f"{MISSING}: no records under that protocol. (partial): some replicates have no result."
    if not frame.official.all():
        yield UNOFFICIAL
