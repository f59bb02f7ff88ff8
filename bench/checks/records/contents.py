"""The condensed set: balanced where the protocol wants it, of different images, and without the test split in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from scipy.stats import fisher_exact

from bench.checks.records.board import Cell, Line, row
from bench.checks.records.rules import NOT_TOLD, Findings
from bench.records.lean import LeanCondensed
from bench.records.schema import FLOATS, CondensedSet
from bench.reports.leaderboard.entries import is_reference

CHANCE = 0.001  # of more near-copies than `random` has by nature, above which they are natural ones


def check_contents(cells: Sequence[Cell], out: Findings) -> None:
    """All rules of this module. `random` shows how many near-copies of test images a data set has by nature."""
    nature: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))  # data set -> (near-copies, images)
    for cell in cells:
        for line in cell.ok:
            seen, images = line.record.condensed, line.record.num_images
            if is_reference(line.trial.method, line.record.labels) and seen is not None and images:
                near, drawn = nature[cell.dataset]
                nature[cell.dataset] = near + seen.in_test_near, drawn + images
    for cell in cells:
        _pixels(cell, out)
        _soft_labels(cell, out)
        for line in cell.ok:
            if line.record.num_classes and line.record.num_images != cell.ipc * line.record.num_classes:
                out.add(
                    "class-balance",
                    line,
                    f"{cell}: {line.record.num_images} images for {line.record.num_classes} classes; "
                    f"{cell.ipc} each are {cell.ipc * line.record.num_classes}",
                )
            if line.record.condensed is None:
                rules = ("class-balance", "test-leak", "near-test", "repeated-images")
                out.unchecked(rules, line, NOT_TOLD)
            else:
                _contents(cell, line, line.record.condensed, nature[cell.dataset], out)


def _contents(
    cell: Cell, line: Line, seen: CondensedSet | LeanCondensed, nature: tuple[int, int], out: Findings
) -> None:
    name = f"{cell}, {row((line.trial.method, line.trial.compressor, line.trial.budget))}"
    images = line.record.num_images or 0
    least, most = seen.per_class
    if line.record.class_balance == "free":  # fairness.py holds that to the protocol
        if not least <= cell.ipc <= most or (seen.empty_classes is not None) != (least < most):
            what = f"from {least} to {most} images a class, {seen.empty_classes} classes without any"
            out.add("class-balance", line, f"{name}: {what}, cannot be {cell.ipc} on the mean")
    elif (least, most) != (cell.ipc, cell.ipc):
        out.add("class-balance", line, f"{name}: from {least} to {most} images a class; the protocol has {cell.ipc}")
    if seen.in_test_exact > seen.train_in_test:
        allowed = f", and the training split has {seen.train_in_test}" if seen.train_in_test else ""
        out.add(
            "test-leak", line, f"{name}: {seen.in_test_exact} of {images} images are images of the test split{allowed}"
        )
    elif seen.in_test_exact:
        out.add(
            "test-leak",
            line,
            f"{name}: {seen.in_test_exact} of {images} images are images of the test split; the training split itself "
            f"has {seen.train_in_test} of them, a fault of the data set",
            "warning",
        )
    if seen.in_test_near:
        near, drawn = nature
        by_chance = _chance(seen.in_test_near, images, near, drawn) if drawn else 1.0
        out.add(
            "near-test",
            line,
            f"{name}: {seen.in_test_near} of {images} images all but equal a test image; `random`: {near} of {drawn}",
            "error" if by_chance < CHANCE else None,
        )
    if seen.repeated:
        out.add("repeated-images", line, f"{name}: {seen.repeated} of {images} images equal another one of the set")


def _pixels(cell: Cell, out: Findings) -> None:
    """Float pixels beside whole levels: both are told, and both are counted in bytes, but they are not the same."""
    floats = [line for line in cell.ok if str(line.record.provenance.get("pixels")) in FLOATS]
    if 0 < len(floats) < len(cell.ok):
        methods = ", ".join(sorted({line.trial.method for line in floats}))
        out.add("float-pixels", floats, f"{cell}: float pixels: {methods}; the other sets are whole grey levels")


def _soft_labels(cell: Cell, out: Findings) -> None:
    """Labels that methods hand in: not used under other regimes, and there where students learn from them."""
    for line in cell.ok:
        kind, regime = line.record.provenance.get("soft_labels"), line.record.labels
        name = f"{cell}, {line.trial.method}"
        if kind is not None and regime != "learned":
            out.add(
                "unused-labels",
                line,
                f"{name}: it hands in labels, and students learnt from {regime} ones: those of the protocol",
            )
        elif regime == "learned" and str(kind) not in FLOATS:
            out.add("impossible-value", line, f"{name}: students learnt from its labels, and it handed in none")


def _chance(near: int, images: int, near_random: int, drawn: int) -> float:
    """How likely so many near-copies are, were they as frequent as in `random` (Fisher's exact test, one-sided)."""
    table = [[near, max(0, images - near)], [near_random, max(0, drawn - near_random)]]
    return float(fisher_exact(table, alternative="greater").pvalue)
