"""The leaderboard: one row per entry (method, compressor, budget) of every cell, from records.

bench/reports/leaderboard/columns.py declares what a row holds, bench/reports/leaderboard/page.py prints it.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import pandas as pd

from bench.records.files import ReadRecord
from bench.reports.leaderboard.columns import COLUMNS, Standing, differences
from bench.reports.leaderboard.entries import (
    Entry,
    budget_order,
    entries_of,
    in_every_table,
    is_reference,
    natural,
)
from bench.reports.table import Row, typed
from bench.stats import intervals
from bench.stats.ranks import rank_intervals
from bench.stats.significance import holm, paired_t


def leaderboard(records: Iterable[ReadRecord], released: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row per entry, with the columns of `COLUMNS`, in the order in which tables show them.

    Of several records of a trial the last one counts; stale ones are for the caller to leave out. Records made by other
    digests, or under another label regime, never share a row, and never a rank or a difference.

    released: protocol id -> digest of what was released, for the column `official`; see `Entry.official`.
    """
    return typed(COLUMNS, [row for _, row in ranked(records, released)])


def ranked(records: Iterable[ReadRecord], released: Mapping[str, str] | None = None) -> list[tuple[Standing, Row]]:
    """Each row of `leaderboard(...)`, in its order, with the entry that it was made of."""
    tables = _split(in_every_table(entries_of(records)), lambda entry: (entry.names, entry.fixed))
    standings = [standing for table in tables for standing in _standings(table, released)]
    rows = [(each, {key: column.value(each) for key, column in COLUMNS.items()}) for each in standings]
    return sorted(rows, key=lambda pair: _order(pair[1]))


def _standings(table: list[Entry], released: Mapping[str, str] | None) -> list[Standing]:
    best: set[str] = set()
    for budget in _split(table, lambda entry: entry.trial["budget"]):
        groups = intervals.tie_groups({entry.name: entry.accuracies for entry in budget})
        best.update(groups[0] if groups else [])
    cells = _split(table, lambda entry: (entry.trial["compressor"], entry.trial["budget"]))
    references = [
        next((each for each in cell if is_reference(each.trial["method"], each.labels)), None) for cell in cells
    ]
    tested = [
        paired_t(differences(entry, reference)).p
        for cell, reference in zip(cells, references, strict=True)
        for entry in cell
    ]
    p_values = zip(tested, holm(tested), strict=True)
    standings = []
    for cell, reference in zip(cells, references, strict=True):
        accuracies = {entry.name: entry.accuracies for entry in cell}
        ranks, open_ranks = intervals.ranks(accuracies), rank_intervals(accuracies)
        for entry in cell:
            p, p_holm = next(p_values)
            standings.append(
                Standing(
                    entry,
                    reference,
                    official=entry.official(released),
                    best=entry.name in best,
                    rank=ranks.get(entry.name),
                    open_ranks=open_ranks.get(entry.name, (None, None)),
                    p=p,
                    p_holm=float(p_holm),
                )
            )
    return standings


def _split(entries: Iterable[Entry], key: Callable[[Entry], Hashable]) -> list[list[Entry]]:
    groups: dict[Hashable, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[key(entry)].append(entry)
    return list(groups.values())


def _order(row: Row) -> tuple[Any, ...]:
    """Tables in order of their heading; in a table the large budgets first; in a budget by compressor, then by rank."""
    place = int(re.sub(r"\D", "", row["rank"])) if row["rank"] else math.inf
    mean = -row["mean"] if row["n"] else math.inf
    table = (natural(row["dataset"]), natural(row["protocol"]), row["ipc"], natural(row["student"]), row["labels"])
    group = (budget_order(row["budget"]), row["compressor"] not in (None, "none"), row["compressor"] or "")
    return (*table, row["fixed_digest"], *group, place, mean, row["method"])
