"""The way of a trial from the command line to its record: docs/design.md tells it, function by function."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import bench
from bench.cli import cli
from bench.driver import prepared
from bench.driver import run as driver
from bench.driver.on_ray.stage_table import STAGES
from bench.driver.prepared import Prepared, RunOptions, prepare
from bench.errors import UserError
from bench.records import files
from tests.worlds.in_process import serve_in_process
from tests.worlds.run import World, make_world
from tests.worlds.trace import way_to

PAGE = Path(__file__).parents[2] / "docs" / "design.md"
MOST_HOPS = 18


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def told_way() -> list[str]:
    """The numbered list under the heading of docs/design.md."""
    section = PAGE.read_text(encoding="utf-8").partition("## The way of a trial\n")[2].partition("\n## ")[0]
    return re.findall(r"^\d+\. `([\w.]+:[\w.]+)`", section, flags=re.MULTILINE)


def test_the_page_tells_the_functions_that_a_trial_passes_through_in_their_order(world, monkeypatch):
    serve_in_process(monkeypatch)
    flags = world.flags(
        "--replicates=1", "--compressor=svd", "--budget=20kB", methods=("first",), protocol="quick-soft"
    )
    stages = [stage.function for name, stage in STAGES.items() if name != "learning_curve"]
    landmarks = {f"{each.__module__}:{each.__qualname__}" for each in (prepare, *stages, files.append)}

    way = way_to(landmarks, lambda: CliRunner().invoke(cli, flags, catch_exceptions=False))

    assert [line["status"] for line in world.lines()] == ["ok"]
    assert landmarks <= set(way)
    assert way == told_way()
    assert len(way) <= MOST_HOPS


def test_the_command_line_python_and_a_dry_run_prepare_alike(world, monkeypatch):
    serve_in_process(monkeypatch)
    kept: list[Prepared] = []

    def keeping(*args, **options) -> Prepared:
        kept.append(prepare(*args, **options))
        return kept[-1]

    monkeypatch.setattr(prepared, "prepare", keeping)  # where the verb imports it from when it is called
    monkeypatch.setattr(driver, "prepare", keeping)
    flags = world.flags("--replicates=1", methods=("first",))

    dry = CliRunner().invoke(cli, [*flags, "--dry-run"])
    assert (dry.exit_code, world.lines()) == (0, [])
    assert "1 trials: 0 done, 1 missing, 0 failed, 0 stale; 1 to run." in dry.output
    assert not world.results.exists()

    wet = CliRunner().invoke(cli, flags)
    assert wet.exit_code == 0, wet.output
    assert "1 trials: 0 done, 1 missing, 0 failed, 0 stale; 1 to run." in wet.output

    again = bench.run(
        datasets=["tiny"], protocols=["quick-hard"], methods=["first"], ipcs=[2], replicates=1,
        plugins=world.plugins, results=world.results, store=world.root / "store",
    )  # fmt: skip
    assert [record.status for record in again] == ["ok"]
    assert len(world.lines()) == 1
    assert [[*each.states.values()] for each in kept] == [["missing"], ["missing"], ["done"]]
    assert [len(each.chosen) for each in kept] == [1, 1, 0]
    assert len({tuple(each.trials) for each in kept}) == 1
    assert kept[0].options == kept[1].options == kept[2].options


def test_records_are_read_when_they_are_first_asked_for(world, monkeypatch):
    """So that a run, which asks under the lock of its folder, sees what another run wrote before it got the lock."""
    reads: list[Path] = []
    scan = files.scan
    monkeypatch.setattr(prepared.files, "scan", lambda folder: reads.append(folder) or scan(folder))
    world.results.mkdir()
    (world.results / "records.jsonl").touch()
    grid = {"datasets": ["tiny"], "protocols": ["quick-hard"], "methods": ["first"], "ipcs": [2], "replicates": 3}
    options = RunOptions(world.results, world.root / "store", limit=2)

    ready = prepare(options, world.plugins, **grid)

    assert reads == []
    assert ready.chosen == ready.trials[:2]
    assert len(ready.states) == 3
    assert reads == [world.results]


def test_an_unknown_rerun_is_refused_before_anything_is_read():
    with pytest.raises(UserError, match="--rerun"):
        RunOptions(rerun="sometimes")
