"""Labels that a method hands in go from its process to students of protocols that want them, and are counted."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
import torch

from bench.artifacts.refs import Workspace
from bench.checks.records.check_records import check_records
from bench.driver.walk import Run
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.records import files
from bench.records.files import Record
from bench.reports.leaderboard.page import render
from bench.reports.leaderboard.rows import leaderboard
from bench.trials.plan import Grid, Plan
from tests.stages.test_float_pixels import Inline
from tests.worlds.run import PROTOCOL, World, make_world

LABELLED = """
import torch

from bench.api import Condensed


def synthesize(train, ipc, ctx, *, kind: str = "float32", fault: str = "", shift: float = 0.0):
    rows = [row for c in range(train.num_classes) for row in train.class_indices(c)[:ipc]]
    classes = torch.as_tensor(train.labels[rows])
    soft = 4.0 * torch.nn.functional.one_hot(classes, train.num_classes) + shift * torch.arange(train.num_classes)
    soft = soft.to(getattr(torch, kind))
    if fault == "nan":
        soft[3, 1] = float("nan")
    if fault == "shape":
        soft = soft[:, :2]
    return Condensed(train.images(rows), classes, soft_labels=soft)
"""
# What a student learns where every method hands in the same labels: images and classes are those of `first`.
METHODS = ["first", "labelled", "labelled:kind=float16", "labelled:shift=1.0"]
FAULTY = ["labelled:fault=nan", "labelled:fault=shape", "labelled:kind=int64"]


def published_by_its_authors(world: World, ws: Workspace) -> str:
    """The set of `labelled` as TESLA and DATM publish theirs: images and labels as tensors in two files."""
    train = ws.data("tiny").train
    rows = [row for c in range(3) for row in train.class_indices(c)[:2]]
    torch.save(train.images(rows).float(), world.root / "images_best.pt")
    classes = torch.as_tensor(train.labels[rows])
    torch.save(4.0 * torch.nn.functional.one_hot(classes, 3), world.root / "labels_best.pt")
    return f"folder:path={world.root / 'images_best.pt'},undo=levels,order=trust"


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, dict[tuple[str, str], Record]]:
    """Records by protocol and method."""
    world = make_world(tmp_path_factory.mktemp("world"))
    world.add("labelled.py", LABELLED)
    for name, loss in (("quick-learned", "soft-ce"), ("quick-fitted", "mse")):
        world.add(f"{name}.toml", PROTOCOL.format(labels="learned", views=0, loss=loss))
    ws = Workspace(world.root / "store", discover(world.plugins))
    with pytest.MonkeyPatch.context() as patch:
        executor: Any = Inline(ws, patch)
        protocols = ["quick-hard", "quick-soft", "quick-learned", "quick-fitted"]
        plan = Plan([Grid(datasets=["tiny"], protocols=protocols, methods=METHODS, ipcs=[2], replicates=1)])
        faulty = Grid(datasets=["tiny"], protocols=["quick-learned"], methods=FAULTY, ipcs=[2], replicates=1)
        published = Grid(["tiny"], ["quick-learned"], [published_by_its_authors(world, ws)], ipcs=[2], replicates=1)
        trials = [trial for each in (plan, Plan([faulty]), Plan([published])) for trial in each.trials(ws.registry)]
        asyncio.run(Run(ws, executor, world.results, ()).all(trials))
    lines = files.load(world.results).records
    return world, {(line.trial["protocol"], line.trial["method"]): line for line in lines}


@pytest.mark.parametrize("protocol", ["quick-learned", "quick-fitted"])
def test_students_learn_from_them_and_their_bytes_are_counted(records: Any, protocol: str) -> None:
    _, by_name = records
    whole, half, shifted = (by_name[protocol, name] for name in METHODS[1:])
    assert whole.status == half.status == shifted.status == "ok"
    assert (whole.labels, whole.bytes_labels_reference, whole.num_views) == ("learned", None, None)
    assert whole.bytes_labels
    assert half.bytes_labels
    assert (whole.bytes_labels.total, half.bytes_labels.total) == (6 * 3 * 4, 6 * 3 * 2)
    assert [each.provenance["soft_labels"] for each in (whole, half)] == ["float32", "float16"]
    assert (whole.accuracy, whole.train_loss) == (half.accuracy, half.train_loss)
    assert whole.train_loss != shifted.train_loss
    digests = {each.condensed.digest for each in (whole, half, shifted) if each.condensed}
    assert len(digests) == 3


def test_a_published_set_with_learnt_labels_gives_what_the_method_gives_that_made_it(records: Any) -> None:
    _, by_name = records
    made = by_name["quick-learned", "labelled"]
    (published,) = (line for (_, method), line in by_name.items() if method.startswith("folder:"))
    assert published.status == "ok", published.error
    assert (published.accuracy, published.train_loss) == (made.accuracy, made.train_loss)
    assert published.bytes_labels == made.bytes_labels
    assert published.provenance["soft_labels"] == "float32"


def test_no_teacher_is_made_for_them(records: Any) -> None:
    _, by_name = records
    assert by_name["quick-learned", "labelled"].teachers is None
    assert by_name["quick-learned", "labelled"].made_by["teacher"] is None


@pytest.mark.parametrize("protocol", ["quick-hard", "quick-soft"])
def test_other_protocols_take_the_images_and_leave_the_labels(records: Any, protocol: str) -> None:
    _, by_name = records
    plain, labelled = by_name[protocol, "first"], by_name[protocol, "labelled:shift=1.0"]
    assert (plain.accuracy, plain.test_loss, plain.bytes_labels) == (
        labelled.accuracy,
        labelled.test_loss,
        labelled.bytes_labels,
    )
    assert plain.condensed == labelled.condensed


def test_what_is_wrong_or_missing_is_a_failed_record_with_one_sentence(records: Any) -> None:
    _, by_name = records
    told = {name: by_name["quick-learned", name].error.message for name in ("first", *FAULTY)}
    assert "method 'first' hands in no labels (Condensed.soft_labels)" in told["first"]
    assert "soft_labels must be finite; row 3 is not" in told["labelled:fault=nan"]
    assert "soft_labels must be a float32 or float16 torch tensor [6, 3]" in told["labelled:fault=shape"]
    assert "it returned float32 [6, 2]" in told["labelled:fault=shape"]
    assert "it returned int64 [6, 3]" in told["labelled:kind=int64"]


def test_check_records_names_labels_that_are_not_used_and_has_nothing_against_those_that_are(records: Any) -> None:
    world, _ = records
    found = check_records(world.results, registry=discover(world.plugins), store=world.root / "store").findings
    unused = [finding.message for finding in found if finding.rule == "unused-labels"]
    assert any("labelled: it hands in labels, and students learnt from hard ones" in message for message in unused)
    assert not any("learned" in message for message in unused)
    assert not [finding for finding in found if finding.rule in ("impossible-value", "wrong-reference", "other-steps")]
    missing = [finding.message for finding in found if finding.rule == "no-random"]
    assert any("'random-soft' was not run; condensebench run --method random-soft adds it" in each for each in missing)


def test_no_table_mixes_label_regimes(records: Any) -> None:
    _, by_name = records
    frame = leaderboard(by_name.values())
    assert (frame.groupby("protocol").labels.nunique() == 1).all()
    text = render(frame, "md")
    assert "quick-learned, learned labels" in text
    assert "random-soft stands in for random" in text
    learned = text.partition("quick-learned, learned labels")[2].partition("###")[0]
    assert re.search(r"\| +labels +\|", learned)


def test_compressors_of_a_teachers_labels_are_refused_for_them(records: Any) -> None:
    world, _ = records
    grid = Grid(datasets=["tiny"], protocols=["quick-learned"], methods=["labelled"], compressors=["quant"], ipcs=[2])
    with pytest.raises(
        UserError, match="They count as they are; compressors are for the labels of a protocol's teacher"
    ):
        Plan([grid]).trials(discover(world.plugins))
