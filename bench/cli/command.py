"""The verbs `leaderboard` and `teacher`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.driver.run import default_store
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.records import files


def leaderboard_command(
    results: str,
    *,
    by: str | None,
    scores: str | None,
    full_data: str | None,
    unaugmented: Sequence[str],
    format_: str,
) -> int:
    """The verb `leaderboard`. Returns the exit code: 1 if a line was edited. Raises UserError for options that do not
    go together."""
    from bench.lock.lock_file import released
    from bench.reports import ddranking
    from bench.reports.ddranking import render_scores
    from bench.reports.leaderboard.by_protocol import by_protocol, render_across
    from bench.reports.leaderboard.page import render
    from bench.reports.leaderboard.rows import leaderboard

    if by and scores:
        raise UserError(f"--by {by} and --scores {scores} are two tables: type one of them.")
    if (full_data or unaugmented) and not scores:
        raise UserError("--full-data and --unaugmented belong to DD-Ranking's scores: type --scores dd-ranking too.")
    pairs = {pair: pair.partition("=") for pair in unaugmented}
    if wrong := [pair for pair, (name, _, other) in pairs.items() if not name or not other]:
        raise UserError(f"--unaugmented {wrong[0]}: type two protocols, for instance standard-hard-sgd-v1=mine-v1.")

    loaded = files.load(results)
    for note in loaded.notes:
        print(note, file=sys.stderr)
    latest = files.latest(loaded.records)
    if scores:
        full = files.latest(files.load(full_data).records) if full_data else []
        plain = {name: other for name, _, other in pairs.values()}
        print(render_scores(ddranking.scores(latest, full, plain, released()), format_))
    elif by == "protocol":
        print(render_across(by_protocol(latest, released()), format_))
    else:
        print(render(leaderboard(latest, released()), format_))
    return int(bool(loaded.tampered))


def teacher_command(dataset: str, recipe: str, *, ship: bool, store: Path | None, plugins: Sequence[str]) -> None:
    """The verb `teacher`."""
    from bench.driver.run import default_device
    from bench.plugins.spec import parse
    from bench.stages import stages
    from bench.teachers import teachers

    ws = stages.Workspace((store or default_store()).resolve(), discover(plugins), default_device())
    spec = str(parse(ws.registry, "dataset", dataset))
    described = stages.describe(ws, spec)
    ref = stages.teach(ws, recipe, described)
    print(f"{spec}: {ref.network}, {100 * ref.accuracy:.2f} % on the test split, weights {ref.digest[:16]}")
    place = teachers.ship(ref, ws.store, recipe, spec) if ship else ref.path(ws.store)
    print(f"{place} ({place.stat().st_size} bytes)")
