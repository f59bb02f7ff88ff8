"""The verb `cost`: what the methods of a plan or of the options cost, as tables."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from bench.artifacts.refs import Workspace
from bench.driver.outcome import Outcome
from bench.plugins.registry import discover
from bench.records.files import environment
from bench.reports.printing import METHOD_WIDTH, MISSING, grid, listed, raw, titled, wrapped
from bench.studies.costs.measure import Cost, Costs
from bench.studies.pictures.condensed_sets import Opened, SetName, named_sets

MIB = 2**20
HEADERS = ["method", "preparation s", "condensation s", "by the clock s", "peak MiB", "prepared"]
LEFT = {"method", "prepared"}
# What lies in the store under these names, as people call it.
SHARED = {
    "backbone": "further networks",
    "dynamics": "training dynamics",
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


def cost_command(
    *,
    plan: str | None,
    datasets: Sequence[str],
    methods: Sequence[str],
    ipcs: Sequence[int],
    protocols: Sequence[str],
    format_: str,
    plugins: Sequence[str],
) -> int:
    """Measure and print. Returns the exit code: 1 if a method failed. Raises UserError."""
    registry = discover(plugins)
    named = named_sets(registry, plan=plan, datasets=datasets, methods=methods, ipcs=ipcs, protocols=protocols)
    names = largest(named) if plan else named
    raw(pd.DataFrame(), format_)  # an unknown format is told now, not after minutes
    say = Console(stderr=True).print
    with tempfile.TemporaryDirectory(prefix="condensebench-cost-") as folder:
        opened = Opened(Workspace(folder, registry), names)
        costs, found = Costs(registry, Path(folder)), dict[SetName, Outcome]()
        for number, name in enumerate(names, 1):
            found[name] = outcome = costs.measure(name, opened.dataset(name), opened.teacher(name))
            told = f"{outcome.value.seconds:.2f} s" if outcome.status == "ok" else f"failed: {outcome.message}"
            label = f"{number}/{len(names)} {name.dataset} ipc={name.ipc} {name.method}"
            say(f"{label}: {told}", highlight=False, soft_wrap=True, markup=False)
        print(rendered(found, {name.dataset: opened.dataset(name).train_images for name in names}, format_))
    return int(any(outcome.status != "ok" for outcome in found.values()))


def largest(names: Sequence[SetName]) -> list[SetName]:
    """Of each data set the sets with most images per class."""
    most = {name.dataset: max(other.ipc for other in names if other.dataset == name.dataset) for name in names}
    return [name for name in names if name.ipc == most[name.dataset]]


def rendered(found: Mapping[SetName, Outcome], train_images: Mapping[str, int], format: str) -> str:
    """The measured costs: a table for each data set and number of images per class, or one of plain values.

    Args:
        found: of each set, in the order of the rows.
        train_images: of each data set.
        format: text, md, latex, csv or json.
    """
    if (text := raw(pd.DataFrame([_flat(name, outcome) for name, outcome in found.items()]), format)) is not None:
        return text.rstrip("\n")
    tables: dict[str, list[list[str]]] = {}
    notes = list(NOTES)
    for name, outcome in found.items():
        heading = f"{name.dataset}, ipc {name.ipc}, of {train_images[name.dataset]:,} training images"
        tables.setdefault(heading, []).append(_line(name, outcome, format))
        if outcome.status != "ok":
            notes.append(f"{name.dataset}, {name.method}: {outcome.error_type}: {outcome.message}")
    here = environment()
    notes.append(f"{here['machine']}, {here['host']}; Python {here['python']}, torch {here['torch']}.")
    parts = ["# What each method costs"] if format == "md" else []
    parts += [titled(heading, grid([rows], HEADERS, LEFT, format), "", format) for heading, rows in tables.items()]
    return "\n\n".join([*parts, listed(notes, format)])


def _line(name: SetName, outcome: Outcome, format: str) -> list[str]:
    method = wrapped(name.method, METHOD_WIDTH) if format == "text" else name.method
    if outcome.status != "ok":
        return [method, MISSING, outcome.status, MISSING, MISSING, ""]
    cost: Cost = outcome.value
    shared = ", ".join(SHARED.get(kind, kind) for kind in cost.shared)
    prepared = sum(cost.shared.values())
    return [
        method,
        _seconds(prepared) if cost.shared else "",
        _seconds(cost.seconds),
        _seconds(cost.wall),
        f"{cost.peak_bytes / MIB:.0f}",
        shared,
    ]


def _seconds(value: float) -> str:
    return MISSING if math.isnan(value) else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _flat(name: SetName, outcome: Outcome) -> dict[str, Any]:
    told: dict[str, Any] = {"dataset": name.dataset, "ipc": name.ipc, "method": name.method, "status": outcome.status}
    cost: Cost | None = outcome.value if outcome.status == "ok" else None
    return told | {
        "preparation_seconds": sum(cost.shared.values()) if cost else None,
        "seconds": cost.seconds if cost else None,
        "wall_seconds": cost.wall if cost else None,
        "peak_bytes": cost.peak_bytes if cost else None,
        "prepared": " ".join(cost.shared) if cost else None,
    }
