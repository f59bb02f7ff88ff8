"""The verb `plot`: accuracy against true bytes of labels, or by student, as a figure."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli.options import RESULTS
from bench.errors import UserError

GROUP = "look"


@click.command()
@RESULTS
@click.option("--out", required=True, metavar="FILE", help="Ending in .png, .svg or .pdf.")
@click.option(
    "--by-student",
    is_flag=True,
    help="Of continual and slimming protocols: accuracy against classes seen, or parameters kept.",
)
def command(results: str, out: str, by_student: bool) -> int:
    """Draw accuracy against true bytes of labels: a panel per data set and method, a line per compressor.

    With --by-student: a panel per table, a line per method. What has no result is named below. Exit code 1 if a line of
    the records was edited.
    """
    from bench.records import files
    from bench.reports import student_curves
    from bench.reports.leaderboard.entries import natural
    from bench.reports.plots import SUFFIXES, draw, panels, without_result

    path = Path(out)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--out {out}: the ending tells the format. Allowed: {', '.join(SUFFIXES)}. Type: --out a.png")
    if not path.absolute().parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {path.parent}. Make it first: mkdir -p {path.parent}")
    loaded = files.load(results)
    for note in loaded.notes:
        print(note, file=sys.stderr)
    if by_student:
        drawn = student_curves.panels(loaded)
        if not drawn:
            raise UserError(
                f"nothing to plot in {results}: {len(loaded)} records, none of a protocol under which a trial trains "
                f"several students. Make some with: condensebench run --protocol continual-5-v1 --results {results}"
            )
        student_curves.draw(drawn, path)
        print(f"{out}: {len(drawn)} panels, {len({line.method for panel in drawn for line in panel.lines})} methods")
        return int(bool(loaded.tampered))
    figure = panels(loaded)
    if not any(panel.points for panel in figure):
        raise UserError(
            f"nothing to plot in {results}: {len(loaded)} records, no accuracy of compressed soft labels among them. "
            f"Make some with: condensebench run --compressor svd --budget 10x --results {results}"
        )
    draw(figure, path)
    count = len({point.compressor for panel in figure for point in panel.points})
    print(f"{out}: {len(figure)} panels, {count} compressors")
    for status, cells in sorted(without_result(loaded).items()):
        print(f"not drawn, {status}: {', '.join(sorted(cells, key=natural))}")
    return int(bool(loaded.tampered))
