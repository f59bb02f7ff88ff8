"""DD-Ranking's scores as tables."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bench.reports.printing import MISSING, UNOFFICIAL, grid, interval, listed, raw, titled

_NOTES = (
    "HLR: accuracy of the full data minus that of the condensed set, both under hard labels (lower is better). IOR: "
    "improvement over random images under the same recipe. Both in points.",
    "LRS, ARS: DD-Ranking's label-robust and augmentation-robust scores, fractions in [0, 1] (w = g = .5); 0.269 "
    "stands for no difference at all. The package feeds percent into the same formulas: its figures do not compare.",
)


def render_scores(frame: pd.DataFrame, format: str = "text") -> str:
    """`bench.reports.ddranking.scores(...)` as text, md, csv, latex or json; csv and json hold every column,
    unrounded."""
    if (text := raw(frame, format)) is not None:
        return text
    if frame.empty:
        return "No records of a method other than random yet. Make some with: condensebench run --results DIR\n"
    parts, lacking = [], set()
    for (dataset, protocol, labels, official, ipc, student), table in frame.groupby(
        ["dataset", "protocol", "labels", "official", "ipc", "student"], sort=False
    ):
        heading = f"DD-Ranking, {dataset}, {protocol}, {labels} labels, ipc {ipc}, student {student}"
        rows = [_row(row) for row in table.itertuples()]
        headers = ["method", "compressor", "n", "IOR", "HLR", "LRS", "ARS", "HLR under", "ARS with"]
        body = grid([rows], headers, ("method", "compressor", "HLR under", "ARS with"), format)
        parts.append(titled(heading if official else f"unofficial: {heading}", body, "", format))
        lacking |= {reason for why in table.why for reason in why.split("; ") if reason}
    notes = [*_NOTES, *(f"{MISSING} in {reason}" for reason in sorted(lacking))]
    if not frame.official.all():
        notes.append(UNOFFICIAL)
    return "\n\n".join([*parts, listed(notes, format)]) + "\n"


def _row(row: Any) -> list[str]:
    stored = f"{row.compressor}@{row.budget}" if row.budget else row.compressor or MISSING
    scores = [MISSING if pd.isna(value) else f"{value:.3f}" for value in (row.lrs, row.ars)]
    differences = [interval(value, float("nan"), "+") for value in (row.ior, row.hlr)]
    protocols = [row.hard_protocol or MISSING, row.plain_protocol or MISSING]
    return [row.method, stored, str(row.n), *differences, *scores, *protocols]
