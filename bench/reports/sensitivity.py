"""Sensitivity: what the values of a sweep's parameters come to, as a table and as a figure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import UserError
from bench.records.files import Record
from bench.reports.quantities import MISSING, interval, percent
from bench.reports.table import Column, Page, Row, Table, by_key, typed
from bench.stats import intervals
from bench.trials.sweep import Axis, Cell, Point
from bench.trials.trial import Trial


@dataclass(frozen=True)
class Measured:
    """A combination of values and the accuracies of its replicates, as fractions."""

    point: Point
    accuracies: dict[int, float]  # replicate -> accuracy
    random: dict[int, float]  # the same of random images under its protocol and compressor
    missing: int  # trials without a result, those of random images left out

    @property
    def summary(self) -> intervals.Summary:
        """Of the replicates."""
        return intervals.summary(self.accuracies.values())


def measured(points: Sequence[Point], trials: Iterable[Trial], records: Iterable[Record]) -> list[Measured]:
    """The results of each combination, by the trials of the sweep."""
    results = {record.id: record for record in records}
    grouped: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    for trial in trials:
        grouped[trial.method, trial.protocol].append(trial)

    def results_of(cell: Cell) -> tuple[dict[int, float], int]:
        # Where the protocol stores no labels, its trials have no compressor; where none is named, the plan's usual one.
        trials_of_cell = [
            trial
            for trial in grouped[cell.method, cell.protocol]
            if cell.compressor is None or trial.compressor in (cell.compressor, None)
        ]
        accuracies = {
            trial.replicate: record.accuracy
            for trial in trials_of_cell
            if (record := results.get(trial.id)) and record.status == "ok" and record.accuracy is not None
        }
        return accuracies, len(trials_of_cell) - len(accuracies)

    out = []
    for point in points:
        accuracies, missing = results_of(point.cell)
        out.append(Measured(point, accuracies, results_of(point.ground)[0], missing))
    return out


def page(axes: Sequence[Axis], rows: Sequence[Measured], title: str) -> Page:
    """A table with a row for each combination: its accuracy, that of random images, and the paired difference to the
    first combination."""
    reference = rows[0]
    columns = by_key(
        [
            *(Column(axis.name, "object", axis.name, left=True) for axis in axes),
            Column("accuracy", "float64", "accuracy %", show_row=lambda row: interval(row["accuracy"], row["ci95"])),
            Column("ci95", "float64"),
            Column("std", "float64", "std", percent),
            Column("n", "int64", "n"),
            Column("random", "float64", "random %", show_row=lambda row: interval(row["random"], row["random_ci95"])),
            Column("random_ci95", "float64"),
            Column("delta", "float64", "vs first", show_row=_difference),
            Column("delta_ci95", "float64"),
            Column("missing", "int64", "without result", show_row=lambda row: str(row["missing"] or "")),
        ]
    )
    values: list[Row] = []
    for each in rows:
        delta = intervals.summary(
            each.accuracies[r] - reference.accuracies[r] for r in each.accuracies.keys() & reference.accuracies.keys()
        )
        whole, random = each.summary, intervals.summary(each.random.values())
        values.append(
            {
                **dict(zip((axis.name for axis in axes), each.point.values, strict=True)),
                "accuracy": whole.mean,
                "ci95": whole.half,
                "std": whole.std,
                "n": whole.n,
                "random": random.mean,
                "random_ci95": random.half,
                "delta": math.nan if each is reference else delta.mean,
                "delta_ci95": math.nan if each is reference else delta.half,
                "missing": each.missing,
            }
        )
    shown = [column for column in columns.values() if column.heading is not None]
    if not any(row["missing"] for row in values):
        shown = [column for column in shown if column.key != "missing"]
    notes = [
        "accuracy: test split, last epoch, mean over n replicates ± half of the 95 % t interval; std: sample standard "
        "deviation.",
        "random: the same of random images under the protocol and the compressor of the row.",
        "vs first: mean difference in points to the first row ± half of the 95 % t interval, paired by replicate; no "
        "correction for many comparisons. Values that are chosen by this table are chosen on the test split.",
    ]
    return Page([Table(shown, [values], title=title)], typed(columns, values), notes=notes)


def _difference(row: Row) -> str:
    return "first" if math.isnan(row["delta"]) else interval(row["delta"], row["delta_ci95"], "+")


def draw(axes: Sequence[Axis], rows: Sequence[Measured], path: Path, title: str) -> None:
    """Write the figure of a sweep of one parameter (a line) or of two (a heat map).

    Raises:
        UserError: there are more parameters, nothing to draw, or the file cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    if len(axes) > 2:
        raise UserError(f"a figure shows one or two parameters; this sweep has {len(axes)}. The table has them all.")
    if not any(each.accuracies for each in rows):
        raise UserError("nothing to draw: no trial of this sweep has a result.")
    style: dict[Any, Any] = {
        "font.size": 8,
        "text.parse_math": False,
        "svg.hashsalt": "condensebench",
        "pdf.fonttype": 42,
    }
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **style}):
        if len(axes) == 1 or len(rows) == len(axes[0].values):  # paired axes are a line as well
            figure = Figure(figsize=(3.6, 2.6), layout="constrained")
            _line(figure.subplots(), axes, rows)
        else:
            figure = Figure(
                figsize=(1.9 + 0.72 * len(axes[1].values), 1.2 + 0.62 * len(axes[0].values)), layout="constrained"
            )
            _heat_map(figure, axes, rows)
        figure.suptitle(title, fontsize=8)
        dated = {".png": "Software", ".svg": "Date", ".pdf": "CreationDate"}
        try:
            figure.savefig(path, dpi=200, metadata={dated[path.suffix.lower()]: None})
        except OSError as error:
            raise UserError(f"{path}: the figure cannot be written ({error.strerror or error}).") from None


def _line(plot: Any, axes: Sequence[Axis], rows: Sequence[Measured]) -> None:
    drawn = [(place, each.summary) for place, each in enumerate(rows) if each.accuracies]
    means = [100 * summary.mean for _, summary in drawn]
    halves = [0.0 if math.isnan(summary.half) else 100 * summary.half for _, summary in drawn]
    places = [place for place, _ in drawn]
    plot.errorbar(places, means, yerr=halves, color="#0072B2", marker="o", markersize=3.6, linewidth=1.1, capsize=2)
    grounds = [(place, 100 * intervals.summary(each.random.values()).mean) for place, each in enumerate(rows)]
    plot.plot(*zip(*grounds, strict=True), color="#777777", linestyle="--", linewidth=1.0, label="random images")
    plot.legend(frameon=False, fontsize=7)
    plot.set_xticks(range(len(rows)), [", ".join(each.point.values) for each in rows])
    plot.set_xlabel(", ".join(axis.name for axis in axes))
    plot.set_ylabel("test accuracy (%)")
    plot.spines[["top", "right"]].set_visible(False)


def _heat_map(figure: Any, axes: Sequence[Axis], rows: Sequence[Measured]) -> None:
    shape = tuple(len(axis.values) for axis in axes)
    means = np.array([100 * each.summary.mean for each in rows]).reshape(shape)
    plot = figure.subplots()
    image = plot.imshow(means, cmap="cividis", aspect="auto")
    middle = (np.nanmin(means) + np.nanmax(means)) / 2
    halves = np.array([100 * each.summary.half for each in rows]).reshape(shape)
    grounds = np.array([100 * intervals.summary(each.random.values()).mean for each in rows]).reshape(shape)
    for (row, column), mean in np.ndenumerate(means):
        half = halves[row, column]
        text = MISSING if math.isnan(mean) else f"{mean:.1f}" if math.isnan(half) else f"{mean:.1f}\n±{half:.1f}"
        if not math.isnan(grounds[row, column]):
            text += f"\nrandom {grounds[row, column]:.1f}"
        colour = "white" if mean < middle else "black"
        plot.text(column, row, text, ha="center", va="center", color="black" if math.isnan(mean) else colour)
    for name, place in (("y", 0), ("x", 1)):
        getattr(plot, f"set_{name}ticks")(range(shape[place]), axes[place].values)
        getattr(plot, f"set_{name}label")(axes[place].name)
    figure.colorbar(image, label="test accuracy (%)")
