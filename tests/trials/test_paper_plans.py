"""The plans of results/papers: every name is known, also with the data sets of the papers in place of those at hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.plugins.registry import discover
from bench.trials.plan import Plan, read_plan
from tests.worlds import ROOT

PLANS = sorted(set((ROOT / "results/papers").glob("*.toml")) - {ROOT / "results/papers/claims.toml"})
SMALLEST = 3  # replicates


def test_there_are_plans_for_each_paper():
    assert {path.stem.partition("-")[0] for path in PLANS} == {"score", "edc", "rethinking", "rivals"}


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
@pytest.mark.parametrize("dataset", [None, "cifar10", "imagenet-1k"])
def test_a_plan_is_understood_for_the_data_at_hand_and_for_the_real_sets(path: Path, dataset: str | None):
    plan = read_plan(path)
    assert all(grid.replicates >= SMALLEST for grid in plan.grids)
    if dataset is not None:
        plan = Plan([replace(grid, datasets=[dataset]) for grid in plan.grids])
    trials = plan.trials(discover())
    assert len(trials) > 10
    assert not dataset or {trial.dataset for trial in trials} == {dataset}
