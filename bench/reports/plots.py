"""Accuracy against true bytes, as a figure: one panel per table and method, one line per compressor.

Bytes are those of the whole label file over the number of images; whiskers are 95 % t intervals of the mean. What a
compressor without a budget gives is a single mark. The same records give the same file under the same matplotlib.
"""

from __future__ import annotations

import math
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import UserError
from bench.records.files import Record
from bench.reports.leaderboard.entries import Entry, entries_of, natural
from bench.reports.quantities import wrapped
from bench.stats import intervals
from bench.trials.plan import UNCOMPRESSED

SUFFIXES = (".png", ".svg", ".pdf")
# Okabe and Ito's palette, told apart under every common colour blindness; its yellow is too pale for a line on white.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Which of the sevens of compressors a line belongs to: (dashes, marks).
STYLES: tuple[tuple[Any, str], ...] = (("-", "osD^vPX"), ((0, (4, 1.5)), "sD^vPXo"), ((0, (1, 1.2)), "D^vPXos"))
_RATIOS = (10, 30, 100, 200, 1, 2, 5, 500, 1000, 2000, 5000, 10000)  # ticks; the first win where room is short
_ROOM = 0.13  # of the axis, from tick to tick
_LEGEND_WIDTH = 16  # characters


@dataclass(frozen=True)
class Point:
    """What a compressor kept within one budget. Accuracies in percent."""

    compressor: str
    budget: str | None
    bytes: float  # of labels per image, mean over the replicates
    mean: float
    half: float  # of the 95 % interval; nan for a single replicate
    n: int


@dataclass(frozen=True)
class Panel:
    """One method under one table's fixed parts."""

    dataset: str
    method: str
    setting: tuple[str, int, str]  # protocol, ipc, student
    points: tuple[Point, ...]  # by compressor, then bytes
    uncompressed: Point | None
    hard: Point | None  # class labels on the same images; bytes nan
    reference: float  # bytes per image that are 1x


def panels(records: Iterable[Record]) -> list[Panel]:
    """The panels that records under stored labels make, data set by data set, the methods in order of their names.

    Class labels are drawn beside them where the same records hold one hard-label protocol for the same data set (by
    digest), method, ipc and student; of several protocols none is the obvious one, and none is drawn.
    """
    groups: dict[tuple[Any, ...], list[Entry]] = defaultdict(list)
    hard: dict[tuple[Any, ...], list[Entry]] = defaultdict(list)
    for entry in entries_of(records):
        if not entry.accuracies:
            continue
        trial = entry.trial
        images = (natural(trial["dataset"]), trial["ipc"], natural(trial["student"]), natural(trial["method"]))
        if entry.labels == "hard":
            hard[*images, entry.digest("dataset")].append(entry)
        elif entry.labels == "stored":
            groups[*images, natural(trial["protocol"]), entry.fixed].append(entry)
    result = []
    for key, entries in sorted(groups.items(), key=lambda item: item[0]):
        first = entries[0]
        plain = hard.get((*key[:4], first.digest("dataset")), [])
        points = [_point(entry) for entry in entries]
        result.append(
            Panel(
                dataset=first.trial["dataset"],
                method=first.trial["method"],
                setting=tuple(first.trial[part] for part in ("protocol", "ipc", "student")),
                points=tuple(
                    sorted((p for p in points if p.compressor != UNCOMPRESSED), key=lambda p: (p.compressor, p.bytes))
                ),
                uncompressed=next((p for p in points if p.compressor == UNCOMPRESSED), None),
                hard=_point(plain[0]) if len(plain) == 1 else None,
                reference=_per_image(first, "bytes_labels_reference"),
            )
        )
    return result


def _point(entry: Entry) -> Point:
    accuracy = intervals.summary(100 * value for value in entry.accuracies.values())
    return Point(
        entry.trial["compressor"] or "",
        entry.trial["budget"],
        _per_image(entry, "bytes_labels"),
        accuracy.mean,
        accuracy.half,
        accuracy.n,
    )


def _per_image(entry: Entry, name: str) -> float:
    sizes = []
    for record in entry.records:
        value = getattr(record, name)
        if record.status == "ok" and value is not None and record.num_images:
            sizes.append((value if isinstance(value, int) else value.total) / record.num_images)
    return math.fsum(sizes) / len(sizes) if sizes else math.nan


def order(panels: Sequence[Panel]) -> list[str]:
    """All compressors, the one that keeps most first: by the share of the best accuracy within the panel, summed over
    panels and budgets, so that an infeasible cell counts as nothing kept. The first seven have full lines."""
    shares: dict[str, list[float]] = defaultdict(list)
    for panel in panels:
        best = max((p.mean for p in panel.points), default=0.0) or 1.0
        for point in panel.points:
            shares[point.compressor].append(point.mean / best)
    return sorted(shares, key=lambda name: (-math.fsum(shares[name]), name))


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Write the figure; the suffix of `path` is the format. Raises UserError where it cannot be written."""
    import matplotlib
    from matplotlib.figure import Figure

    rows = list(dict.fromkeys(_row(panel) for panel in panels))
    columns = sorted({panel.method for panel in panels}, key=natural)
    names = order(panels)
    style: dict[Any, Any] = {
        "font.size": 8,
        "text.parse_math": False,  # a name with two $ is a name
        "axes.titlesize": 9,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "lines.linewidth": 1.1,
        "lines.markersize": 3.6,
        "svg.hashsalt": "condensebench",  # else the ids of an SVG are drawn at random
        "pdf.fonttype": 42,
    }
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **style}):
        figure = Figure(figsize=(1.7 + 2.9 * len(columns), 0.7 + 2.5 * len(rows)), layout="constrained")
        grid = figure.subplots(len(rows), len(columns), squeeze=False, sharey="row")
        for axes in grid.flat:
            axes.set_visible(False)
        for panel in panels:
            axes = grid[rows.index(_row(panel)), columns.index(panel.method)]
            axes.set_visible(True)
            _panel(axes, panel, names)
            axes.set_xlim(_limits([each for each in panels if _row(each) == _row(panel)]))
            axes.set_title(textwrap.fill(_title(panel, panels), 36))  # as wide as a panel
        _legend(figure, panels, names)
        figure.supxlabel(
            "bytes of labels per image, everything included (top: fp16 over these)\n"
            f"whiskers and band: 95 % interval of the mean, {_counts(panels)}",
            fontsize=8,
        )
        figure.supylabel("test accuracy (%)", fontsize=8)
        dated = {".png": "Software", ".svg": "Date", ".pdf": "CreationDate"}  # what would differ from run to run
        try:
            figure.savefig(path, dpi=200, metadata={dated[path.suffix.lower()]: None})
        except OSError as error:
            raise UserError(f"--out {path}: the figure cannot be written ({error.strerror or error}).") from None


def _row(panel: Panel) -> tuple[str, tuple[str, int, str]]:
    return (panel.dataset, panel.setting)


def _limits(panels: Iterable[Panel]) -> tuple[float, float]:
    """Of bytes, for panels side by side: a decade at the least, or the rounding of a budget would look like a range."""
    sizes = [point.bytes for panel in panels for point in panel.points] or [1.0]
    low, high = min(sizes), max(sizes)
    margin = max(1.25, math.sqrt(10 * low / high))
    return low / margin, high * margin


def _title(panel: Panel, panels: Sequence[Panel]) -> str:
    """Data set and method, and of the setting what is not the same everywhere."""
    protocol, ipc, student = panel.setting
    parts = [f"ipc {ipc}"]
    for name, place in ((protocol, 0), (student, 2)):
        if len({each.setting[place] for each in panels}) > 1:
            parts.append(name)
    return f"{panel.method} on {panel.dataset}, {', '.join(parts)}"


def _panel(axes: Any, panel: Panel, names: Sequence[str]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

    axes.set_xscale("log")
    if (full := panel.uncompressed) is not None:
        axes.axhline(full.mean, color="0.45", linewidth=0.9, zorder=1)
        if math.isfinite(full.half):
            axes.axhspan(full.mean - full.half, full.mean + full.half, color="0.45", alpha=0.13, linewidth=0, zorder=0)
    if panel.hard is not None:
        axes.axhline(panel.hard.mean, color="0.45", linewidth=0.9, linestyle=(0, (1, 1.5)), zorder=1)
    for name in reversed(names):  # the first last, above the others
        points = [point for point in panel.points if point.compressor == name]
        if points:
            colour, dashes, mark = look(names.index(name))
            sizes, means = [p.bytes for p in points], [p.mean for p in points]
            halves = [0.0 if math.isnan(p.half) else p.half for p in points]
            axes.errorbar(sizes, means, yerr=halves, color=colour, fmt="none", elinewidth=0.6, alpha=0.45, zorder=2)
            above = 3 + len(names) - names.index(name)
            axes.plot(sizes, means, color=colour, linestyle=dashes, marker=mark, zorder=above)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if math.isfinite(panel.reference):

        def against_reference(value: Any) -> Any:
            with np.errstate(divide="ignore"):  # asked for 0 before the limits are known
                return panel.reference / value

        ratio = axes.secondary_xaxis("top", functions=(against_reference, against_reference))
        ratio.xaxis.set_major_locator(FixedLocator(ticks_with_room(panel.reference, *axes.get_xlim())))
        ratio.xaxis.set_minor_locator(NullLocator())
        ratio.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))


def ticks_with_room(reference: float, low: float, high: float) -> list[int]:
    """Those of the ratios whose labels do not run into each other on a logarithmic axis from `low` to `high` bytes."""
    width, kept = math.log(high / low), list[int]()
    for ratio in _RATIOS:
        room = min((abs(math.log(ratio / other)) / width for other in kept), default=1.0)
        if low <= reference / ratio <= high and room >= _ROOM:
            kept.append(ratio)
    return sorted(kept)


def look(place: int) -> tuple[str, Any, str]:
    """(colour, dashes, mark) of the compressor at this place; no two of the first 21 look the same."""
    seven, colour = divmod(place, len(COLOURS))
    dashes, marks = STYLES[seven % len(STYLES)]
    return COLOURS[colour], dashes, marks[colour]


def _counts(panels: Sequence[Panel]) -> str:
    counts = {point.n for panel in panels for point in panel.points}
    low, high = min(counts), max(counts)
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def _short(value: float) -> str:
    return f"{value:g}" if value < 1000 else f"{value / 1000:g}k"


def _legend(figure: Any, panels: Sequence[Panel], names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    if any(panel.uncompressed for panel in panels):
        handles.append(Patch(facecolor="0.87", edgecolor="0.45", label="uncompressed"))
    for place, name in enumerate(names):
        colour, dashes, mark = look(place)
        single = all(p.budget is None for panel in panels for p in panel.points if p.compressor == name)
        label = wrapped(name, _LEGEND_WIDTH)
        handles.append(Line2D([], [], color=colour, linestyle="none" if single else dashes, marker=mark, label=label))
    if any(panel.hard for panel in panels):
        handles.append(Line2D([], [], color="0.45", linestyle=(0, (1, 1.5)), label="class labels"))
    figure.legend(handles=handles, loc="outside right upper", frameon=False, handlelength=2.6)


def without_result(records: Iterable[Record]) -> dict[str, set[str]]:
    """Status -> COMPRESSOR@BUDGET of the entries without a result, on whatever images."""
    cells: dict[str, set[str]] = defaultdict(set)
    for entry in entries_of(records):
        if not entry.accuracies and entry.labels == "stored":
            cells[entry.status].add("@".join(filter(None, (entry.trial["compressor"], entry.trial["budget"]))))
    return cells
