"""Trials of several students: continual learning by steps of classes, and slimming by shares of channels."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pydantic import ValidationError

from bench.artifacts.opened import TestSplit
from bench.artifacts.refs import Workspace
from bench.checks.records.check_records import check_records
from bench.checks.verify.diagnosis import other_curve
from bench.cli import cli
from bench.driver.walk import Run
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.protocol.recipe import Recipe
from bench.records import files
from bench.records.files import Record
from bench.records.lean import LeanReader
from bench.records.schema import line_digest
from bench.reports.leaderboard.page import render
from bench.reports.leaderboard.rows import leaderboard
from bench.reports.student_curves import panels
from bench.sources import ArraySource
from bench.stages.points import points
from bench.trials.plan import Grid, Plan
from tests.stages.test_float_pixels import Inline
from tests.worlds.lessons import network
from tests.worlds.run import PROTOCOL, World, make_world

TEACHER = """
title = "Two epochs of the network that is slimmed"
network = "vgg:width=2"
[recipe]
epochs = 2
batch = 16
scale_l1 = 1e-3
"""


def recipe(**more: Any) -> Recipe:
    return Recipe(**{"labels": "hard", "epochs": 2, "batch": 5, **more})


# --- which students there are


def test_classes_come_in_steps_and_in_another_order_for_every_replicate() -> None:
    one, same, other = (points(recipe(class_steps=5), 10, ("p", each)) for each in (0, 0, 1))
    seen = [point.classes.tolist() for point in one if point.classes is not None]
    assert [len(each) for each in seen] == [2, 4, 6, 8, 10]
    assert all(set(before) < set(after) for before, after in pairwise(seen))
    assert seen == [point.classes.tolist() for point in same if point.classes is not None]
    assert seen[0] != other[0].classes.tolist()  # type: ignore[union-attr]
    assert len({point.name for point in one}) == 5


@pytest.mark.parametrize(
    ("classes", "steps", "sizes"),
    [(3, 2, (2, 3)), (10, 3, (4, 7, 10)), (3, 10, (1, 2, 3)), (100, 10, range(10, 101, 10))],
)
def test_steps_are_as_even_as_can_be_and_the_last_has_all_classes(classes: int, steps: int, sizes: Any) -> None:
    assert recipe(class_steps=steps).trainings(classes) == tuple(sizes)


def test_without_an_application_there_is_one_student_of_all_classes() -> None:
    (point,) = points(recipe(), 10, ("p", 0))
    assert point.name == ()
    assert recipe().trainings(10) == (10,)
    student = network()
    assert point.tested(student) is student


def test_a_student_of_some_classes_chooses_among_these_alone() -> None:
    point = points(recipe(class_steps=3), 3, ("p", 0))[1]
    student, x = network().eval(), torch.randn(5, 1, 8, 8)
    assert point.classes is not None
    assert torch.equal(point.tested(student)(x), student(x)[:, point.classes])
    labels = torch.from_numpy(point.classes[[1, 0, 1]])
    assert point.targets(labels).tolist() == [1, 0, 1]


def test_a_test_split_of_files_is_read_for_the_classes_that_were_seen() -> None:
    images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    split = TestSplit(ArraySource(images, np.array([0, 1, 2, 0, 1, 2])), 1)
    chosen = split.only(np.array([1, 2, 4, 5]))
    assert len(chosen) == 4
    assert chosen[1:3].flatten().tolist() == [2, 4]
    assert chosen.only(np.array([3]))[:9].flatten().tolist() == [5]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"class_steps": 1}, "one step is no continual learning"),
        ({"class_steps": 2, "kept_channels": (0.5,)}, "class_steps goes neither with kept_channels"),
        ({"kept_channels": (0.2, 0.8)}, "go down, from the largest share"),
        ({"kept_channels": (1.2,)}, "less than or equal to 1"),
        ({"class_steps": 2, "labels": "stored", "views": 2, "loss": {"name": "kl"}}, "nor with labels = 'stored'"),
        ({"kept_channels": (0.5,), "labels": "online", "loss": {"name": "kl"}}, "labels = 'hard' or 'learned'"),
    ],
)
def test_what_does_not_go_together_is_refused_by_the_recipe(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        recipe(**wrong)


# --- a whole run


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, dict[tuple[str, str, int], Record]]:
    """Records by protocol, method and replicate."""
    world = make_world(tmp_path_factory.mktemp("world"))
    plain = PROTOCOL.format(labels="hard", views=0, loss="ce")
    world.add("quick-continual.toml", f"{plain}class_steps = 3\n")
    world.add("quick-teacher.toml", TEACHER)
    slim = plain.replace('"small-teacher-v1"', '["small-teacher-v1", "quick-teacher"]').replace(
        "convnet:width=4", "vgg:width=2"
    )
    world.add("quick-slim.toml", f"{slim}kept_channels = [0.8, 0.4]\n")
    ws = Workspace(world.root / "store", discover(world.plugins))
    with pytest.MonkeyPatch.context() as patch:
        executor: Any = Inline(ws, patch)
        names = {"datasets": ["tiny"], "methods": ["first", "chance"], "ipcs": [2], "replicates": 2}
        grids = [Grid(protocols=["quick-hard", "quick-continual", "quick-slim"], **names)]  # type: ignore[arg-type]
        grids.append(Grid(["tiny"], ["quick-slim"], ["first"], students=["convnet:width=4"], ipcs=[2], replicates=1))
        asyncio.run(Run(ws, executor, world.results, ()).all(Plan(grids).trials(ws.registry)))
    lines = files.load(world.results).records
    by_name = {
        (line.trial["protocol"], line.trial["method"], line.trial["replicate"]): line
        for line in lines
        if line.status == "ok"
    }
    assert len(by_name) == 12, [line.error for line in lines]
    return world, by_name


def test_every_step_is_told_and_the_last_is_the_result(records: Any) -> None:
    _, by_name = records
    line = by_name["quick-continual", "first", 0]
    assert [point.classes for point in line.curve] == [1, 2, 3]
    assert [point.num_test for point in line.curve] == [8, 16, 24]
    assert line.curve[0].accuracy == 1.0  # among one class
    assert (line.curve[-1].accuracy, line.curve[-1].test_loss) == (line.accuracy, line.test_loss)
    assert (line.epochs, line.measured_after, line.test_opened, line.num_test) == (2, 2, 1, 24)
    assert (line.steps, line.images_seen) == (2 * 3, 2 * (2 + 4 + 6))
    assert by_name["quick-hard", "first", 0].curve is None
    assert "curve" not in by_name["quick-hard", "first", 0].fields()


def test_lines_of_several_students_take_the_fast_way_of_reading(records: Any) -> None:
    _, by_name = records
    line = by_name["quick-slim", "first", 0]
    lean = LeanReader()._fast(line.line().encode())
    assert lean.curve is not None
    assert [(each.parameters, each.accuracy) for each in lean.curve] == [(e.parameters, e.accuracy) for e in line.curve]


def test_networks_grow_slimmer_and_begin_from_the_one_that_learnt_all_data(records: Any) -> None:
    _, by_name = records
    line = by_name["quick-slim", "first", 0]
    sizes = [point.parameters for point in line.curve]
    assert sizes[0] > sizes[1] > 0
    assert [point.classes for point in line.curve] == [3, 3]
    assert [teacher.network for teacher in line.teachers] == ["resnet:width=16", "vgg:width=2"]
    assert sizes == [point.parameters for point in by_name["quick-slim", "chance", 1].curve]
    assert line.steps == 2 * 2


def test_another_student_than_the_network_that_is_slimmed_is_refused_in_one_sentence(records: Any) -> None:
    world, _ = records
    (failed,) = (line for line in files.load(world.results).records if line.status == "failed")
    assert failed.error
    assert (
        "slims its teacher quick-teacher, which is the network vgg:width=2. Leave --student out" in failed.error.message
    )


def test_tables_show_every_student_and_their_mean_where_there_are_several(records: Any) -> None:
    _, by_name = records
    frame = leaderboard(by_name.values())
    row = frame[(frame.protocol == "quick-continual") & (frame.method == "first")].iloc[0]
    curves = [by_name["quick-continual", "first", replicate].curve for replicate in (0, 1)]
    means = [np.mean([curve[step].accuracy for curve in curves]) for step in range(3)]
    assert row.curve == pytest.approx(means)
    assert row.curve_mean == pytest.approx(np.mean(means))
    assert row["mean"] == pytest.approx(means[-1])
    hard, continual = (frame[frame.protocol == name] for name in ("quick-hard", "quick-continual"))
    assert "by student" in render(continual)
    assert "by student" not in render(hard)


def test_the_figure_has_a_panel_for_each_table_and_a_line_for_each_method(records: Any, tmp_path: Any) -> None:
    world, by_name = records
    continual, slim = panels(by_name.values())
    assert (continual.axis, slim.axis) == ("classes seen", "parameters kept")
    assert [line.method for line in continual.lines] == ["chance", "first"]
    assert continual.lines[0].at == (1, 2, 3)
    out = tmp_path / "steps.svg"
    flags = ["plot", "--results", str(world.results), "--by-student", "--out", str(out)]
    done = CliRunner().invoke(cli, flags, catch_exceptions=False)
    assert (done.exit_code, done.output) == (0, f"{out}: 2 panels, 2 methods\n")
    assert out.stat().st_size > 10_000
    nothing = CliRunner().invoke(cli, ["plot", "--results", "results/default-plan", "--by-student", "--out", str(out)])
    assert isinstance(nothing.exception, UserError)
    assert "condensebench run --protocol continual-5-v1" in str(nothing.exception)


CHANGES = {
    "a step is left out": lambda curve: curve[1:],
    "the last step is another one": lambda curve: [*curve[:-1], curve[-1] | {"accuracy": 1.0}],
    "no step is told": lambda _: None,
    "a step is no share of its images": lambda curve: [curve[0] | {"accuracy": 0.77}, *curve[1:]],
    "a step was tested on more": lambda curve: [curve[0] | {"num_test": 40, "accuracy": 0.5}, *curve[1:]],
    "students of another size": lambda curve: [point | {"parameters": point["parameters"] + 1} for point in curve],
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_record_that_tells_other_students_is_found(records: Any, tmp_path: Any, name: str) -> None:
    world, by_name = records
    registry, store = discover(world.plugins), world.root / "store"
    lines = [each for (protocol, _, _), each in by_name.items() if protocol != "quick-hard"]
    text = "".join(line.line() + "\n" for line in lines)
    (tmp_path / "records.jsonl").write_text(text, encoding="utf-8")
    assert not [
        f
        for f in check_records(tmp_path, registry=registry, store=store).findings
        if f.severity == "error" and f.rule != "no-random"
    ]
    fields = by_name["quick-continual", "first", 0].fields()
    changed = CHANGES[name]([dict(point) for point in fields["curve"]])
    fields = {key: value for key, value in fields.items() if key != "curve"} | ({"curve": changed} if changed else {})
    with (tmp_path / "records.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({**fields, "digest": line_digest(fields)}, separators=(",", ":")) + "\n")
    found = [finding.rule for finding in check_records(tmp_path, registry=registry, store=store).findings]
    assert "other-curve" in found


@pytest.mark.parametrize(("protocol", "accused"), [("quick-slim", False), ("quick-continual", True)])
def test_slimmed_students_of_one_set_may_end_alike_where_a_batch_has_all_images(
    records: Any, tmp_path: Any, protocol: str, accused: bool
) -> None:
    world, by_name = records
    first, second = (by_name[protocol, "first", replicate].fields() for replicate in (0, 1))
    second |= {key: first[key] for key in ("accuracy", "test_loss", "train_loss", "curve")}
    lines = [{**line, "digest": line_digest(line)} for line in (first, second)]
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    findings = check_records(tmp_path, registry=discover(world.plugins), store=world.root / "store").findings
    assert ("copied-replicate" in {finding.rule for finding in findings}) == accused


def test_a_student_before_the_last_whose_figures_are_others_is_told_by_its_number(records: Any) -> None:
    _, by_name = records
    claim = by_name["quick-continual", "first", 0]
    assert other_curve(claim, claim) is None
    edited = claim.model_copy(
        update={"curve": [claim.curve[0], claim.curve[1].model_copy(update={"accuracy": 0.125}), claim.curve[2]]}
    )
    diagnosis = other_curve(edited, claim)
    assert diagnosis is not None
    assert diagnosis.message.startswith("student 2: claimed 12.50 %, here ")
    assert other_curve(claim, by_name["quick-hard", "first", 0]) is not None
