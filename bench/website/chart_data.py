"""Which plots the records of a table give, and their data: the values of the leaderboard, in percent and bytes."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.lock.lock_file import released
from bench.reports.leaderboard.by_protocol import WARNING, by_protocol
from bench.reports.leaderboard.columns import COLUMNS, stored_as
from bench.reports.quantities import MISSING
from bench.reports.table import Shown, rows_of
from bench.texts import visible
from bench.trials.plan import UNCOMPRESSED
from bench.website import charts
from bench.website.charts import Chart, Datum
from bench.website.encoding import Pool
from bench.website.material import BoardRow, Material
from bench.website.tables import BoardTable, board_tables

_MOST_PANELS = 6  # of ranks, one for each compressor and budget
_FEWEST_VALUES = 3  # of a parameter whose effect is drawn


@dataclass(frozen=True)
class Group:
    """Plots that a reader looks at together."""

    key: str
    title: str
    dataset: str
    charts: tuple[Chart, ...]


def groups(material: Material) -> Iterator[Group]:
    """The plots of every ipc and student of every table, of every table, and of protocols side by side."""
    for table in board_tables(material.rows):
        dataset = table.first.values["dataset"]
        for ipc, student, rows in table.cells:
            title = f"{table.title}, ipc {ipc}, {student}"
            if charts := list(_of_cell(rows)):
                yield _group(title, dataset, charts, table.key)
        if charts := list(_students(table)):
            yield _group(f"{table.title}, by student", dataset, charts, table.key)
    yield from _protocols(material)


def pooled(group: Group) -> dict[str, Any]:
    """The charts of a group as the page loads them: rows that several charts draw stand once, in `rows`."""
    pool = Pool()
    shown = []
    for chart in group.charts:
        rows = [pool.number(row) for row in chart.spec["data"]["values"]]
        shown.append({**vars(chart), "spec": {**chart.spec, "data": {"rows": rows}}})
    return {"rows": pool.values, "charts": shown}


def _group(title: str, dataset: str, charts: Sequence[Chart], digests: str = "") -> Group:
    key = hashlib.sha256(f"{title} {digests}".encode()).hexdigest()[:12]
    return Group(key, visible(title), visible(dataset), tuple(charts))


def _of_cell(rows: Sequence[BoardRow]) -> Iterator[Chart]:
    data = [_datum(row) for row in rows if row.values["n"]]
    if len(data) < 2:
        return
    yield charts.intervals(data)
    labels = [row for row in data if row["bytes_labels"]]
    if len({row["bytes_labels"] for row in labels}) > 1:
        caption = "Bytes of the encoded labels, everything included."
        yield charts.against_size(labels, "bytes_labels", "bytes of labels", caption)
        caption = "How many times smaller than fp16 logits with their view parameters."
        yield charts.against_size(labels, "ratio", "label ratio", caption, falling=True)
    stored = [row for row in data if row["bpc"]]
    if len(stored) > 1:
        caption = "Bits of images and labels, over the number of classes."
        yield charts.against_size(stored, "bpc", "bits per class", caption)
    ranked = [row for row in data if row["rank"] is not None and row["rank_low"] is not None]
    panels: dict[str, list[Datum]] = defaultdict(list)
    for row in ranked:
        panels[row["stored"]].append(row)
    many = [each for each in panels.values() if len(each) > 2] or [each for each in panels.values() if len(each) > 1]
    chosen = sorted(many, key=len, reverse=True)[:_MOST_PANELS]
    if chosen:
        yield charts.ranks([row for panel in chosen for row in panel])
    timed = [row for row in data if row["seconds"]]
    if len(timed) > 1:
        caption = "Wall seconds of a trial: condensing, labelling, training, testing."
        yield charts.against_size(timed, "seconds", "seconds of a trial", caption)
    yield from _sensitivity(rows)
    yield from _losses(rows)


def _datum(row: BoardRow) -> Datum:
    """A row of the leaderboard as plots need it; figures that are missing are None."""
    values = row.values
    half = 0.0 if math.isnan(values["ci95"]) else 100 * values["ci95"]
    stored = stored_as(values)
    shown = {key: COLUMNS[key].cell(values) for key in ("mean", "rank", "bpc", "seconds")}
    return {
        "row": row_name(row),
        "method": visible(values["method"]),
        "compressor": visible(values["compressor"] or ""),
        "stored": visible(stored),
        "budget": visible(values["budget"] or ""),
        "mean": 100 * values["mean"],
        "low": 100 * values["mean"] - half,
        "high": 100 * values["mean"] + half,
        "n": int(values["n"]),
        "best": "best or tied with it" if values["best"] else "others",
        "rank": int("".join(filter(str.isdigit, values["rank"]))) if values["rank"] else None,
        "rank_low": _number(values["rank_low"]),
        "rank_high": _number(values["rank_high"]),
        "bytes_labels": _number(values["bytes_labels"]),
        "ratio": _ratio(row),
        "bpc": _number(values["bpc"]),
        "seconds": _number(values["seconds"]),
        "shown_accuracy": _text(shown["mean"]) + " %",
        "shown_rank": _text(shown["rank"]),
        "shown_size": f"{_text(COLUMNS['bytes_labels'].cell(values))} of labels, {_text(shown['bpc'])} bits/class",
        "shown_time": _text(shown["seconds"]),
    }


def row_name(row: BoardRow) -> str:
    """What plots call a row: its method, and how its labels are stored where they are compressed."""
    stored = stored_as(row.values)
    method = row.values["method"]
    return visible(method if stored in (MISSING, UNCOMPRESSED) else f"{method} {stored}")


def _text(cell: str | Shown) -> str:
    return cell.before + cell.text if isinstance(cell, Shown) else cell


def _number(value: Any) -> float | None:
    number = float("nan") if value is None or str(value) == "<NA>" else float(value)
    return None if math.isnan(number) else number


def _ratio(row: BoardRow) -> float | None:
    """What 1x is over the bytes of the labels, both as means over the replicates."""
    references = [record.bytes_labels_reference for record in row.standing.results]
    known = [reference for reference in references if reference is not None]
    size = _number(row.values["bytes_labels"])
    return sum(known) / len(known) / size if known and size else None


def _students(table: BoardTable) -> Iterator[Chart]:
    """A grid for each ipc that several students were trained at."""
    for ipc in dict.fromkeys(row.values["ipc"] for row in table.rows):
        rows = [row for row in table.rows if row.values["ipc"] == ipc and row.values["n"]]
        if len({row.values["student"] for row in rows}) < 2:
            continue
        data = [{**_datum(row), "student": visible(row.values["student"])} for row in rows]
        caption = "A column for each student; every other part of the recipe is the same."
        yield charts.matrix(data, "student", f"students-{ipc}", f"Accuracy by student, ipc {ipc}", caption)


def _protocols(material: Material) -> Iterator[Group]:
    """A grid for each data set, ipc and student that several protocols were run on."""
    frame = by_protocol(material.records, released())
    frame = frame[frame.n > 0]
    for (dataset, ipc, student), part in frame.groupby(["dataset", "ipc", "student"], sort=False):
        if part["column"].nunique() < 2:
            continue
        data = []
        for row in rows_of(part):
            stored = stored_as(row)
            data.append(
                {
                    "row": visible(row["method"] if stored in (MISSING, UNCOMPRESSED) else f"{row['method']} {stored}"),
                    "protocol": visible(row["column"]),
                    "mean": 100 * row["mean"],
                    "n": int(row["n"]),
                }
            )
        caption = f"{WARNING} Best read down a column."
        chart = charts.matrix(data, "protocol", "protocols", "Accuracy by protocol", caption)
        yield _group(f"{dataset}, ipc {ipc}, {student}, by protocol", str(dataset), [chart])


def _sensitivity(rows: Sequence[BoardRow]) -> Iterator[Chart]:
    """Accuracy over one parameter of a method, where entries differ in nothing else."""
    series: dict[tuple[str, str, str], dict[float, float]] = defaultdict(dict)
    for row in rows:
        parameters = _parameters(row)
        if not row.values["n"]:
            continue
        for key, value in parameters.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            rest = sorted((name, str(other)) for name, other in parameters.items() if name != key)
            method = row.values["method"].partition(":")[0]
            series[method, key, f"{rest} {stored_as(row.values)}"][float(value)] = 100 * row.values["mean"]
    for number, ((method, key, _), points) in enumerate(series.items()):
        if len(points) < _FEWEST_VALUES:
            continue
        name = visible(f"{method}: {key}")
        data = [{key: value, "test accuracy (%)": mean, "series": name} for value, mean in sorted(points.items())]
        caption = "One parameter is varied; everything else is the same."
        yield charts.lines(
            data, key, "test accuracy (%)", "series", f"sensitivity-{number}", f"Sensitivity, {name}", caption
        )


def _parameters(row: BoardRow) -> Mapping[str, Any]:
    parameters = row.standing.entry.records[0].provenance.get("parameters")
    return parameters if isinstance(parameters, dict) else {}


def _losses(rows: Sequence[BoardRow]) -> Iterator[Chart]:
    """What methods record of their own optimisation: loss by tenths of the iterations."""
    data = []
    for row in rows:
        for record in row.standing.entry.records[:1]:
            for key, values in record.provenance.items():
                if key.endswith("_by_tenth") and isinstance(values, list):
                    start = next((value for value in values if isinstance(value, int | float) and value), None)
                    data += [
                        {
                            "tenth of the iterations": tenth,
                            "loss, first tenth = 1": value / start,
                            "series": visible(row.values["method"]),
                        }
                        for tenth, value in enumerate(values, start=1)
                        if start and isinstance(value, int | float)
                    ]
    if data:
        caption = "The loss that a method itself minimises, of its first replicate, over its value in the first tenth."
        yield charts.lines(
            data,
            "tenth of the iterations",
            "loss, first tenth = 1",
            "series",
            "losses",
            "Learning curves of methods",
            caption,
        )
