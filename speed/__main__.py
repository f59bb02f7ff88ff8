"""`make speed`: every measured ratio in one table. `python -m speed [--quick] [NAME ...]`."""

from __future__ import annotations

import argparse
import importlib
import math
import sys
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate

from bench.machine import environment
from speed.row import Row

# A file that can be measured says so itself: importing all of them to find out would take seconds.
SUBJECTS = sorted(
    path.stem for path in Path(__file__).parent.glob("[!_]*.py") if "\ndef measure(" in path.read_text(encoding="utf-8")
)


def table(rows: list[Row], format: str = "simple") -> str:
    """The rows as a table: what, measured, bar, whether it holds, note."""
    verdict = {True: "holds", False: "FALLS SHORT", None: ""}
    body = [
        [
            row.what,
            "skipped" if math.isnan(row.value) else f"{row.value:.3g} {row.unit}".strip(),
            "" if row.bar is None else f"{'>=' if row.higher_is_better else '<='} {row.bar:g}",
            verdict[row.holds],
            row.note,
        ]
        for row in rows
    ]
    widths = [60, 20, 12, 11, 60] if format == "simple" else None  # a line of Markdown is a row
    return tabulate(body, ["what", "measured", "bar", "", "note"], tablefmt=format, maxcolwidths=widths)


def main() -> None:
    """Measure and print. Exit code 1 if a bar is missed."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(prog="python -m speed", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="NAME", help=f"of {', '.join(SUBJECTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="smaller sizes: to see that the benchmarks run")
    parser.add_argument("--markdown", metavar="FILE", help="write the table to a file as well")
    options = parser.parse_args()
    for name in options.subjects:
        if name not in SUBJECTS:
            parser.error(f"'{name}' is none of {', '.join(SUBJECTS)}")
    rows: list[Row] = []
    for name in options.subjects or SUBJECTS:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        rows += importlib.import_module(f"speed.{name}").measure(quick=options.quick)
    if options.quick:
        rows = [replace(row, bar=None) for row in rows]  # the bars are for the full sizes
    here = environment()
    machine = f"{here['machine']}, {here['host']}, one thread; Python {here['python']}, torch {here['torch']}"
    print(f"{machine}\n\n{table(rows)}")
    if options.markdown:
        text = f"# Speed\n\nMeasured by `make speed` on: {machine}\n\n{table(rows, 'github')}\n"
        Path(options.markdown).write_text(text, encoding="utf-8")
    sys.exit(1 if any(row.holds is False for row in rows) else 0)


if __name__ == "__main__":
    main()
