"""Accuracy by student, as a figure: against the classes seen (continual learning) or the parameters kept (slimming).

One panel per table, one line per method. Whiskers are 95 % t intervals of the mean over replicates.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.records.files import Record
from bench.reports.leaderboard.entries import Entry, entries_of, entry_order, is_reference
from bench.reports.plots import look
from bench.stats import intervals

WIDTH = 3.4  # inches of a panel
ACROSS = 3  # panels in a row


@dataclass(frozen=True)
class Line:
    """One method. Accuracies in percent."""

    method: str
    at: tuple[int, ...]  # classes or parameters, student by student
    means: tuple[float, ...]
    halves: tuple[float, ...]  # of the 95 % intervals; nan for a single replicate
    reference: bool


@dataclass(frozen=True)
class Panel:
    """One table."""

    title: str
    axis: str  # what `at` counts
    lines: tuple[Line, ...]
    n: int  # replicates, of the line that has fewest


def panels(records: Iterable[Record]) -> list[Panel]:
    """The panels that records of trials with several students make, in the order of tables."""
    groups: dict[tuple[Any, ...], list[Entry]] = defaultdict(list)
    for entry in sorted(entries_of(records), key=entry_order):
        if any(record.curve for record in entry.records):
            groups[entry.names, entry.fixed].append(entry)
    return [_panel(entries) for entries in groups.values()]


def _panel(entries: Sequence[Entry]) -> Panel:
    first = entries[0].trial
    curves = [[record.curve for record in entry.records if record.curve] for entry in entries]
    slimmed = len({point.classes for curve in curves[0] for point in curve}) == 1
    lines = []
    for entry, replicates in zip(entries, curves, strict=True):
        students = list(zip(*replicates, strict=True))
        at = (point[0].parameters if slimmed else point[0].classes for point in students)
        summaries = [intervals.summary(100 * each.accuracy for each in point) for point in students]
        method, means, halves = entry.trial["method"], (s.mean for s in summaries), (s.half for s in summaries)
        lines.append(Line(method, tuple(at), tuple(means), tuple(halves), is_reference(method, entry.labels)))
    title = f"{first['dataset']}, {first['protocol']}, ipc {first['ipc']}"
    axis = "parameters kept" if slimmed else "classes seen"
    return Panel(title, axis, tuple(lines), min(map(len, curves)))


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Write the figure; the suffix of `path` is the format. Raises UserError where it cannot be written."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, MaxNLocator

    names = list(dict.fromkeys(line.method for panel in panels for line in panel.lines))
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    style: dict[Any, Any] = {
        "font.size": 8,
        "text.parse_math": False,  # a name with two $ is a name
        "axes.titlesize": 9,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "lines.markersize": 3.6,
        "svg.hashsalt": "condensebench",  # else the ids of an SVG are drawn at random
        "pdf.fonttype": 42,
    }
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **style}):
        figure = Figure(figsize=(1.6 + WIDTH * across, 0.6 + 2.6 * down), layout="constrained")
        grid = figure.subplots(down, across, squeeze=False).flatten()
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes, panel in zip(grid, panels, strict=False):
            for line in panel.lines:
                colour, dashes, mark = look(names.index(line.method))
                halves = [0.0 if math.isnan(half) else half for half in line.halves]
                axes.errorbar(line.at, line.means, yerr=halves, color=colour, fmt="none", elinewidth=0.6, alpha=0.45)
                width = 1.8 if line.reference else 1.1
                axes.plot(line.at, line.means, color=colour, linestyle=dashes, marker=mark, linewidth=width)
            bottom, top = axes.get_ylim()
            limits = max(bottom, 0), min(top, 101)  # an interval of t may leave the scale
            axes.set(title=panel.title, xlabel=panel.axis, ylabel="test accuracy (%)", ylim=limits)
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.xaxis.set_major_formatter(EngFormatter(sep=" "))  # 80 k
        _legend(figure, names)
        least = min(panel.n for panel in panels)
        figure.supxlabel(f"whiskers: 95 % interval of the mean, n >= {least}", fontsize=8)
        dated = {".png": "Software", ".svg": "Date", ".pdf": "CreationDate"}  # what would differ from run to run
        try:
            figure.savefig(path, dpi=200, metadata={dated[path.suffix.lower()]: None})
        except OSError as error:
            raise UserError(f"--out {path}: the figure cannot be written ({error.strerror or error}).") from None


def _legend(figure: Any, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for place, name in enumerate(names):
        colour, dashes, mark = look(place)
        handles.append(Line2D([], [], color=colour, linestyle=dashes, marker=mark, label=name))
    figure.legend(handles=handles, loc="outside right upper", frameon=False, handlelength=2.6)
