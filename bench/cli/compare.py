"""The verb `compare`: A against B, two folders of records or two entries of one."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli.options import FORMAT
from bench.errors import UserError

GROUP = "look"


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--results", metavar="DIR", help="Compare two entries of this folder instead of two folders.")
@FORMAT
def command(a: str, b: str, results: str | None, format_: str) -> int:
    """Compare A with B cell by cell, paired by replicate: difference, interval, win or loss, p-values.

    A and B are two results folders (or record files); or, with --results, two entries of one folder, written METHOD or
    METHOD/COMPRESSOR@BUDGET. Exit code 1 if nothing could be paired or a line of the records was edited.

    \b
    condensebench compare results/before results/after
    condensebench compare herding el2n --results results/default-plan
    condensebench compare random/rpca@10x random/lpld@10x --results results/default-plan
    """
    from bench.records import files
    from bench.reports.comparison import compare, compare_entries
    from bench.reports.comparison_text import render_comparison

    if results is None:
        for text in (a, b):
            if not Path(text).exists():
                raise UserError(
                    f"no records at {text}: expected two folders (or files) of records. To compare two entries of one "
                    f"folder, type: condensebench compare {a} {b} --results DIR"
                )
        loaded = [files.required(files.load(each), each) for each in (a, b)]
        comparison = compare(loaded[0], loaded[1], (a, b))
    else:
        loaded = [files.required(files.load(results), results)]
        comparison = compare_entries(loaded[0], a, b)
    for each in loaded:
        for note in each.notes:
            print(note, file=sys.stderr)
    print(render_comparison(comparison, format_))
    return int(comparison.cells.empty or any(each.tampered for each in loaded))
