"""The verb `labels`: which labels, which compressors and budgets, and the tables that come of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import Progress

from bench.errors import UserError
from bench.plugins.registry import Registry
from bench.plugins.spec import Spec, parse
from bench.reports.printing import COMPRESSOR_WIDTH, MISSING, duration, grid, listed, raw, size, titled, wrapped
from bench.studies.label_sets.quality import Quality, Report, qualities, teacher_quality
from bench.studies.label_sets.sources import LabelSet
from bench.trials.budget import Budget

BUDGETS = ("10x", "30x", "100x")
CORES = (1, 16)  # of the projection


def labels_report(
    registry: Registry,
    labels: LabelSet,
    *,
    compressors: Sequence[str],
    budgets: Sequence[str],
    set_size: int | None,
    project: int | None,
    format: str,
) -> tuple[str, int]:
    """Measure and print. Returns the text and the exit code: 1 if a compressor failed.

    Args:
        registry: of the compressors.
        labels: read once.
        compressors: specs; none: every compressor that there is.
        budgets: none: 10x, 30x and 100x.
        set_size: see bench.studies.label_sets.quality.qualities.
        project: images of a set whose bytes and times are told as well, in proportion; None: no projection.
        format: text, md, csv (the compressors alone) or json.
    """
    asked = list(combinations(registry, compressors, budgets))
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("encoding and comparing", total=len(asked) * len(labels.sizes))
        report = qualities(labels, asked, set_size=set_size, on_step=lambda: progress.advance(task))
    failed = any(quality.status == "failed" for quality in report.qualities)
    if (reference := teacher_quality(labels, set_size or labels.shape[0])) is not None:
        report.qualities.append(reference)
    return _rendered(labels, report, set_size, project, format), int(failed)


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
    told: dict[str, Any] = {
        "compressor": quality.compressor,
        "budget": quality.budget,
        "bytes": growing + shared + sizes["views"],
    }
    for cores in CORES:
        told[f"encode_seconds_{cores}"] = fitted + (quality.encode_ms or 0) / 1e3 * images / cores
        told[f"decode_seconds_{cores}"] = (quality.decode_ms or 0) / 1e3 * images / cores
    return told


def label_seconds(labels: LabelSet, images: int) -> float | None:
    """What making the logits of `images` images would take, see LabelSet.label_seconds; None if that is unknown."""
    return None if labels.label_seconds is None else labels.label_seconds * images / labels.shape[0]


def _rendered(labels: LabelSet, report: Report, set_size: int | None, project: int | None, format: str) -> str:
    of = set_size or labels.shape[0]
    measured = [quality for quality in report.qualities if quality.status == "ok"]
    projected = [projection(quality, project, of) for quality in measured] if project else []
    if format == "json":
        everything = {
            "labels": {"name": labels.name, "shape": labels.shape, "counted_as": of, "seconds": labels.label_seconds},
            "qualities": [asdict(quality) for quality in report.qualities],
            "spectrum": {"images": report.spectrum.images, "of": report.spectrum.rows()},
            "projection": {"images": project, "label_seconds": label_seconds(labels, project), "of": projected}
            if project
            else None,
        }
        return json.dumps(everything, indent=1, ensure_ascii=False, allow_nan=False)
    frame = pd.DataFrame([_flat(quality) for quality in report.qualities])
    whole = [name for name in frame if "bytes" in str(name) or "invalid" in str(name)]
    frame = frame.astype(dict.fromkeys(whole, "Int64"))  # missing ones would make them floats
    if (text := raw(frame, format)) is not None:
        return text.rstrip("\n")
    n, k, c = labels.shape
    heading = f"{labels.name}: {n:,} images x {k:,} views x {c:,} classes"
    parts = [titled(heading, _qualities(report, of, format), "", format), listed(_notes(labels, report, of), format)]
    parts.append(_spectrum(report, format))
    if project:
        parts.append(_projection(labels, projected, project, format))
    return "\n\n".join(parts)


def _flat(quality: Quality) -> dict[str, Any]:
    values = asdict(quality)
    sizes = values.pop("bytes")
    return values | {f"bytes_{name}": sizes.get(name) for name in ("total", "payload", "shared", "views", "container")}


def _qualities(report: Report, of: int, format: str) -> str:
    headers = [
        "compressor", "budget", "B / image", "ratio", "KL, T=20", "KL, T=1", "top-1 %", "views", "encode", "decode",
        "payload", "shared", "params", "container",
    ]  # fmt: skip
    groups: dict[str | None, list[list[str]]] = {}
    for quality in report.qualities:
        group = quality.status if quality.status == "outside" else quality.budget
        groups.setdefault(group, []).append(_line(quality, of, format))
    return grid(groups.values(), headers, {"compressor", "budget"}, format)


def _line(quality: Quality, of: int, format: str) -> list[str]:
    name = wrapped(quality.compressor, COMPRESSOR_WIDTH + 6) if format == "text" else quality.compressor
    if quality.status not in ("ok", "outside"):
        least = quality.smallest_bytes
        why = quality.status if least is None else f"> {least / of:,.0f}"
        return [name, quality.budget or MISSING, why, *[MISSING] * 11]
    sizes = quality.bytes
    measured = [MISSING] * 3
    if quality.kl20 is not None and quality.kl1 is not None and quality.top1 is not None:
        measured = [_small(quality.kl20), _small(quality.kl1), f"{100 * quality.top1:.2f}"]
    return [
        name,
        "outside" if quality.status == "outside" else quality.budget or MISSING,
        f"{sizes['total'] / of:,.0f}",
        f"{quality.ratio:.1f}x",
        *measured,
        f"{quality.stored_views:.4g}",
        *(MISSING if spent is None else f"{spent:.1f} ms" for spent in (quality.encode_ms, quality.decode_ms)),
        *(size(sizes[part], "B") for part in ("payload", "shared", "views", "container")),
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


def _spectrum(report: Report, format: str) -> str:
    rows = report.spectrum.rows()
    headers = list(rows[0])

    def told(name: str, value: Any) -> str:
        if value is None:
            return MISSING
        return value if name == "of" else f"{value:.1f}" if name.startswith("rank") else f"{value:.3g}"

    body = grid([[[told(name, row[name]) for name in headers] for row in rows]], headers, {"of"}, format)
    images = report.spectrum.images
    return titled(
        f"Rank that holds a share of the energy, and singular values ({images} image{'s' if images > 1 else ''})",
        body, "", format,
    )  # fmt: skip


def _projection(labels: LabelSet, projected: list[dict[str, Any]], images: int, format: str) -> str:
    headers = ["compressor", "budget", "bytes"]
    headers += [f"{what}, {cores} core{'s' if cores > 1 else ''}" for cores in CORES for what in ("encode", "decode")]
    lines = [
        [
            told["compressor"],
            told["budget"] or MISSING,
            size(told["bytes"], "B"),
            *(duration(told[f"{what}_seconds_{cores}"]) for cores in CORES for what in ("encode", "decode")),
        ]
        for told in projected
    ]
    seconds = label_seconds(labels, images)
    made = "What making the logits takes was not measured."
    if seconds is not None and labels.device == "cpu":
        made = "Making the logits: " + ", ".join(
            f"{duration(seconds / cores)} on {cores} core{'s' if cores > 1 else ''}" for cores in CORES
        )
    elif seconds is not None:
        made = f"Making the logits: {duration(seconds)} on one GPU like this one"
    return titled(
        f"Extrapolated to {images:,} images, in proportion to what was measured here",
        grid([lines], headers, {"compressor", "budget"}, format), made, format,
    )  # fmt: skip
