"""What a method costs: its own process, its own memory, and what is shared told apart."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.driver.outcome import Outcome, failure
from bench.studies.costs.cost_table import largest, rendered
from bench.studies.costs.measure import Cost
from bench.studies.pictures.condensed_sets import SetName
from tests.worlds.plugins import write

MIB = 2**20

# Spins for 0.4 s of process time and holds 200 MiB, after a look at dynamics that take a second to make.
GREEDY = '''
"""Takes what it can get."""

import time

import numpy as np


def select(train, ipc, ctx, *, mib: int = 200):
    ctx.dynamics(6)
    held = np.ones(mib * 2**20, np.uint8)
    started = time.process_time()
    while time.process_time() - started < 0.4:
        held[0] += 1
    return np.concatenate([train.class_indices(c)[:ipc] for c in range(train.num_classes)])
'''

FAILS = '''
"""Uses what is shared, then fails."""


def select(train, ipc, ctx):
    ctx.features()
    raise ArithmeticError("nothing adds up")
'''

DIES = '''
"""Takes its process along."""

import os
import signal


def select(train, ipc, ctx):
    os.kill(os.getpid(), signal.SIGKILL)
'''


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, dict[str, Any]]]:
    """`cost --format json` of four methods on digits: exit code, and a row for each method."""
    folder = tmp_path_factory.mktemp("costs")
    sources = {"fails": FAILS, "dies": DIES, "greedy": GREEDY}
    plugins = [f"--plugin={write(folder / f'{name}.py', source)}" for name, source in sources.items()]
    methods = [f"--method={name}" for name in ("greedy", "greedy:mib=1", "fails", "dies")]
    command = ["cost", "--dataset=digits", *methods, "--ipc=1", "--format=json", *plugins]
    found = CliRunner(env={"CONDENSEBENCH_STORE": str(folder / "store")}).invoke(cli, command)
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert not (folder / "store").exists()  # a user's store neither helps nor is touched
    return found.exit_code, {row["method"]: row for row in json.loads(found.stdout)}


def test_two_hundred_mebibytes_are_seen_as_such(answer: tuple[int, dict[str, dict[str, Any]]]) -> None:
    _, rows = answer
    assert rows["greedy"]["peak_bytes"] / MIB == pytest.approx(200, abs=10)
    assert rows["greedy:mib=1"]["peak_bytes"] / MIB == pytest.approx(1, abs=10)


def test_time_is_process_time_without_what_is_shared(answer: tuple[int, dict[str, dict[str, Any]]]) -> None:
    _, rows = answer
    for name in ("greedy", "greedy:mib=1"):
        assert 0.4 <= rows[name]["seconds"] < 0.4 + rows[name]["preparation_seconds"]
        assert rows[name]["wall_seconds"] >= 0.95 * rows[name]["seconds"]


def test_what_is_shared_was_made_once_and_counts_for_each(answer: tuple[int, dict[str, dict[str, Any]]]) -> None:
    _, rows = answer
    assert rows["greedy"]["prepared"] == rows["greedy:mib=1"]["prepared"] == "dynamics"
    assert rows["greedy"]["preparation_seconds"] == rows["greedy:mib=1"]["preparation_seconds"] > 0.5


def test_a_method_that_fails_or_dies_costs_the_others_nothing(answer: tuple[int, dict[str, dict[str, Any]]]) -> None:
    code, rows = answer
    assert code == 1
    states = [row["status"] for row in rows.values()]
    assert states == ["ok", "ok", "failed", "failed"]
    assert rows["fails"]["seconds"] is rows["dies"]["peak_bytes"] is None


def test_a_table_tells_each_method_what_it_shares_and_why_one_failed() -> None:
    slow = Cost(7.0, 123.4, 5 * MIB, {"dynamics": 61.5, "features": 0.5})
    found = {
        SetName("digits", "t", "slow", 10): Outcome("ok", slow),
        SetName("digits", "t", "quick", 10): Outcome("ok", Cost(0.25, 0.5, MIB // 4)),
        SetName("glyphs", "t", "lost", 1): Outcome("ok", Cost(0.25, 0.5, 0, {"features": math.nan})),
        SetName("glyphs", "t", "bad", 1): failure(ValueError("no")),
    }
    text = rendered(found, {"digits": 1197, "glyphs": 10000}, "md")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "### digits, ipc 10, of 1,197 training images" in lines
    assert "| slow | 62.00 | 7.00 | 123 | 5 | training dynamics, features |" in lines
    assert "| quick | | 0.25 | 0.50 | 0 | |" in lines
    assert "### glyphs, ipc 1, of 10,000 training images" in lines
    assert "| lost | - | 0.25 | 0.50 | 0 | features |" in lines
    assert "| bad | - | failed | - | - | |" in lines
    assert "- glyphs, bad: ValueError: no" in lines
    assert text.startswith("# What each method costs\n")


def test_of_a_plan_the_largest_sets_are_measured() -> None:
    names = [SetName("digits", "t", "dm", 1), SetName("digits", "t", "dm", 10), SetName("glyphs", "t", "dm", 1)]
    assert largest(names) == names[1:]
