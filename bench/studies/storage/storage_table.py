"""The verb `storage`: published figures explained, label sets in every layout, what "30x" means to whom, and what the
teacher itself would take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.errors import UserError
from bench.reports.printers import printed
from bench.reports.table import Column, Page, Row, Table
from bench.studies.storage.formats import LAYOUTS, Dtype, stored
from bench.studies.storage.published_sizes import CLAIMS
from bench.studies.storage.teacher_line import OUTSIDE, known_teachers
from bench.trials.budget import Budget, reference_bytes

LPLD_KEEPS = {10.0: 0.1, 20.0: 0.05, 30.0: 0.03, 40.0: 0.025}  # the share of batches behind each of its names


@dataclass(frozen=True)
class Setting:
    """A label set: N = classes * ipc images, K views each."""

    classes: int = 1000
    ipc: int = 50
    views: int = 300
    dtype: Dtype = "fp16"
    batch: int = 1024
    topk: int = 10

    @property
    def kept(self) -> int:
        """Values of a row where only the largest are stored: k, or all where there are fewer."""
        return min(self.topk, self.classes)

    @property
    def images(self) -> int:
        """N."""
        return self.classes * self.ipc


def published() -> list[dict[str, Any]]:
    """Every published figure with our account of it."""
    return [
        {
            "source": claim.source,
            "figure": claim.what,
            "printed": f"{claim.printed:g} {claim.printed_unit}",
            "formula": claim.formula,
            "gives": f"{claim.computed:.3f} {claim.unit}",
            "off": claim.off,
            "bytes": round(claim.size()),
            "remark": claim.remark,
        }
        for claim in CLAIMS
    ]


def layouts(setting: Setting) -> list[dict[str, Any]]:
    """The label set in every layout, bytes."""
    rows = []
    for layout in LAYOUTS.values():
        size = stored(
            layout,
            images=setting.images,
            views=setting.views,
            classes=setting.classes,
            dtype=setting.dtype,
            batch=setting.batch,
            topk=setting.kept,
        )
        rows.append({"layout": layout.name, "total": size.total, **size.__dict__, "source": layout.source})
    return rows


def meanings(setting: Setting, nominal: float) -> list[dict[str, Any]]:
    """What a nominal "x times smaller" leaves, in bytes, by who says it; None where that is nothing at all."""
    n, k, c = setting.images, setting.views, setting.classes
    budget_bytes = Budget(ratio=nominal).total_bytes(n, k, c)
    reference = reference_bytes(n, k, c)
    raw = stored(LAYOUTS["raw"], images=n, views=k, classes=c, dtype="fp32").total
    kept = LPLD_KEEPS.get(nominal, 1 / nominal)
    lpld = stored(LAYOUTS["sre2l"], images=n, views=k, classes=c, batch=setting.batch, share=kept).total
    rule = f"keeps {100 * kept:g} % of the batches (fp16, 25 B a row, containers)"
    rows: list[dict[str, Any]] = [
        {"by": "SCORE", "rule": "fp32 values / factor, no augmentation parameters", "bytes": round(raw / nominal)},
        {"by": "LPLD", "rule": rule, "bytes": lpld},
        {"by": "this project", "rule": "(fp16 logits + 25 B a row) / factor, true bytes", "bytes": budget_bytes},
    ]
    for row in rows:
        if row["bytes"]:
            row |= {"per image": row["bytes"] / n, "true factor": reference / row["bytes"]}
        else:
            row |= {"bytes": None, "per image": None, "true factor": None}
            row["rule"] += "; here not one " + ("batch" if row["by"] == "LPLD" else "byte")
    return rows


def teachers(setting: Setting) -> list[dict[str, Any]]:
    """What a teacher in float16 takes, shipped in place of the labels of this set: outside the rules."""
    n, k, c = setting.images, setting.views, setting.classes
    reference = reference_bytes(n, k, c)
    return [
        {"teacher": name, "bytes": size, "per image": size / n, "true factor": reference / size, "rules": OUTSIDE}
        for name, size in known_teachers(c)
    ]


def report(setting: Setting, nominal: float, format_: str) -> str:
    """All four in a format of bench.reports.printers; CSV holds the layouts alone.

    Raises:
        UserError: the factor is no number.
    """
    if not math.isfinite(nominal):
        raise UserError(f"--factor {nominal}: must be a number from 1 on. Type for instance --factor 30.")
    shape = f"{setting.images:,} images x {setting.views} views x {setting.classes:,} classes"
    headings = {
        "published": "Published figures, and the formula that gives each",
        "layouts": f"{shape}: bytes in every layout (values {setting.dtype}, batch {setting.batch}, k {setting.kept})",
        "meanings": f'"{nominal:g}x" on {shape}',
        "teachers": f"Instead of labels, the teacher in float16; {OUTSIDE}",
    }
    rows: dict[str, Sequence[Row]] = {
        "published": published(),
        "layouts": layouts(setting),
        "meanings": meanings(setting, nominal),
        "teachers": teachers(setting),
    }
    page = Page(
        [Table(COLUMNS[name], [rows[name]], above=heading) for name, heading in headings.items()],
        pd.DataFrame(rows["layouts"]),
        document={"setting": setting.__dict__, "nominal": nominal, **rows},
    )
    return printed(page, format_).removesuffix("\n")


def _size(size: int) -> str:
    """Decimal: 1 GB = 10^9 B."""
    for prefix, unit in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= unit:
            return f"{size / unit:.3f} {prefix}B"
    return f"{size} B"


_TRUE_FACTOR = "in this project's terms"
_PER_IMAGE = Column("per image", heading="per image", show="{:,.0f} B".format)
COLUMNS = {
    "published": (
        *(Column(name, heading=name, left=True) for name in ("source", "figure")),
        *(Column(name, heading=name) for name in ("printed", "gives")),
        Column("off", heading="off", show=lambda value: f"{100 * value:+.1f} %"),
        *(Column(name, heading=name, left=True) for name in ("formula", "remark")),
    ),
    "layouts": (
        Column("layout", heading="layout", left=True),
        Column("total", heading="total", show=_size),
        Column("payload", heading="values", show=_size),
        Column("metadata", heading="metadata", show=_size),
        Column("container", heading="container", show=_size),
        Column("files", heading="files", show="{:,}".format),
        Column("on_disk", heading="in 4 KiB blocks", show=_size),
        Column("source", heading="source", left=True),
    ),
    "meanings": (
        Column("by", heading="by", left=True),
        Column("bytes", heading="bytes", show=_size),
        _PER_IMAGE,
        Column("true factor", heading=_TRUE_FACTOR, show="{:.1f}x".format),
        Column("rule", heading="rule", left=True),
    ),
    "teachers": (
        Column("teacher", heading="teacher", left=True),
        Column("bytes", heading="bytes", show=_size),
        _PER_IMAGE,
        Column("true factor", heading=_TRUE_FACTOR, show="{:,.1f}x".format),
    ),
}
