"""Trials of several students: all that the protocol prescribes are told, each possible, and the last is the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.checks.records.board import Cell, Line
from bench.checks.records.prescribed import Prescribed
from bench.checks.records.rules import Findings
from bench.checks.records.values import ROUNDING
from bench.errors import UserError
from bench.records.files import ReadRecord
from bench.records.lean import LeanPoint
from bench.records.schema import Point


def check_curves(cell: Cell, prescribed: Prescribed, out: Findings) -> None:
    """All rules of this module for one cell."""
    for line in cell.ok:
        classes = line.record.num_classes or 0
        recipe = prescribed.recipe(cell.protocol, cell.dataset, cell.ipc, cell.student, classes)
        if isinstance(recipe, UserError) or not classes:
            continue  # told by the rules of fairness
        trainings = recipe.trainings(classes)
        for message in _other(line.record, trainings if len(trainings) > 1 else (), bool(recipe.kept_channels)):
            out.add("other-curve", line, f"{cell}, {line.trial.method}: {message}")
    _alike(cell, out)


def _other(record: ReadRecord, trainings: tuple[int, ...], slimmed: bool) -> Iterator[str]:
    """What is not as prescribed, one message each."""
    curve: Sequence[Point | LeanPoint] = record.curve or []
    if tuple(point.classes for point in curve) != trainings:
        trained_on = [point.classes for point in curve]
        yield f"its students were trained on {trained_on} classes; the protocol prescribes {list(trainings)}"
        return
    if not curve:
        return
    last = curve[-1]
    figures = last.accuracy, last.num_test, last.test_loss, last.train_loss
    if figures != (record.accuracy, record.num_test, record.test_loss, record.train_loss):
        yield f"its last student has {last.accuracy}, and the result is {record.accuracy}"
    for number, point in enumerate(curve, 1):
        right = point.accuracy * point.num_test
        if not point.num_test or abs(right - round(right)) > ROUNDING * point.num_test:
            yield f"accuracy {point.accuracy} of student {number} is no whole number of {point.num_test} test images"
    tests = [point.num_test for point in curve]
    if tests != sorted(tests) or (slimmed and len(set(tests)) > 1):
        yield f"its students were tested on {tests} images"
    sizes = [point.parameters for point in curve]
    if slimmed and (sizes != sorted(sizes, reverse=True) or not all(sizes)):
        yield f"its students have {sizes} parameters, and every one keeps fewer channels than the one before"


def _alike(cell: Cell, out: Findings) -> None:
    """Pruning hangs on the network alone: all trials of a cell have students of the same sizes."""
    sizes: dict[tuple[int, ...], list[Line]] = {}
    for line in cell.ok:
        if line.record.curve:
            sizes.setdefault(tuple(point.parameters for point in line.record.curve), []).append(line)
    usual = max(sizes.values(), key=len, default=[])
    for parameters, lines in sizes.items():
        if lines is not usual:
            out.add(
                "other-curve", lines, f"{cell}: students of {list(parameters)} parameters; other trials have others"
            )
