"""Values that no run can have given, results that were copied, and runs that were repeated until one pleased."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from bench.checks.records.board import Cell, Line, condensed_set, row
from bench.checks.records.rules import NOT_TOLD, Findings
from bench.records.files import ReadRecord
from bench.records.schema import FLOATS
from bench.records.used_origins import used_origins

CLOCKS_DIFFER = timedelta(hours=1)
ROUNDING = 1e-6  # of float32 sums

_Figures = tuple[float | None, float | None, float | None]  # accuracy, test loss, train loss


def check_values(lines: Sequence[Line], out: Findings) -> None:
    """The rules for single lines, over all lines, also those that a later one replaces."""
    latest_time = datetime.now(UTC) + CLOCKS_DIFFER
    for line in lines:
        for message in impossible(line.record):
            out.add("impossible-value", line, message)
        if datetime.fromisoformat(line.record.finished) > latest_time:
            out.add("impossible-value", line, f"finished in the future, {line.record.finished}")
        if line.record.status == "ok":
            missing = [name for name in ("train_loss", "test_loss") if getattr(line.record, name) is None]
            if missing:
                out.add(
                    "non-finite", line, f"{' and '.join(missing)} is no finite number, and yet there is an accuracy"
                )
            if line.record.num_test is None:
                out.unchecked("impossible-value", line, NOT_TOLD)
    _reruns(lines, out)


def impossible(record: ReadRecord) -> Iterator[str]:
    """What cannot be, one message each."""
    if record.accuracy is not None and record.num_test:
        right = record.accuracy * record.num_test
        if abs(right - round(right)) > ROUNDING * record.num_test:
            yield f"accuracy {record.accuracy} is no whole number of the {record.num_test} test images ({right:.3f})"
    if record.accuracy is not None and record.test_loss is not None:
        # A wrong answer has at most half of the probability, so it costs at least ln 2.
        least = (1 - record.accuracy) * math.log(2)
        if record.test_loss < least - ROUNDING:
            yield (
                f"test loss {record.test_loss:.4g} with accuracy {record.accuracy:.4g}: the wrong answers alone cost "
                f"{least:.4g} (ln 2 each)"
            )
    for stage, seconds in record.seconds.items():
        if not math.isfinite(seconds) or seconds < 0:
            yield f"{stage} took {seconds} seconds"
    sizes = record.bytes_labels
    if sizes is not None and sizes.total < sizes.shared + sizes.blobs + sizes.views:
        yield (
            f"the labels' {sizes.total} bytes are fewer than their parts (shared {sizes.shared}, blobs {sizes.blobs}, "
            f"views {sizes.views})"
        )
    if record.invalid_labels is not None and record.num_images and record.num_views and record.num_classes:
        rows = record.num_images * record.num_views
        for name, most in (("values", rows * record.num_classes), ("rows", rows)):
            if getattr(record.invalid_labels, name) > most:
                yield f"{getattr(record.invalid_labels, name)} of the labels' {most} {name} are said to be invalid"
    if record.accuracy is not None and not record.bytes_images:
        yield "the images take no bytes"
    pixels = str(record.provenance.get("pixels"))
    values = (record.num_images or 0) * FLOATS.get(pixels, 0)
    if values and (record.bytes_images or 0) % values:
        yield f"{record.num_images} images of {pixels} take {record.bytes_images} bytes: no whole number of values"


def check_copies(cell: Cell, out: Findings) -> None:
    """Equal accuracy and equal losses to the last bit in two replicates, or for two methods with different sets."""
    for (compressor, budget), methods in cell.groups.items():
        same: dict[_Figures, list[Line]] = defaultdict(list)
        for lines in methods.values():
            for line in lines:
                result = _result(line.record)
                if None not in result:
                    same[result].append(line)
        for lines in same.values():
            replicates = {line.trial.replicate for line in lines}
            sets = {condensed_set(line.record) for line in lines}
            if len(sets) == 1 and all(_may_coincide(line.record) for line in lines):
                continue
            if len(replicates) > 1:
                what = "replicates " + ", ".join(map(str, sorted(replicates)))
            elif len(lines) > 1 and len(sets) > 1:
                what = "methods with different condensed sets"
            else:
                continue  # one line, or methods that made the same set
            rows = sorted({row((line.trial.method, compressor, budget)) for line in lines})
            out.add(
                "copied-replicate",
                lines,
                f"{cell}, {', '.join(rows)}: {what} have "
                "the same accuracy and losses to the last bit; no two trainings do",
            )


def _may_coincide(record: ReadRecord) -> bool:
    """Whether two trainings on the same images may be one: slimmed students begin from the teacher's weights, and where
    a batch holds all images they differ in the order of its sum alone."""
    curve = record.curve or ()
    slimmed = len({point.parameters for point in curve}) > 1 and len({point.classes for point in curve}) == 1
    return slimmed and record.epochs is not None and record.steps == record.epochs * len(curve)


def _result(record: ReadRecord) -> _Figures:
    return record.accuracy, record.test_loss, record.train_loss


def _reruns(lines: Sequence[Line], out: Findings) -> None:
    """Several lines of one trial, made by the same code on the same kind of machine, must agree."""
    again: dict[tuple[Hashable, ...], list[Line]] = defaultdict(list)
    times = Counter(line.record.id for line in lines)
    if len(times) == len(lines):
        return
    origins = used_origins([line.record for line in lines])
    for line, made_by in zip(lines, origins, strict=True):
        if line.record.status == "ok" and times[line.record.id] > 1:
            machine = line.record.environment
            again[line.record.id, tuple(sorted(made_by.items(), key=str)), tuple(sorted(machine.items()))].append(line)
    for group in again.values():
        if len({_result(line.record) for line in group}) > 1:
            seen = ", ".join(f"{line.record.accuracy:.4f}" for line in group)
            out.add(
                "rerun-differs",
                group,
                f"{group[0].trial}: one trial, {len(group)} results ({seen}) by the same code on the same kind of "
                "machine. The best of several runs is no result; condensebench verify says which one it is",
            )
