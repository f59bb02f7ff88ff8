"""Reading, ranking and checking many records, beside bare JSON parsing of the same lines."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bench.checks.records.board import Line, cells
from bench.checks.records.fairness import check_cell
from bench.checks.records.prescribed import Prescribed
from bench.checks.records.rules import Findings
from bench.plugins.registry import discover
from bench.records import files
from bench.reports.leaderboard.page import render
from bench.reports.leaderboard.rows import leaderboard
from speed._records import write_records
from speed.row import Row

COUNT, QUICK = 20_000, 500
Value = TypeVar("Value")


def measure(quick: bool = False) -> list[Row]:
    """Ratios of process times, over synthetic records that are valid."""
    count = QUICK if quick else COUNT
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.jsonl"
        write_records(path, count)
        bare, _ = _timed(lambda: [json.loads(line) for line in path.open("rb")] and None)
        reading, loaded = _timed(lambda: files.scan(path))
        ranking, _ = _timed(lambda: render(leaderboard(loaded), "text"))
        lines = [Line(record, place) for record, place in zip(loaded.records, loaded.places, strict=True)]
        prescribed, out = Prescribed(discover(), Path(folder)), Findings()

        def check() -> None:
            for cell in cells(lines):
                check_cell(cell, prescribed, out)

        checking, _ = _timed(check)
    note = f"{count:,} records, {1e6 * bare / count:.0f} µs each to parse"
    return [
        Row("read records, digests and all / parse their JSON", reading / bare, "x", 4.0, False, note),
        Row("rank and print them / parse their JSON", ranking / bare, "x", 6.0, False, note),
        Row("hold them to the rules of fairness / parse their JSON", checking / bare, "x", 6.0, False, note),
    ]


def _timed(call: Callable[[], Value]) -> tuple[float, Value]:
    start = time.process_time()
    value = call()
    return time.process_time() - start, value
