"""Trials under teachers of one's own: told, recorded, in tables of their own, and paired with one another."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli
from tests.worlds.plugins import write
from tests.worlds.run import World, make_world

pytestmark = pytest.mark.usefixtures("ray_for_all")
RECIPE = 'network = "convnet:width={width}"\n[recipe]\nepochs = 1\nbatch = 16\n'
ASKS = """
def select(train, ipc, ctx):
    assert len(ctx.features()) == len(train)
    return [index for c in range(train.num_classes) for index in train.class_indices(c)[:ipc]]
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = make_world(tmp_path)
    world.add("asks.py", ASKS)
    return world


def test_every_teacher_gets_a_table_that_names_it_and_tells_its_accuracy(world, tmp_path):
    teachers = [
        write(tmp_path / f"{name}.toml", RECIPE.format(width=width)) for name, width in (("thin", 4), ("wide", 6))
    ]
    named = [f"--teacher={path}" for path in teachers]
    outcome = CliRunner().invoke(cli, world.flags("--replicates=1", *named, methods=("first", "asks")))
    assert outcome.exit_code == 0, outcome.output
    lines = world.lines()
    assert {line["trial"]["method"]: line["teachers"] is None for line in lines} == {"first": True, "asks": False}
    protocols = sorted({line["trial"]["protocol"] for line in lines})
    assert len(protocols) == 2
    for line in lines:
        if line["teachers"]:
            (facts,) = line["teachers"]
            assert line["made_by"]["teacher"] == facts["digest"]
            told = f"{facts['recipe']} ({facts['network']}), {100 * facts['accuracy']:.1f} % on the test split of tiny."
            assert told in " ".join(outcome.output.split())
    assert outcome.output.count("unofficial: tiny, quick-hard:teacher=") == 2
    # The student of one set under two teachers starts from the same weights and sees the same order.
    first = [line for line in lines if line["trial"]["method"] == "first"]
    assert first[0]["train_loss"] == first[1]["train_loss"]
    again = CliRunner().invoke(cli, world.flags("--replicates=1", *named, methods=("first", "asks")))
    assert "4 done, 0 missing" in again.output


def test_a_miniature_on_data_without_a_teacher_trains_a_short_one(world):
    flags = world.flags("--replicates=1", methods=("asks",), protocol="quick-hard:scale=0.1")
    outcome = CliRunner().invoke(cli, flags)
    assert outcome.exit_code == 0, outcome.output
    assert [each["recipe"] for each in world.lines()[0]["teachers"]] == ["small-teacher-v1:scale=0.1"]
