"""Compressors and budgets measured on a label set, and the tables that come of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

import pandas as pd

from bench.driver.outcome import ignore
from bench.errors import UserError
from bench.plugins.registry import Registry
from bench.plugins.spec import Spec, parse
from bench.reports.printers import printed
from bench.reports.quantities import COMPRESSOR_WIDTH, duration, size
from bench.reports.table import Column, Page, Row, Table
from bench.studies.label_sets.label_sources import LabelSet
from bench.studies.label_sets.quality import Quality, Report, qualities, teacher_quality
from bench.trials.budget import Budget

BUDGETS = ("10x", "30x", "100x")
CORES = (1, 16)  # of the projection
Progress = Callable[[int], AbstractContextManager[Callable[[], None]]]


def _silent(steps: int) -> AbstractContextManager[Callable[[], None]]:  # noqa: ARG001
    return nullcontext(ignore)


def labels_report(
    registry: Registry,
    labels: LabelSet,
    *,
    compressors: Sequence[str],
    budgets: Sequence[str],
    set_size: int | None,
    project: int | None,
    format: str,
    progress: Progress = _silent,
) -> tuple[str, bool]:
    """(the tables of what was measured as text, whether a compressor failed).

    Args:
        registry: of the compressors.
        labels: read once.
        compressors: specs; none: every compressor that there is.
        budgets: none: 10x, 30x and 100x.
        set_size: see bench.studies.label_sets.quality.qualities.
        project: images of a set whose bytes and times are told as well, in proportion; None: no projection.
        format: text, md, csv (the compressors alone) or json.
        progress: what surrounds the measurement: called with the number of steps, it gives what each step calls.
    """
    pairs = combinations(registry, compressors, budgets)
    with progress(len(pairs) * len(labels.sizes)) as advance:
        report = qualities(labels, pairs, set_size=set_size, on_step=advance)
    failed = any(quality.status == "failed" for quality in report.qualities)
    if (reference := teacher_quality(labels, set_size or labels.shape[0])) is not None:
        report.qualities.append(reference)
    return printed(_page(labels, report, set_size, project), format).removesuffix("\n"), failed


def combinations(
    registry: Registry, compressors: Sequence[str], budgets: Sequence[str]
) -> list[tuple[Spec, str | None]]:
    """Compressors with their budgets, budget by budget; those whose size is fixed come first. Raises UserError."""
    specs = [parse(registry, "compressor", text) for text in compressors or registry.names("compressor")]
    named = list(dict.fromkeys(str(Budget.parse(text)) for text in budgets or BUDGETS))
    unique = list({str(spec): spec for spec in specs}.values())
    fixed = [spec for spec in unique if not spec.plugin.constants.get("TAKES_BUDGET", True)]
    if budgets and len(fixed) == len(unique):
        raise UserError(f"--budget {named[0]}: none of {', '.join(map(str, fixed))} takes a budget. Leave it out.")
    free = [spec for spec in unique if spec not in fixed]
    return [*((spec, None) for spec in fixed), *((spec, budget) for budget in named for spec in free)]


def projection(quality: Quality, images: int, of: int) -> dict[str, Any]:
    """What `images` images would take, in proportion to what was measured.

    Payload and times grow with the images (`of`: those that `quality` counts bytes for); what is shared, and the time
    of fitting it, stays, or grows too if it was fitted on all images. On several cores the images are divided, as the
    shards of a set are.
    """
    sizes = quality.bytes
    shared, scale = sizes["shared"], images / of
    growing = round((sizes["payload"] + sizes["container"]) * scale)
    fitted = quality.fit_seconds
    if quality.surveyed:
        shared, fitted = round(shared * scale), fitted * scale
    row: dict[str, Any] = {
        "compressor": quality.compressor,
        "budget": quality.budget,
        "bytes": growing + shared + sizes["views"],
    }
    for cores in CORES:
        row[f"encode_seconds_{cores}"] = fitted + (quality.encode_ms or 0) / 1e3 * images / cores
        row[f"decode_seconds_{cores}"] = (quality.decode_ms or 0) / 1e3 * images / cores
    return row


def label_seconds(labels: LabelSet, images: int) -> float | None:
    """What making the logits of `images` images would take, see LabelSet.label_seconds; None if that is unknown."""
    return None if labels.label_seconds is None else labels.label_seconds * images / labels.shape[0]


def _page(labels: LabelSet, report: Report, set_size: int | None, project: int | None) -> Page:
    of = set_size or labels.shape[0]
    measured = [quality for quality in report.qualities if quality.status == "ok"]
    projected = [projection(quality, project, of) for quality in measured] if project else []
    frame = pd.DataFrame([_row(quality) for quality in report.qualities])
    whole = [name for name in frame if "bytes" in str(name) or "invalid" in str(name)]
    frame = frame.astype(dict.fromkeys(whole, "Int64"))  # missing ones would make them floats
    tables = [_qualities(labels, report, of), _spectrum(report)]
    document: dict[str, Any] = {
        "labels": {"name": labels.name, "shape": labels.shape, "counted_as": of, "seconds": labels.label_seconds},
        "qualities": [asdict(quality) for quality in report.qualities],
        "spectrum": {"images": report.spectrum.images, "of": report.spectrum.rows()},
        "projection": None,
    }
    if project:
        tables.append(_projection(labels, projected, project))
        document["projection"] = {
            "images": project,
            "label_seconds": label_seconds(labels, project),
            "of": projected,
        }
    return Page(tables, frame, document=document)


def _row(quality: Quality) -> dict[str, Any]:
    values = asdict(quality)
    sizes = values.pop("bytes")
    return values | {f"bytes_{name}": sizes.get(name) for name in ("total", "payload", "shared", "views", "container")}


def _qualities(labels: LabelSet, report: Report, of: int) -> Table:
    n, k, c = labels.shape
    groups: dict[str | None, list[Row]] = {}
    for quality in report.qualities:
        row = _row(quality)
        if quality.status == "outside":
            row["budget"] = quality.status
        elif quality.status != "ok":  # what was measured before it failed stands for nothing
            kept = ("compressor", "budget", "status", "smallest_bytes")
            row = {key: value if key in kept else None for key, value in row.items()}
        groups.setdefault(row["budget"], []).append(row)
    return Table(
        _columns(of),
        list(groups.values()),
        title=f"{labels.name}: {n:,} images x {k:,} views x {c:,} classes",
        notes=_notes(labels, report, of),
    )


def _columns(of: int) -> list[Column]:
    """Of a table that counts the bytes of so many images."""

    def an_image(row: Row) -> str:
        if row["status"] in ("ok", "outside"):
            return f"{row['bytes_total'] / of:,.0f}"
        least = row["smallest_bytes"]
        return row["status"] if least is None else f"> {least / of:,.0f}"

    def milliseconds(value: float) -> str:
        return f"{value:.1f} ms"

    parts = {"payload": "payload", "shared": "shared", "views": "params", "container": "container"}
    return [
        Column("compressor", heading="compressor", left=True, width=COMPRESSOR_WIDTH + 6),
        Column("budget", heading="budget", left=True),
        Column("bytes_total", heading="B / image", show_row=an_image),
        Column("ratio", heading="ratio", show="{:.1f}x".format),
        Column("kl20", heading="KL, T=20", show=_small),
        Column("kl1", heading="KL, T=1", show=_small),
        Column("top1", heading="top-1", unit="%", show=lambda value: f"{100 * value:.2f}"),
        Column("stored_views", heading="views", show="{:.4g}".format),
        Column("encode_ms", heading="encode", show=milliseconds),
        Column("decode_ms", heading="decode", show=milliseconds),
        *(Column(f"bytes_{part}", heading=name, show=lambda value: size(value, "B")) for part, name in parts.items()),
    ]


def _small(value: float) -> str:
    """Four decimals, or two digits where they would not show; large ones with five digits."""
    if value >= 10:
        return f"{value:.5g}"
    return f"{value:.4f}" if value >= 1e-4 or value == 0 else f"{value:.1e}"


def _notes(labels: LabelSet, report: Report, of: int) -> list[str]:
    n = labels.shape[0]
    notes = [
        "KL: T^2 KL(labels || decoded labels), and top-1 agreement: means over images and over the views that are "
        "stored. Where not all are, a student sees the others' share of its epochs with stored ones instead.",
        "Bytes are those of the label file: payload, what all images share, parameters that replay the views, "
        "container. Ratio: fp16 logits and 25 B a view over these bytes.",
        "Encode, decode: core time for an image with all its views.",
    ]
    if of > n:
        notes.append(f"Counted as a part of {of:,} images: bytes are those of such a set, in proportion.")
        notes += _fitted(report)
    if not labels.views:
        notes.append("The parameters of the views are not in the file and not counted.")
    for quality in report.qualities:
        place = f"{quality.compressor}{f' at {quality.budget}' if quality.budget else ''}"
        if quality.status == "infeasible":
            notes.append(f"{place}: infeasible, the smallest size is {quality.smallest_bytes:,} B ({quality.message}).")
        elif quality.status == "failed":
            notes.append(f"{place}: failed. {quality.message}")
        elif quality.status == "outside":
            notes.append(
                f"{quality.compressor}: no compressor but a reference, {quality.message}. Its labels are exact up to "
                f"the rounding of the weights."
            )
        elif quality.invalid_values or quality.invalid_rows:
            notes.append(_invalid(place, quality, labels.shape))
    return notes


def _fitted(report: Report) -> Iterator[str]:
    ways = {
        True: "fitted on some of the images and measured on the others, in turns. A set of that size has more to "
        "fit it on.",
        False: "fitted on the one image that is measured: on images that it has not seen it does less well.",
    }
    for unseen, way in ways.items():
        names = dict.fromkeys(quality.compressor for quality in report.qualities if quality.unseen is unseen)
        if names:
            yield f"{', '.join(names)}: what all images share was {way}"


def _invalid(place: str, quality: Quality, shape: tuple[int, int, int]) -> str:
    n, k, c = shape
    values, rows = quality.invalid_values or 0, quality.invalid_rows or 0
    return (
        f"{place}: of the probabilities that it approximates, {values:,} ({values / (n * k * c):.2%}) came out "
        f"negative, and {rows:,} rows ({rows / (n * k):.2%}) did not sum to one. What is below a floor is raised to "
        f"it, and every row divided by its sum."
    )


def _spectrum(report: Report) -> Table:
    rows = report.spectrum.rows()

    def column(name: str) -> Column:
        if name == "of":
            return Column(name, heading=name, left=True)
        return Column(name, heading=name, show=("{:.1f}" if name.startswith("rank") else "{:.3g}").format)

    images = report.spectrum.images
    title = f"Rank that holds a share of the energy, and singular values ({images} image{'s' if images > 1 else ''})"
    return Table([column(name) for name in rows[0]], [rows], title=title)


def _projection(labels: LabelSet, projected: list[dict[str, Any]], images: int) -> Table:
    columns = [
        Column("compressor", heading="compressor", left=True),
        Column("budget", heading="budget", left=True),
        Column("bytes", heading="bytes", show=lambda value: size(value, "B")),
        *(
            Column(f"{what}_seconds_{cores}", heading=f"{what}, {_cores(cores)}", show=duration)
            for cores in CORES
            for what in ("encode", "decode")
        ),
    ]
    seconds = label_seconds(labels, images)
    making = "What making the logits takes was not measured."
    if seconds is not None and labels.device == "cpu":
        times = (f"{duration(seconds / cores)} on {_cores(cores)}" for cores in CORES)
        making = f"Making the logits: {', '.join(times)}"
    elif seconds is not None:
        making = f"Making the logits: {duration(seconds)} on one GPU like this one"
    title = f"Extrapolated to {images:,} images, in proportion to what was measured here"
    return Table(columns, [projected], title=title, below=making)


def _cores(count: int) -> str:
    return f"{count} core{'s' if count > 1 else ''}"
