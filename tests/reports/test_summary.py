"""The summary of a leaderboard: one screen, in the words of its tables."""

from __future__ import annotations

import itertools

from bench.lock.lock_file import released
from bench.records import files
from bench.reports.leaderboard.page import render, resolution
from bench.reports.leaderboard.rows import leaderboard
from bench.reports.leaderboard.summary import SCREEN, on_a_screen, summary
from bench.reports.printers import printed
from bench.reports.table import rows_of
from tests.worlds import ROOT

FRAME = leaderboard(files.load(ROOT / "results" / "methods").records, released())


def test_thirty_methods_in_six_tables_are_six_rows() -> None:
    page = summary(FRAME)
    assert len(page.frame) == 6
    text = printed(page, "text")
    assert text.count("\n") < SCREEN
    assert max(map(len, text.splitlines())) <= 150


def test_a_row_has_the_best_of_its_table_its_ties_and_what_was_not_decided() -> None:
    page = summary(FRAME).frame
    for (row,), (_, table) in zip(
        zip(page.itertuples(), strict=True), FRAME.groupby(["dataset", "protocol", "ipc"], sort=False), strict=True
    ):
        best = table.loc[table["mean"].idxmax()]
        assert (row.best, row.mean, row.ci95) == (best.method, best["mean"], best.ci95)
        tied = set(table[table.best].method) - {best.method}
        named = row.tied.replace(" and ", ", ").split(", ")
        assert set(named[:2]) <= tied
        assert named[2:] == [f"{len(tied) - 2} more"]
        ranks = list(table.sort_values("mean", ascending=False)["rank"])
        ties = sum(a == b and a.endswith("=") for a, b in itertools.pairwise(ranks))
        assert row.undecided == f"{ties} of {len(ranks) - 1}"
        assert f"from {row.resolves} on" in resolution(rows_of(table))


def test_what_fits_a_screen_is_shown_whole() -> None:
    small = FRAME.head(5)
    assert on_a_screen(small, render(small)) == render(small)
    assert on_a_screen(FRAME, render(FRAME)) == printed(summary(FRAME), "text")
