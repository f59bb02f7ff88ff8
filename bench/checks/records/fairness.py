"""Fairness within a cell: the same protocol, data, teacher, student and training for all, and nothing picked out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from bench.checks.records.board import Cell, Line, row, short
from bench.checks.records.prescribed import Prescribed
from bench.checks.records.rules import NOT_TOLD, Findings
from bench.errors import UserError
from bench.protocol.definition import Protocol
from bench.protocol.recipe import Recipe
from bench.records.files import ReadRecord
from bench.records.schema import FIXED
from bench.reports.leaderboard.entries import reference_of

RERUN = "condensebench run --rerun stale makes them anew"
EVIDENCE = ("recipe", "images_seen", "measured_after", "num_test", "test_opened", "condensed")


def check_cell(cell: Cell, prescribed: Prescribed, out: Findings) -> None:
    """All rules of this module for one cell."""
    for line in cell.lines:
        _names(line, prescribed, out)
    for line in cell.ok:
        check_code(line, prescribed, out)
        _data(cell, line, prescribed, out)
        _training(cell, line, prescribed, out)
    _alike(cell, prescribed, out)
    _sizes(cell, prescribed, out)
    _replicates(cell, out)
    _reference(cell, out)


def _names(line: Line, prescribed: Prescribed, out: Findings) -> None:
    if line.trial.id != line.record.id:
        out.add("wrong-id", line, f"id {line.record.id} is not that of its trial, {line.trial.id}")
    if unknown := prescribed.unknown_names(line.trial):
        for message in unknown:
            what = message.partition("\n")[0]
            out.add("unknown-name", line, f"{what} If it is a file of your own, name it with --plugin FILE.")
        return
    written = prescribed.canonical(line.trial)
    if written != line.trial:
        out.add("wrong-id", line, f"the trial is written '{line.trial}'; its one spelling is '{written}'")
    for why in prescribed.unofficial(line.trial):
        out.add("unofficial", line, f"{why}: these results are unofficial")
    _withdrawn(line, prescribed, out)


def _withdrawn(line: Line, prescribed: Prescribed, out: Findings) -> None:
    fixed = prescribed.protocol(line.trial.protocol)
    digest = line.record.made_by.get("protocol")
    if isinstance(fixed, Protocol) and fixed.id != fixed.name:
        digest = prescribed.digest(fixed.name)
    if digest and (withdrawal := prescribed.withdrawn(line.trial.protocol, digest)):
        out.add("withdrawn", line, f"{withdrawal.protocol} was withdrawn on {withdrawal.date}: {withdrawal.reason}")


def check_code(line: Line, prescribed: Prescribed, out: Findings) -> bool:
    """The digests of protocol, engine and plugins against those of what is here. Returns whether all are the same."""
    trial, made_by, expected = line.trial, line.record.made_by, prescribed.code(line.trial)
    names = {
        "engine": "the engine",
        "protocol": f"protocol '{trial.protocol}'",
        "network": f"network '{trial.student}'",
        "method": f"method '{trial.method}'",
        "compressor": f"compressor '{trial.compressor}'",
    }
    changed = [part for part in names if part in expected and made_by.get(part) != expected[part]]
    stale = any(part in FIXED for part in changed)
    for part in changed:
        difference = f"{names[part]} is {short(made_by.get(part))} in the record, {short(expected[part])} here"
        if stale:
            out.add("stale", line, f"{difference}; {RERUN}")
        else:
            out.add(
                "foreign-code",
                line,
                f"{difference}: other code ran under this name. If the file was edited since, {RERUN}; if it is a "
                "submitter's own, it needs a name of its own and --plugin FILE",
            )
    return not changed


def _data(cell: Cell, line: Line, prescribed: Prescribed, out: Findings) -> None:
    """The data set and the teacher."""
    made_by = line.record.made_by
    digest = prescribed.dataset(cell.dataset)
    if digest is None:
        out.unchecked(("other-dataset", "other-teacher"), line, f"data set '{cell.dataset}' was never opened here")
    elif made_by.get("dataset") != digest:
        out.add(
            "other-dataset",
            line,
            f"the data set has the digest {short(made_by.get('dataset'))}, and '{cell.dataset}' is {short(digest)}: "
            "other images or labels",
        )
    elif made_by.get("engine") == prescribed.engine and line.record.num_classes and prescribed.uses_teacher(line.trial):
        _teacher(cell, line, prescribed, digest, out)


def _teacher(cell: Cell, line: Line, prescribed: Prescribed, dataset: str, out: Findings) -> None:
    expected = prescribed.teacher(cell.protocol, cell.dataset, dataset, line.record.num_classes or 0)
    if expected is None:
        out.unchecked("other-teacher", line, f"the teacher of '{cell.dataset}' is not shipped and was never made here")
    elif line.record.made_by.get("teacher") != expected:
        out.add(
            "other-teacher",
            line,
            f"{cell}: the teacher's weights are {short(line.record.made_by.get('teacher'))}; the protocol's own "
            f"for this data set are {short(expected)}",
        )


def _training(cell: Cell, line: Line, prescribed: Prescribed, out: Findings) -> None:
    """Epochs, steps, recipe and label regime, recomputed from the protocol file."""
    record = line.record
    if not record.num_classes or not record.num_images or record.epochs is None or record.steps is None:
        out.add("impossible-value", line, "a result without num_classes, num_images, epochs or steps")
        return
    recipe = prescribed.recipe(cell.protocol, cell.dataset, cell.ipc, cell.student, record.num_classes)
    if isinstance(recipe, UserError):
        if isinstance(prescribed.protocol(cell.protocol), Protocol):
            out.add("other-recipe", line, f"{cell}: the protocol has no recipe for this cell: {recipe}")
        return
    if record.epochs != recipe.epochs:
        rule = "more-epochs" if record.epochs > recipe.epochs else "fewer-epochs"
        out.add(rule, line, f"{cell}: trained for {record.epochs} epochs; the protocol prescribes {recipe.epochs}")
    steps = prescribed.steps(recipe, record.num_images, record.num_classes)
    if record.steps != steps:
        out.add(
            "other-steps",
            line,
            f"{cell}: {record.steps} optimiser steps; {recipe.epochs} epochs of {record.num_images} images in batches "
            f"of {recipe.batch} are {steps}",
        )
    missing = [name for name in EVIDENCE if getattr(record, name) is None]
    if missing and _of_this_code(record, cell, prescribed):
        out.add(
            "hidden-evidence",
            line,
            f"{cell}: {', '.join(missing)} left out; this engine writes all of it with every result",
        )
    elif missing:
        out.unchecked(("best-epoch", "other-recipe"), line, NOT_TOLD)
    else:
        _evidence(cell, line, recipe, prescribed, out)
    if record.labels != recipe.labels:
        out.add("other-labels", line, f"{cell}: labels are {record.labels}; the protocol's are {recipe.labels}")
    if (record.class_balance or "equal") != recipe.class_balance:
        written = "no word of a balance" if record.class_balance is None else f"class_balance = {record.class_balance}"
        out.add("class-balance", line, f"{cell}: {written}; the protocol has class_balance = {recipe.class_balance}")
    if (record.num_views or 0) != recipe.views:
        out.add("other-labels", line, f"{cell}: {record.num_views or 0} stored views; the protocol has {recipe.views}")


def _of_this_code(record: ReadRecord, cell: Cell, prescribed: Prescribed) -> bool:
    """Whether the record says that this very protocol and engine made it. Schema 1 ended before either."""
    made_by = record.made_by
    return made_by.get("protocol") == prescribed.digest(cell.protocol) and made_by.get("engine") == prescribed.engine


def _evidence(cell: Cell, line: Line, recipe: Recipe, prescribed: Prescribed, out: Findings) -> None:
    """What records tell since schema 2."""
    record = line.record
    digest = prescribed.recipe_digest(cell.protocol, cell.dataset, cell.ipc, cell.student, record.num_classes or 0)
    least, most = prescribed.images_seen(recipe, record.num_images or 0, record.num_classes or 1)
    if not least <= (record.images_seen or 0) <= most:
        allowed = f"{least}" if least == most else f"{least} to {most}"
        out.add("other-steps", line, f"{cell}: the student saw {record.images_seen} images; prescribed are {allowed}")
    if record.made_by.get("protocol") == prescribed.digest(cell.protocol) and record.recipe != digest:
        out.add(
            "other-recipe",
            line,
            f"{cell}: the recipe's digest is {short(record.recipe)}; the protocol's for it is {short(digest)}",
        )
    if record.measured_after != record.epochs or record.test_opened != 1:
        out.add(
            "best-epoch",
            line,
            f"{cell}: measured after epoch {record.measured_after} of {record.epochs}, with the test split opened "
            f"{record.test_opened} times; what counts is one look, after the last epoch",
        )


def _alike(cell: Cell, prescribed: Prescribed, out: Findings) -> None:
    """One digest in a cell for each of what the protocol fixes, where `_data` did not know the right one."""
    dataset = prescribed.dataset(cell.dataset)
    classes = {line.record.num_classes or 0 for line in cell.ok}
    for part in FIXED:
        if part == "dataset" and dataset is not None:
            continue
        if (
            part == "teacher"
            and dataset
            and all(prescribed.teacher(cell.protocol, cell.dataset, dataset, c) for c in classes)
        ):
            continue
        lines = [line for line in cell.ok if part != "teacher" or prescribed.uses_teacher(line.trial)]
        digests = Counter(line.record.made_by.get(part) for line in lines)
        digests.pop(None, None)
        if len(digests) < 2:
            continue
        (usual, count), *others = digests.most_common()
        for other, _ in others:
            out.add(
                f"other-{part}",
                [line for line in lines if line.record.made_by.get(part) == other],
                f"{cell}: {part} {short(other)}, while {count} of {len(lines)} records of this cell have "
                f"{short(usual)}: they cannot be compared; {RERUN}",
            )


def _replicates(cell: Cell, out: Findings) -> None:
    most_replicates = max(len(lines) for lines in cell.entries.values())
    for name, lines in cell.entries.items():
        have = sorted({line.trial.replicate for line in lines} | cell.left_out.get(name, frozenset()))
        if have != list(range(len(have))):
            out.add(
                "picked-replicates",
                lines,
                f"{cell}, {row(name)}: replicates {_listed(have)} stand here, {_listed(range(len(have)))} belong here. "
                f"A choice compares nothing; condensebench run --replicates {max(have) + 1} runs the rest",
            )
        elif len(have) < most_replicates:
            out.add(
                "missing-replicates",
                lines,
                f"{cell}, {row(name)}: {len(have)} replicates, and other rows have {most_replicates}; "
                f"condensebench run --replicates {most_replicates} runs the rest",
            )
        for line in lines:
            if line.record.status == "failed" and line.record.error is not None:
                why = line.record.error.message.partition("\n")[0]
                out.add(
                    "failed-trial",
                    line,
                    f"{cell}, {row(name)}: {line.record.error.type}: {why}; condensebench run --rerun failed",
                )
    if most_replicates == 1:
        out.add("single-replicate", str(cell), "one replicate a row: no interval, no test; run at least 3")


def _sizes(cell: Cell, prescribed: Prescribed, out: Findings) -> None:
    """Classes and test images are the data set's own, so they cannot differ within a cell."""
    known = {"num_test": prescribed.test_images(cell.dataset), "num_classes": None}
    for name, expected in known.items():
        values = Counter(getattr(line.record, name) for line in cell.ok if getattr(line.record, name) is not None)
        right = expected or (values.most_common(1)[0][0] if values else None)
        for value in values:
            if value != right:
                lines = [line for line in cell.ok if getattr(line.record, name) == value]
                out.add("impossible-value", lines, f"{cell}: {name} is {value}; it is {right} for this data set")


def _reference(cell: Cell, out: Findings) -> None:
    """`random` (of learned labels `random-soft`) with a result wherever anything else has one."""
    for (compressor, budget), methods in cell.groups.items():
        if not any(line.record.status == "ok" for lines in methods.values() for line in lines):
            continue
        name = reference_of(next((line.record.labels for line in cell.ok), None))
        group = row((name, compressor, budget))
        reference = methods.get(name, [])
        if not reference:
            out.add("no-random", str(cell), f"'{group}' was not run; condensebench run --method {name} adds it")
        elif not any(line.record.status == "ok" for line in reference):
            out.add(
                "no-random", reference, f"{cell}: '{group}' has no result ({reference[0].record.status})", "warning"
            )


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
