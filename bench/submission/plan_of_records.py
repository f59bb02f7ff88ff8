"""A plan for the trials of records: the one that a user names, held to the records, or one that is made of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.errors import UserError
from bench.plugins.registry import Registry
from bench.trials.plan import read_plan
from bench.trials.trial import Trial

SHOWN = 3  # trials that are named
TITLE = "The trials of a submission"


def plan_of(trials: Sequence[Trial]) -> str:
    """A plan file (TOML) of these trials: the methods that share all else, and their replicates, are one grid."""
    highest: dict[Trial, int] = {}
    for trial in trials:
        row = Trial(**{**trial.as_dict(), "replicate": 0})
        highest[row] = max(highest.get(row, 0), trial.replicate)
    grids: dict[tuple[object, ...], list[str]] = defaultdict(list)
    for row, replicate in highest.items():
        key = (row.dataset, row.protocol, row.ipc, row.compressor, row.budget, row.student, replicate + 1)
        grids[key].append(row.method)
    lines = [f"title = {json.dumps(TITLE)}"]
    for (dataset, protocol, ipc, compressor, budget, student, replicates), methods in grids.items():
        lines += ["", "[[grid]]"]
        values = {
            "datasets": [dataset],
            "protocols": [protocol],
            "methods": methods,
            "compressors": [] if compressor is None else [compressor],
            "budgets": [] if budget is None else [budget],
            "students": [student],
            "ipcs": [ipc],
            "replicates": replicates,
        }
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if value != []]
    return "\n".join(lines) + "\n"


def plan_differences(plan: Path, trials: Sequence[Trial], registry: Registry) -> Iterator[str]:
    """What of a plan has no record, and what records are of no plan, as messages; nothing where both are the same.

    Raises UserError where the file is no plan. One that names what is not known here differs as a whole.
    """
    content = read_plan(plan)
    try:
        planned = set(content.trials(registry))
    except UserError as error:
        yield f"the plan cannot be carried out here: {error}"
        return
    present = set(trials)
    for what, missing in (
        ("trials of the plan have no record", planned - present),
        ("records are of trials that the plan does not have", present - planned),
    ):
        if missing:
            named = "; ".join(sorted(map(str, missing))[:SHOWN])
            yield f"{len(missing)} {what}: {named}{' ...' if len(missing) > SHOWN else ''}"
