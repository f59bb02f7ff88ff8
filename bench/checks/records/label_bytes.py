"""The label budget in true bytes: kept, counted against the right reference, and the same for every method."""

from __future__ import annotations

from bench.checks.records.board import Cell, Line, condensed_set, row
from bench.checks.records.prescribed import Prescribed
from bench.checks.records.rules import Findings
from bench.errors import UserError
from bench.records.schema import FLOATS
from bench.trials.budget import Budget, reference_bytes

# Codes of equal rate differ between methods by what their entropy coders make of the content: 0.6 % at most in
# results/former-plan. What is larger, and larger than a header, is another code.
CONTENT_SHARE = 0.02
CONTENT_BYTES = 64


def check_bytes(cell: Cell, prescribed: Prescribed, out: Findings) -> None:
    """All rules of this module for one cell."""
    for line in cell.ok:
        _budget(cell, line, prescribed, out)
    for (compressor, budget), methods in cell.groups.items():
        if compressor is not None:
            _equal(cell, compressor, budget, methods, out)


def _budget(cell: Cell, line: Line, prescribed: Prescribed, out: Findings) -> None:
    record, trial = line.record, line.trial
    if (record.bytes_labels is None) != (trial.compressor is None and record.labels != "learned"):
        out.add("impossible-value", line, f"compressor {trial.compressor} with bytes_labels {record.bytes_labels}")
    if record.bytes_labels is None or not record.num_images or not record.num_classes:
        return
    if record.labels == "learned":
        _learned(cell, line, record.num_images * record.num_classes, record.bytes_labels.total, out)
        return
    recipe = prescribed.recipe(cell.protocol, cell.dataset, cell.ipc, cell.student, record.num_classes)
    views = (record.num_views or 0) if isinstance(recipe, UserError) else recipe.views
    reference = reference_bytes(record.num_images, views, record.num_classes)
    if record.bytes_labels_reference != reference:
        out.add(
            "wrong-reference",
            line,
            f"{cell}: 1x is said to be {record.bytes_labels_reference} bytes; {record.num_images} images with "
            f"{views} views and {record.num_classes} classes make {reference}",
        )
    if trial.budget is None:
        return
    allowed = Budget.parse(trial.budget).total_bytes(record.num_images, views, record.num_classes)
    total = record.bytes_labels.total
    if total > allowed:
        out.add(
            "budget-exceeded",
            line,
            f"{cell}, {row((trial.method, trial.compressor, trial.budget))}: the labels take {total} bytes, "
            f"{reference / total:.1f}x in truth; {trial.budget} allows {allowed}",
        )


def _learned(cell: Cell, line: Line, values: int, total: int, out: Findings) -> None:
    """Labels that the method handed in take the bytes of their values."""
    kind = str(line.record.provenance.get("soft_labels"))
    expected = values * FLOATS.get(kind, 0)
    if line.trial.compressor is not None or total != expected:
        out.add(
            "impossible-value",
            line,
            f"{cell}, {line.trial.method}: labels of {total} bytes; {values} values of {kind} "
            f"that it hands in take {expected}",
        )


def _equal(cell: Cell, compressor: str, budget: str | None, methods: dict[str, list[Line]], out: Findings) -> None:
    """Equal labels for all methods. A warning under a budget, where a smaller file is the method's own loss, and for a
    code whose length depends on the content; an error for a code that gives different sets the same size."""
    taken: dict[str, list[int]] = {}
    fixed_size = False
    for method, lines in methods.items():
        sized = [
            (line.record, line.record.bytes_labels.total) for line in lines if line.record.bytes_labels is not None
        ]
        if sized:
            taken[method] = [size for _, size in sized]
            different = len({condensed_set(record) for record, _ in sized}) > 1
            fixed_size |= different and len(set(taken[method])) == 1
    least = min((min(sizes) for sizes in taken.values()), default=0)
    for method, sizes in taken.items():
        if max(sizes) - least > max(CONTENT_BYTES, CONTENT_SHARE * least):
            out.add(
                "larger-labels",
                methods[method],
                f"{cell}, {row((method, compressor, budget))}: labels of {max(sizes)} bytes, where another row of "
                f"this name has {least}; more than {CONTENT_SHARE:.0%} is another rate, not other content",
                None if fixed_size and budget is None else "warning",
            )
