"""What the default plan's records tell apart: a first leaderboard of ties is of no use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from bench.records.files import latest, load
from bench.reports.leaderboard.page import TABLE_KEYS, resolved_points
from bench.reports.leaderboard.rows import leaderboard
from bench.reports.table import rows_of
from bench.trials.plan import read_plan

ROOT = Path(__file__).resolve().parents[2]
RECORDS = latest(load(ROOT / "results/default-plan").records)


def tables() -> Iterator[pd.DataFrame]:
    for _, table in leaderboard(RECORDS).groupby(list(TABLE_KEYS), sort=False):
        yield table


def groups() -> Iterator[pd.DataFrame]:
    """A row a replicate, a column a method, from the best: of each table, compressor and budget."""
    rows = pd.DataFrame([{**record.trial, "accuracy": record.accuracy} for record in RECORDS])
    for _, group in rows.groupby(["dataset", "protocol", "compressor", "budget"], dropna=False):
        wide = group.pivot_table(index="replicate", columns="method", values="accuracy")
        yield wide[wide.mean().sort_values(ascending=False).index]


def test_each_table_resolves_three_points() -> None:
    resolved = [resolved_points(rows_of(table)) or "over 100 points" for table in tables()]
    assert len(resolved) == 4
    assert all(float(each.removesuffix(" points")) <= 3 for each in resolved), resolved


@pytest.mark.parametrize("apart", [2, 3])
def test_half_of_the_methods_next_to_each_other_but_one_or_two_are_told_apart(apart: int) -> None:
    measured = 0
    for group in groups():
        pairs = list(zip(group.columns, group.columns[apart:], strict=False))
        p_values = [stats.ttest_rel(group[better], group[worse]).pvalue for better, worse in pairs]
        assert sum(p < 0.05 for p in p_values) >= len(pairs) / 2, dict(zip(pairs, p_values, strict=True))
        measured += len(pairs)
    assert measured >= 4 * (6 - apart) - 2


def test_every_trial_has_its_record_and_the_field_is_in_it() -> None:
    plan = read_plan(ROOT / "results/default-plan.toml")
    methods = {method.partition(":")[0] for grid in plan.grids for method in grid.methods}
    compressors = {compressor for grid in plan.grids for compressor in grid.compressors}
    assert methods == {"random", "herding", "el2n", "score", "rded", "lpld"}
    assert compressors >= {"rpca", "svd", "rsvd", "cur", "lpld", "klt"}
    assert {record.status for record in RECORDS} == {"ok"}
