"""What trials share costs the driver once, however many they are."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bench.artifacts.refs import Workspace
from bench.driver.outcome import Outcome
from bench.driver.walk import Run
from bench.plugins.registry import discover
from bench.protocol import toml_file
from bench.records.files import load
from bench.trials.plan import Grid, Plan
from speed import nodes


class Executor:
    """Stands for Ray: every stage ends at once."""

    jobs = 2

    async def during(self, work: Any) -> None:
        await work

    async def run(self, stage: str, *args: Any, **_: object) -> Outcome:
        await asyncio.sleep(0)
        return nodes.sleep_instead(stage, args)[0]


def test_a_protocol_is_read_once_for_all_trials_of_its_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "SLEEP", 0)
    registry, read = discover(), list[str]()
    honest = toml_file.tomllib.loads

    def reading(text: str) -> dict[str, Any]:
        read.append(text)
        return honest(text)

    monkeypatch.setattr(toml_file.tomllib, "loads", reading)
    plan = Plan([Grid(["digits"], ["small-hard-v1"], ["random", "herding"], ipcs=[1, 2], replicates=10)])
    trials = plan.trials(registry)
    read.clear()
    asyncio.run(Run(Workspace(tmp_path / "store", registry), Executor(), tmp_path / "results", []).all(trials))
    assert len(load(tmp_path / "results").records) == 40
    assert len(read) <= 2  # the protocol, and the recipe of its teacher
