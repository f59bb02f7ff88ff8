"""Plots as Vega draws them: every mark is a figure of a row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import vl_convert

from bench.website import charts
from bench.website.charts import VEGA_LITE, Datum

SHOWN = {"n": 3, "shown_accuracy": "90 %", "shown_rank": "1", "shown_size": "1 kB", "shown_time": "1 s"}


def rows(methods: int) -> list[Datum]:
    """A row for each of some methods and of two compressors."""
    places = [(f"m{method}", compressor) for method in range(methods) for compressor in ("pq", "svd")]
    return [
        {"row": f"{m} {c}", "method": m, "compressor": c, "mean": 50 + i, "low": 49 + i, "high": 51 + i, "bpc": 10 + i}
        | SHOWN
        for i, (m, c) in enumerate(places)
    ]


def marks(view: Any) -> Iterator[dict[str, Any]]:
    """The marks of a specification of Vega, those of groups included."""
    for mark in view.get("marks", []):
        yield mark
        yield from marks(mark)


@pytest.mark.parametrize("methods", [1, 2, 8, 9])
def test_a_row_is_one_point(methods: int) -> None:
    chart = charts.against_size(rows(methods), "bpc", "bits per class", "A test's.")
    drawn = list(marks(vl_convert.vegalite_to_vega(json.dumps(chart.spec), vl_version=VEGA_LITE)))
    assert [mark["type"] for mark in drawn] == ["line", "rule", "symbol"]  # the front, the intervals, the rows
    [points] = [mark for mark in drawn if mark["type"] == "symbol"]
    assert points["encode"]["update"]["y"]["field"] == "mean"
    assert ("shape" in points["encode"]["update"]) == (1 < methods <= charts.MOST_SHAPES)
