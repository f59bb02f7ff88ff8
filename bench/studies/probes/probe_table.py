"""The table of `condensebench probe`: a row for each condensed set and observer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.reports.printers import printed
from bench.reports.table import Column, Page, Row, Table, by_key, typed
from bench.studies.pictures.condensed_sets import SetName
from bench.studies.probes.observed import LANCZOS, SIGNS, TRAINING_IMAGES, Crops, Observer, Seen, Shape

COLUMNS = by_key(
    (
        Column("dataset", "str"),
        Column("ipc", "int64"),
        Column("method", "str", "method", left=True),
        Column("replicate", "int64"),
        Column("observer", "str", "observer", left=True),
        Column("network", "str"),
        Column("images", "int64"),
        Column("crop_scale", "float64"),
        Column("crops", "int64"),
        Column("entropy", "float64", "entropy", show=lambda value: f"{value:.3f}"),
        Column("entropy_std", "float64", "std", show=lambda value: f"{value:.3f}"),
        Column("nll", "float64", "NLL", show=lambda value: f"{value:.3f}"),
        Column("nll_std", "float64", "std", show=lambda value: f"{value:.3f}"),
        Column("top1", "float64", "top-1 %", show=lambda value: f"{100 * value:.1f}"),
        Column("loss", "float64", "loss", show=lambda value: f"{value:.3f}"),
        Column("gradient", "float64", "|gradient|", show=lambda value: f"{value:.3g}"),
        Column("cosine", "float64", "cosine", show=lambda value: f"{value:.3f}"),
        Column("hessian_largest", "float64", "|H|_2", show=lambda value: f"{abs(value):.3g}"),
        Column(
            "hessian_frobenius",
            "float64",
            "|H|_F",
            show_row=lambda row: (
                "-"
                if math.isnan(row["hessian_frobenius"])
                else f"{row['hessian_frobenius']:.3g} ± {row['hessian_error']:.1g}"
            ),
        ),
        Column("hessian_error", "float64"),
    )
)
_OF_SHAPE = ("loss", "gradient", "cosine", "hessian_largest", "hessian_frobenius")


@dataclass(frozen=True)
class Probe:
    """What one observer sees in one condensed set."""

    name: SetName
    replicate: int
    observer: Observer
    crops: Crops
    seen: Seen
    shape: Shape | None  # None where it was not asked for

    @property
    def label(self) -> str:
        """The set, for figures."""
        return f"{self.name.method}, ipc {self.name.ipc}"


def row(probe: Probe) -> dict[str, Any]:
    """The raw values of a row."""
    seen, shape = probe.seen, probe.shape
    values: dict[str, Any] = {
        "dataset": probe.name.dataset,
        "ipc": probe.name.ipc,
        "method": probe.name.method,
        "replicate": probe.replicate,
        "observer": probe.observer.recipe,
        "network": probe.observer.ref.network,
        "images": len(seen.nll),
        "crop_scale": probe.crops.scale,
        "crops": probe.crops.count,
        "entropy": float(seen.entropy.mean()),
        "entropy_std": float(seen.entropy.std()),
        "nll": float(seen.nll.mean()),
        "nll_std": float(seen.nll.std()),
        "top1": float(seen.right.mean()),
        **dict.fromkeys((*_OF_SHAPE, "hessian_error"), math.nan),
    }
    if shape is not None:
        values |= {"loss": shape.loss, "gradient": shape.gradient, "cosine": shape.cosine}
        values |= {"hessian_largest": shape.largest, "hessian_frobenius": shape.frobenius.value}
        values |= {"hessian_error": shape.frobenius.error}
    return values


def rendered(probes: Sequence[Probe], format: str) -> str:
    """The table in a format of bench.reports.printers. Raises UserError for a format that there is not."""
    rows = [row(each) for each in probes]
    shaped = any(each.shape is not None for each in probes)
    columns = [
        column for column in COLUMNS.values() if column.heading is not None and (shaped or column.key not in _OF_SHAPE)
    ]
    groups: dict[tuple[str, int], list[Row]] = {}
    for each in rows:
        groups.setdefault((each["dataset"], each["ipc"]), []).append(each)
    tables = [Table(columns, [group], title=f"{dataset}, ipc {ipc}") for (dataset, ipc), group in groups.items()]
    return printed(Page(tables, typed(COLUMNS, rows), notes=list(_notes(probes, shaped))), format)


def _notes(probes: Sequence[Probe], shaped: bool) -> list[str]:
    crops = probes[0].crops
    how = "whole images" if crops.scale == 1 else f"the mean over {crops.count} crops of {crops.scale:g} of the area on"
    notes = [
        f"entropy of the predicted classes and NLL of the labels, in nats: mean and std over the images, {how}.",
        "observer: a network that learnt the training split, and nothing of the set.",
    ]
    if shaped:
        notes += [
            "loss: the observer's cross-entropy on the set, at the observer's weights; gradient and Hessian H are its.",
            f"cosine: of the gradients on the set and on {TRAINING_IMAGES:,} images of the training split.",
            f"|H|_2: by {LANCZOS} Lanczos steps; |H|_F: from {SIGNS} vectors of random signs, ± standard error.",
        ]
    return notes
