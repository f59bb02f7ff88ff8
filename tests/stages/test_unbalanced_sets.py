"""Sets whose classes have different numbers of images: taken where the protocol lets them, and there alone."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from bench.artifacts.refs import Workspace
from bench.checks.records.check_records import check_records
from bench.driver.walk import Run
from bench.plugins.registry import discover
from bench.records import files
from bench.records.files import Record
from bench.reports.leaderboard.by_protocol import by_protocol, render_across
from bench.reports.leaderboard.by_student import by_student, render_students
from bench.reports.leaderboard.page import render
from bench.reports.leaderboard.rows import leaderboard
from bench.trials.plan import Grid, Plan
from tests.stages.test_float_pixels import Inline
from tests.worlds.run import PROTOCOL, World, make_world

LOPSIDED = """
import numpy as np

UNBALANCED = True


def select(train, ipc, ctx, *, short: int = 0):
    few = np.concatenate([train.class_indices(0)[: 3 * ipc - 1], train.class_indices(2)[:1]])
    return few[short:]
"""
PROTOCOLS = ["quick-free", "quick-hard", "quick-free-soft"]  # the first one makes the sets
METHODS = ["first", "lopsided", "lopsided:short=1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, dict[tuple[str, str], Record]]:
    """Records by protocol and method."""
    world = make_world(tmp_path_factory.mktemp("world"))
    world.add("lopsided.py", LOPSIDED)
    for name, values in (("quick-free", ("hard", 0, "ce")), ("quick-free-soft", ("stored", 2, "kl"))):
        text = PROTOCOL.format(labels=values[0], views=values[1], loss=values[2])
        world.add(f"{name}.toml", text + 'class_balance = "free"\n')
    ws = Workspace(world.root / "store", discover(world.plugins))
    with pytest.MonkeyPatch.context() as patch:
        executor: Any = Inline(ws, patch)
        plan = Plan([Grid(["tiny"], PROTOCOLS, METHODS, ["none"], ipcs=[2], replicates=1)])
        asyncio.run(Run(ws, executor, world.results, ()).all(plan.trials(ws.registry)))
    lines = files.load(world.results).records
    return world, {(line.trial["protocol"], line.trial["method"]): line for line in lines}


@pytest.mark.parametrize("protocol", ["quick-free", "quick-free-soft"])
def test_a_protocol_may_let_classes_differ_and_records_tell_how(made: Any, protocol: str) -> None:
    record = made[1][protocol, "lopsided"]
    assert record.status == "ok", record.error
    assert (record.class_balance, record.num_images) == ("free", 6)
    assert (record.condensed.per_class, record.condensed.empty_classes) == ((0, 5), 1)


def test_a_balanced_protocol_refuses_the_same_set_though_the_store_has_it(made: Any) -> None:
    record = made[1]["quick-hard", "lopsided"]
    assert record.status == "failed"
    assert record.class_balance is None
    assert "exactly ipc = 2 images per class are asked for; class 0 has 5 (3 classes differ)" in record.error.message
    assert "Protocols with recipe.class_balance = 'free' let it." in record.error.message


def test_the_whole_number_of_images_is_held_to_everywhere(made: Any) -> None:
    record = made[1]["quick-free", "lopsided:short=1"]
    assert record.status == "failed"
    assert "6 images are asked for, ipc = 2 times 3 classes; it has 5." in record.error.message


def test_a_balanced_set_is_made_once_for_both_and_its_line_tells_nothing_new(made: Any) -> None:
    world, records = made
    assert [what for _, _, what in world.log()].count("method first") == 1
    free, equal = records["quick-free", "first"], records["quick-hard", "first"]
    assert (free.class_balance, equal.class_balance) == ("free", None)
    assert free.condensed == equal.condensed
    assert "empty_classes" not in equal.fields()["condensed"]
    assert "class_balance" not in equal.fields()


def test_check_records_has_nothing_against_them(made: Any) -> None:
    world, _ = made
    checked = check_records(world.results, registry=discover(world.plugins), store=world.root / "store")
    assert not [each for each in checked.findings if each.rule in ("class-balance", "other-steps", "impossible-value")]


def test_tables_say_so_and_keep_them_apart(made: Any) -> None:
    records = made[1].values()
    text = render(leaderboard(records))
    free, equal = (text.partition(name)[2].partition("student convnet")[0] for name in ("quick-free,", "quick-hard,"))
    assert "hard labels, classes not balanced" in free
    assert "not balanced" not in equal
    assert "0-5, 1 empty" in text
    assert "images/class: fewest and most of a class" in " ".join(text.split())
    across, students = render_across(by_protocol(records), "md"), render_students(by_student(records))
    assert "quick-free (hard labels, classes not balanced" in across.replace("\n", " ").replace("<br>", " ")
    assert "quick-free, hard labels, classes not balanced" in students


def test_memory_of_the_training_is_told_and_shown_on_wish(made: Any) -> None:
    record = made[1]["quick-hard", "first"]
    assert record.peak_bytes is None or record.peak_bytes["train"] < 2**31
    assert "peak" not in render(leaderboard(made[1].values()))
    shown = render(leaderboard(made[1].values()), wished=["peak_train"])
    assert re.search(r"peak$", shown, re.MULTILINE)
    assert "peak: memory of the student's training" in shown
