"""What methods cost, as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench import machine
from bench.driver.outcome import Outcome
from bench.reports.printers import printed
from bench.reports.quantities import METHOD_WIDTH, MISSING
from bench.reports.table import Column, Page, Row, Table
from bench.studies.costs.measure import Cost
from bench.studies.pictures.condensed_sets import SetName

MIB = 2**20
# What lies in the store under these names, as people call it.
SHARED = {
    "backbone": "further networks",
    "dynamics": "training dynamics",
    "dynamics-scores": "training dynamics",
    "scoring-labels": "soft labels",
}
NOTES = (
    "Replicate 0, each method in a fresh process with one thread and nothing cached. Process time, unless it says "
    "otherwise.",
    "Preparation: what methods share and a store keeps (the last column names it), made once for all of them. It is "
    "told in full at every method that uses it and is no part of the condensation.",
    "Peak: resident memory above the interpreter with all libraries, the training images and the teacher.",
    "Networks whose weights ship with this project, or lie ready when a run begins, cost nothing here: the teacher, "
    "and the further ones of methods that match several.",
)


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _preparation(row: Row) -> str:
    if row["status"] == "ok" and not row["prepared"]:
        return ""
    seconds = row["preparation_seconds"]
    return MISSING if seconds is None or math.isnan(seconds) else _seconds(seconds)


def _condensation(row: Row) -> str:
    return _seconds(row["seconds"]) if row["status"] == "ok" else row["status"]


def _prepared(row: Row) -> str:
    return ", ".join(SHARED.get(kind, kind) for kind in (row["prepared"] or "").split())


COLUMNS = (
    Column("method", heading="method", left=True, width=METHOD_WIDTH),
    Column("preparation_seconds", heading="preparation", unit="s", show_row=_preparation),
    Column("seconds", heading="condensation", unit="s", show_row=_condensation),
    Column("wall_seconds", heading="by the clock", unit="s", show=_seconds),
    Column("peak_bytes", heading="peak", unit="MiB", show=lambda value: f"{value / MIB:.0f}"),
    Column("prepared", heading="prepared", show_row=_prepared, left=True),
)


def largest(names: Sequence[SetName]) -> list[SetName]:
    """Of each data set the sets with most images per class."""
    most = {name.dataset: max(other.ipc for other in names if other.dataset == name.dataset) for name in names}
    return [name for name in names if name.ipc == most[name.dataset]]


def rendered(outcomes: Mapping[SetName, Outcome], train_images: Mapping[str, int], format: str) -> str:
    """The measured costs: a table for each data set and number of images per class, or one of plain values.

    Args:
        outcomes: of each set, in the order of the rows.
        train_images: of each data set.
        format: text, md, latex, csv or json.
    """
    rows = [_row(name, outcome) for name, outcome in outcomes.items()]
    tables: dict[str, list[Row]] = {}
    notes = list(NOTES)
    for row, (name, outcome) in zip(rows, outcomes.items(), strict=True):
        heading = f"{name.dataset}, ipc {name.ipc}, of {train_images[name.dataset]:,} training images"
        tables.setdefault(heading, []).append(row)
        if outcome.status != "ok":
            notes.append(f"{name.dataset}, {name.method}: {outcome.error_type}: {outcome.message}")
    kind = machine.environment()
    notes.append(f"{kind['machine']}, {kind['host']}; Python {kind['python']}, torch {kind['torch']}.")
    page = Page(
        [Table(COLUMNS, [group], title=heading) for heading, group in tables.items()],
        pd.DataFrame(rows),
        notes=notes,
        title="What each method costs",
    )
    return printed(page, format).removesuffix("\n")


def _row(name: SetName, outcome: Outcome) -> dict[str, Any]:
    identity: dict[str, Any] = {
        "dataset": name.dataset,
        "ipc": name.ipc,
        "method": name.method,
        "status": outcome.status,
    }
    cost: Cost | None = outcome.value if outcome.status == "ok" else None
    return identity | {
        "preparation_seconds": sum(cost.shared.values()) if cost else None,
        "seconds": cost.seconds if cost else None,
        "wall_seconds": cost.wall if cost else None,
        "peak_bytes": cost.peak_bytes if cost else None,
        "prepared": " ".join(cost.shared) if cost else None,
    }
