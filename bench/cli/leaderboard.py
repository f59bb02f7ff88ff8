"""The verb `leaderboard`: the tables of a results folder."""

from __future__ import annotations

import sys

import click

from bench.cli.options import FORMAT, RESULTS
from bench.errors import UserError

GROUP = "look"


@click.command()
@RESULTS
@click.option(
    "--by",
    type=click.Choice(["protocol", "student"]),
    help="One column per protocol (what a recipe alone is worth) or per student (cross-architecture).",
)
@click.option("--scores", type=click.Choice(["dd-ranking"]), help="IOR, HLR, LRS and ARS instead of accuracies.")
@click.option("--full-data", metavar="DIR", help="For HLR and LRS: hard-label results on all training images.")
@click.option(
    "--unaugmented",
    multiple=True,
    metavar="ID=ID",
    help="For ARS: a protocol and the same recipe without augmentation; repeatable.",
)
@click.option("--memory", is_flag=True, help="Also the peak memory of the students' trainings.")
@FORMAT
def command(
    results: str,
    by: str | None,
    scores: str | None,
    full_data: str | None,
    unaugmented: tuple[str, ...],
    memory: bool,
    format_: str,
) -> int:
    """Print the tables of a results folder.

    What could not be read goes to stderr. Exit code 1 if a line was edited.
    """
    from bench.lock.lock_file import released
    from bench.records import files

    if by and scores:
        raise UserError(f"--by {by} and --scores {scores} are two tables: type one of them.")
    if memory and (by or scores):
        raise UserError(f"--memory and {'--by' if by else '--scores'} {by or scores} do not go together: type one.")
    if (full_data or unaugmented) and not scores:
        raise UserError("--full-data and --unaugmented belong to DD-Ranking's scores: type --scores dd-ranking too.")
    pairs = {pair: pair.partition("=") for pair in unaugmented}
    if wrong := [pair for pair, (name, _, other) in pairs.items() if not name or not other]:
        raise UserError(f"--unaugmented {wrong[0]}: type two protocols, for instance standard-hard-sgd-v1=mine-v1.")

    loaded = files.required(files.scan(results), results)
    for note in loaded.notes:
        print(note, file=sys.stderr)
    latest = files.latest(loaded.records)
    if scores:
        from bench.reports.ddranking import render_scores
        from bench.reports.ddranking import scores as dd_ranking

        full = files.latest(files.scan(full_data).records) if full_data else []
        plain = {name: other for name, _, other in pairs.values()}
        print(render_scores(dd_ranking(latest, full, plain, released()), format_))
    elif by == "protocol":
        from bench.reports.leaderboard.by_protocol import by_protocol, render_across

        print(render_across(by_protocol(latest, released()), format_))
    elif by == "student":
        from bench.reports.leaderboard.by_student import by_student, render_students

        print(render_students(by_student(latest, released()), format_))
    else:
        from bench.reports.leaderboard.page import render
        from bench.reports.leaderboard.rows import leaderboard

        print(render(leaderboard(latest, released()), format_, ("peak_train",) if memory else ()))
    return int(bool(loaded.tampered))
