"""The plots as Vega-Lite: each a specification with its data, the same for the page and for the file of a paper."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.reports.plots import COLOURS

Datum = dict[str, Any]
WIDTH = 620
VEGA_LITE = "6.4"  # the grammar of the specifications
MOST_BARS = 60  # rows of a list of intervals

# Okabe and Ito's palette without black, which a dark page would swallow; then quieter tones for a long legend.
PALETTE = [
    *COLOURS[:-1],
    *("#8c6bb1", "#7f7f7f", "#bcbd22", "#17becf", "#a6761d", "#e7298a", "#66a61e", "#1f78b4", "#fb9a99", "#b2df8a"),
    *("#cab2d6", "#b15928", "#80b1d3", "#fccde5", "#bc80bd", "#ccebc5", "#d9a514", "#6a51a3"),
]
MOST_SHAPES = 8  # methods that a plot tells apart by shape
_LARGE = {"labelFontSize": 12, "titleFontSize": 13}
_INK = {"light": ("#17202a", "#4d5a68", "#d5dbe1"), "dark": ("#e6ebf0", "#a7b3bf", "#35404c")}


@dataclass(frozen=True)
class Chart:
    """One plot: what it is called, what it says, and its specification with its data."""

    key: str
    title: str
    caption: str
    spec: dict[str, Any]


def drawn(chart: Chart) -> dict[str, str | bytes]:
    """The plot as files of a paper: suffix -> content."""
    import vl_convert

    spec = json.dumps(chart.spec)
    look = config("light")
    return {
        "svg": vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE, config=look),
        "png": vl_convert.vegalite_to_png(spec, vl_version=VEGA_LITE, config=look, scale=2),
    }


def config(theme: str) -> dict[str, Any]:
    """Fonts and colours of a theme, `light` or `dark`."""
    ink, soft, line = _INK[theme]
    axis = {"labelColor": soft, "titleColor": ink, "domainColor": line, "tickColor": line, "gridColor": line}
    return {
        "background": "white" if theme == "light" else "transparent",
        "font": "system-ui, Helvetica Neue, Arial, sans-serif",
        "axis": {**axis, "gridOpacity": 0.6, "labelLimit": 260, "titleFontWeight": "normal", **_LARGE},
        "header": {"labelColor": ink, "titleColor": soft, "labelFontSize": 12},
        "legend": {
            "labelColor": ink,
            "titleColor": soft,
            "labelLimit": 260,
            "symbolLimit": 60,
            "symbolOpacity": 1,
            **_LARGE,
        },
        "range": {"category": PALETTE},
        "rule": {"color": soft},
        "text": {"color": ink},
        "title": {"color": ink},
        "view": {"stroke": line},
    }


def intervals(rows: Sequence[Datum]) -> Chart:
    """Accuracy of every row, best first."""
    shown = sorted(rows, key=lambda row: -row["mean"])[:MOST_BARS]
    more = " Best: of all rows with the same budget." if len({row["budget"] for row in rows}) > 1 else ""
    more += f" The best {MOST_BARS} of {len(rows)} rows." if len(rows) > MOST_BARS else ""
    y = {"field": "row", "type": "nominal", "sort": [row["row"] for row in shown], "title": None}
    accuracy = _axis_of(shown)
    spec = {
        "height": {"step": 17},
        "encoding": {"y": y, "tooltip": _tooltip(shown)},
        "layer": [
            {"mark": {"type": "rule", "clip": True}, "encoding": {"x": accuracy("low"), "x2": {"field": "high"}}},
            {
                "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
                "encoding": {"x": accuracy("mean"), "color": _tied()},
            },
        ],
    }
    return _chart(
        "intervals", "Accuracy", f"Mean and 95 % interval over the replicates of every row.{more}", spec, shown
    )


def against_size(rows: Sequence[Datum], key: str, title: str, caption: str, falling: bool = False) -> Chart:
    """Accuracy against a size on a logarithmic axis, with the rows that no other beats in both.

    Args:
        rows: those that have the size.
        key: of the size in a row; also the name of the chart.
        title: of the axis.
        caption: what the chart shows.
        falling: whether a larger value is the cheaper one, as of a ratio.
    """
    series = "compressor" if any(row["compressor"] for row in rows) else "method"
    shapes = len({row["method"] for row in rows}) if series == "compressor" else 1
    accuracy = _axis_of(rows)
    front = pareto(rows, key, falling)
    low, high = min(row[key] for row in rows), max(row[key] for row in rows)
    margin = max(1.15, math.sqrt(10 * low / high))  # a decade at the least, or noise would look like a range
    x = {
        "field": key,
        "type": "quantitative",
        "title": title,
        "scale": {"type": "log", "nice": False, "domain": [low / margin, high * margin], "reverse": falling},
        "axis": {"format": "~s", "labelOverlap": True},
    }
    points: dict[str, Any] = {
        "x": x,
        "y": accuracy("mean"),
        "color": {"field": series, "type": "nominal", "title": series},
    }
    # Of the points alone: Vega-Lite adds points to rules that have a shape.
    shape = {"shape": {"field": "method", "type": "nominal", "title": "method"}} if 1 < shapes <= MOST_SHAPES else {}
    spec = {
        "height": 380,
        "layer": [
            {
                "data": {"values": front},
                "mark": {
                    "type": "line",
                    "interpolate": "step-before" if falling else "step-after",
                    "strokeDash": [5, 4],
                },
                "encoding": {"x": x, "y": accuracy("mean"), "color": {"value": "#7f7f7f"}},
            },
            {
                "mark": {"type": "rule", "opacity": 0.5, "clip": True},
                "encoding": {**points, "y": accuracy("low"), "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 70, "opacity": 0.95},
                "encoding": {**points, **shape, "tooltip": _tooltip(rows)},
                "params": [{"name": "shown", "select": {"type": "point", "fields": [series]}, "bind": "legend"}],
            },
        ],
    }
    spec["layer"][2]["encoding"]["opacity"] = {"condition": {"param": "shown", "value": 0.95}, "value": 0.08}  # type: ignore[index]
    dashed = "Dashed: the front, which no other row beats in both."
    return _chart(key, f"Accuracy against {title}", f"{caption} {dashed}", spec, rows)


def pareto(rows: Sequence[Datum], key: str, falling: bool = False) -> list[Datum]:
    """The rows that no other row beats in accuracy at the same or a smaller cost, cheapest first."""
    front: list[Datum] = []
    for row in sorted(rows, key=lambda row: (-row[key] if falling else row[key], -row["mean"])):
        if not front or row["mean"] > front[-1]["mean"]:
            front.append({key: row[key], "mean": row["mean"]})
    return front


def ranks(rows: Sequence[Datum]) -> Chart:
    """The ranks that the replicates leave open, a panel for each compressor and budget, those of most methods first."""
    highest = max(row["rank_high"] for row in rows)
    panels = [_rank_panel([row for row in rows if row["stored"] == each], each, highest) for each in _by_count(rows)]
    spec = {"vconcat": panels} if len(panels) > 1 else {**panels[0], "title": None}
    caption = (
        "Point: the rank, the first in orange. Bar: the ranks that the replicates leave open, 95 %, Holm-adjusted "
        "paired t tests."
    )
    return _chart("ranks", "Rank with uncertainty", caption, spec, rows)


def _by_count(rows: Sequence[Datum]) -> list[str]:
    return [stored for stored, _ in Counter(row["stored"] for row in rows).most_common()]


def _rank_panel(rows: Sequence[Datum], stored: str, highest: int) -> Datum:
    order = sorted(rows, key=lambda row: (row["rank"], row["rank_low"], row["rank_high"], row["method"]))
    y = {"field": "method", "type": "nominal", "sort": [row["method"] for row in order], "title": None}
    scale = {"domain": [0.5, highest + 0.5], "nice": False}
    x = {"type": "quantitative", "title": "rank", "axis": {"tickMinStep": 1, "format": "d"}, "scale": scale}
    first = {"condition": {"test": "datum.rank === 1", "value": COLOURS[0]}, "value": COLOURS[1]}
    return {
        "title": {"text": stored, "anchor": "start", "fontSize": 12, "fontWeight": "normal"},
        "transform": [{"filter": {"field": "stored", "equal": stored}}],
        "width": WIDTH,
        "height": {"step": 17},
        "encoding": {"y": y, "tooltip": _tooltip(rows)},
        "layer": [
            {
                "mark": {"type": "rule", "strokeWidth": 5, "opacity": 0.35},
                "encoding": {"x": {**x, "field": "rank_low"}, "x2": {"field": "rank_high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
                "encoding": {"x": {**x, "field": "rank"}, "color": first},
            },
        ],
    }


def matrix(rows: Sequence[Datum], across: str, key: str, title: str, caption: str) -> Chart:
    """Accuracies in a grid: a line for each row's name, a column for each value of `across`."""
    names = list(dict.fromkeys(row["row"] for row in rows))
    columns = list(dict.fromkeys(row[across] for row in rows))
    place = {
        "y": {"field": "row", "type": "nominal", "sort": names, "title": None},
        "x": {
            "field": across,
            "type": "nominal",
            "sort": columns,
            "title": None,
            "axis": {"orient": "top", "labelAngle": -30, "labelLimit": 320},
        },
    }
    middle = (min(row["mean"] for row in rows) + max(row["mean"] for row in rows)) / 2
    spec = {
        "width": {"step": 74},
        "height": {"step": 22},
        "encoding": place,
        "layer": [
            {
                "mark": "rect",
                "encoding": {
                    "color": {
                        "field": "mean",
                        "type": "quantitative",
                        "title": "accuracy %",
                        "scale": {"scheme": "blues"},
                    },
                    "tooltip": _tooltip(rows),
                },
            },
            {
                "mark": "text",
                "encoding": {
                    "text": {"field": "mean", "type": "quantitative", "format": ".1f"},
                    "color": {"condition": {"test": f"datum.mean > {middle!r}", "value": "white"}, "value": "#17202a"},
                },
            },
        ],
    }
    return _chart(key, title, caption, spec, rows)


def lines(rows: Sequence[Datum], x: str, y: str, series: str, key: str, title: str, caption: str) -> Chart:
    """A line for each series through points with a mark each."""
    spec = {
        "height": 320,
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": {"field": x, "type": "quantitative", "title": x, "scale": {"zero": False, "padding": 10}},
            "y": {"field": y, "type": "quantitative", "title": y, "scale": {"zero": False, "padding": 10}},
            "color": {"field": series, "type": "nominal", "title": None},
            "tooltip": [{"field": each} for each in rows[0]],
        },
    }
    return _chart(key, title, caption, spec, rows)


def spectrum(rows: Sequence[Datum], key: str, title: str, caption: str) -> Chart:
    """Singular values of each method, falling, on a logarithmic axis. Rows: component, share, method."""
    share = {"title": "singular value / largest", "scale": {"type": "log"}, "axis": {"format": "~g"}}
    return _series(rows, ("component", {"axis": {"tickMinStep": 1}}), ("share", share), "method", (key, title, caption))


def curves(rows: Sequence[Datum], key: str, title: str, caption: str) -> Chart:
    """A line for each row of a table. Rows: epoch, loss, row."""
    loss = {"title": "training loss", "scale": {"zero": False}}
    return _series(rows, ("epoch", {"axis": {"tickMinStep": 1}}), ("loss", loss), "row", (key, title, caption))


def _series(
    rows: Sequence[Datum], x: tuple[str, Datum], y: tuple[str, Datum], series: str, texts: tuple[str, str, str]
) -> Chart:
    """Lines through many points; a click on the legend leaves one of them alone.

    Args:
        rows: with the fields of x, y and the series.
        x, y: field, and what its axis has beside the defaults.
        series: the field that tells lines apart.
        texts: key, title and caption of the chart.
    """
    spec = {
        "height": 340,
        "mark": {"type": "line", "point": len(rows) < MOST_BARS},
        "encoding": {
            "x": {"field": x[0], "type": "quantitative", "title": x[0], **x[1]},
            "y": {"field": y[0], "type": "quantitative", "title": y[0], **y[1]},
            "color": {"field": series, "type": "nominal", "title": None},
            "opacity": {"condition": {"param": "shown", "value": 1}, "value": 0.1},
            "tooltip": [{"field": each} for each in (series, x[0], y[0])],
        },
        "params": [{"name": "shown", "select": {"type": "point", "fields": [series]}, "bind": "legend"}],
    }
    return _chart(*texts, spec, rows)


def distributions(
    rows: Sequence[Datum], ticks: Sequence[Datum], score: str, key: str, title: str, caption: str
) -> Chart:
    """Where the values of every row lie. Rows: row, low, quarter, median, three_quarters, high, images; ticks: row,
    score."""
    y = {"field": "row", "type": "nominal", "sort": [row["row"] for row in rows], "title": None}

    def x(field: str) -> Datum:
        return {"field": field, "type": "quantitative", "title": score, "scale": {"zero": False, "nice": False}}

    tooltip = [{"field": each} for each in rows[0]]
    spec = {
        "height": {"step": 26},
        "encoding": {"y": y},
        "layer": [
            {"mark": "rule", "encoding": {"x": x("low"), "x2": {"field": "high"}, "tooltip": tooltip}},
            {
                "mark": {"type": "bar", "height": 12, "opacity": 0.6, "color": COLOURS[1]},
                "encoding": {"x": x("quarter"), "x2": {"field": "three_quarters"}, "tooltip": tooltip},
            },
            {
                "mark": {"type": "tick", "size": 18, "thickness": 2, "color": COLOURS[0]},
                "encoding": {"x": x("median"), "tooltip": tooltip},
            },
            {
                "data": {"values": list(ticks)},
                "mark": {"type": "tick", "size": 7, "opacity": 0.7, "yOffset": 10, "color": "#7f7f7f"},
                "encoding": {"x": x("score"), "tooltip": [{"field": "row"}, {"field": "score"}]},
            },
        ],
    }
    return _chart(key, title, caption, spec, rows)


def _chart(key: str, title: str, caption: str, spec: dict[str, Any], rows: Sequence[Datum]) -> Chart:
    whole = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": f"{title}. {caption}",
        "data": {"values": list(rows)},
        **({} if "vconcat" in spec or "width" in spec else {"width": WIDTH}),
        **spec,
    }
    return Chart(key, title, caption, whole)


def _axis_of(rows: Sequence[Datum]) -> Callable[[str], Datum]:
    """The axis of accuracies: as wide as the intervals, within 0 and 100 %."""
    low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
    margin = 0.04 * (high - low) + 0.2
    domain = [max(0.0, low - margin), min(100.0, high + margin)]

    def axis(field: str) -> Datum:
        return {
            "field": field,
            "type": "quantitative",
            "title": "test accuracy (%)",
            "scale": {"domain": domain, "nice": False},
        }

    return axis


def _tied() -> Datum:
    """Colour of the best and of what is tied with it."""
    return {
        "field": "best",
        "type": "nominal",
        "title": None,
        "scale": {"domain": ["best or tied with it", "others"], "range": [COLOURS[0], COLOURS[1]]},
        "legend": {"orient": "top"},
    }


def _tooltip(rows: Sequence[Datum]) -> list[Datum]:
    """What a pointer shows: every field of the rows that is no helper of the drawing."""
    names = {
        "row": "row",
        "shown_accuracy": "accuracy",
        "n": "n",
        "shown_rank": "rank",
        "shown_size": "size",
        "shown_time": "time",
    }
    return [{"field": key, "title": title} for key, title in names.items() if key in rows[0]]
