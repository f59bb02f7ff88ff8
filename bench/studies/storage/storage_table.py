"""The verb `storage`: published figures explained, label sets in every layout, what "30x" means to whom, and what the
teacher itself would take."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from bench.errors import UserError
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
    here = Budget(ratio=nominal).total_bytes(n, k, c)
    reference = reference_bytes(n, k, c)
    raw = stored(LAYOUTS["raw"], images=n, views=k, classes=c, dtype="fp32").total
    kept = LPLD_KEEPS.get(nominal, 1 / nominal)
    lpld = stored(LAYOUTS["sre2l"], images=n, views=k, classes=c, batch=setting.batch, share=kept).total
    rule = f"keeps {100 * kept:g} % of the batches (fp16, 25 B a row, containers)"
    rows: list[dict[str, Any]] = [
        {"by": "SCORE", "rule": "fp32 values / factor, no augmentation parameters", "bytes": round(raw / nominal)},
        {"by": "LPLD", "rule": rule, "bytes": lpld},
        {"by": "this project", "rule": "(fp16 logits + 25 B a row) / factor, true bytes", "bytes": here},
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
    """All four as text, md or json.

    Raises:
        UserError: the factor is no number.
    """
    if not math.isfinite(nominal):
        raise UserError(f"--factor {nominal}: must be a number from 1 on. Type for instance --factor 30.")
    tables = {
        "published": published(),
        "layouts": layouts(setting),
        "meanings": meanings(setting, nominal),
        "teachers": teachers(setting),
    }
    if format_ == "json":
        return json.dumps({"setting": setting.__dict__, "nominal": nominal, **tables}, indent=1)
    style = "github" if format_ == "md" else "simple"
    shape = f"{setting.images:,} images x {setting.views} views x {setting.classes:,} classes"
    parts = [
        "Published figures, and the formula that gives each",
        _table(
            [
                [r["source"], r["figure"], r["printed"], r["gives"], f"{100 * r['off']:+.1f} %", r["formula"],
                 r["remark"]]
                for r in tables["published"]
            ],
            ["source", "figure", "printed", "gives", "off", "formula", "remark"],
            style,
        ),
        f"{shape}: bytes in every layout (values {setting.dtype}, batch {setting.batch}, k {setting.kept})",
        _table(
            [
                [r["layout"], _size(r["total"]), _size(r["payload"]), _size(r["metadata"]), _size(r["container"]),
                 f"{r['files']:,}", _size(r["on_disk"]), r["source"]]
                for r in tables["layouts"]
            ],
            ["layout", "total", "values", "metadata", "container", "files", "in 4 KiB blocks", "source"],
            style,
        ),
        f'"{nominal:g}x" on {shape}',
        _table(
            [
                [r["by"], _size(r["bytes"]), f"{r['per image']:,.0f} B", f"{r['true factor']:.1f}x", r["rule"]]
                if r["bytes"] is not None
                else [r["by"], *["-"] * 3, r["rule"]]
                for r in tables["meanings"]
            ],
            ["by", "bytes", "per image", "in this project's terms", "rule"],
            style,
        ),
        f"Instead of labels, the teacher in float16; {OUTSIDE}",
        _table(
            [
                [r["teacher"], _size(r["bytes"]), f"{r['per image']:,.0f} B", f"{r['true factor']:,.1f}x"]
                for r in tables["teachers"]
            ],
            ["teacher", "bytes", "per image", "in this project's terms"],
            style,
        ),
    ]  # fmt: skip
    return "\n\n".join(parts)


def _table(rows: list[list[str]], headers: list[str], style: str) -> str:
    numeric = {"printed", "gives", "off", "bytes", "total", "values", "metadata", "container", "files", "per image",
               "in 4 KiB blocks", "in this project's terms"}  # fmt: skip
    align = ["right" if name in numeric else "left" for name in headers]
    return tabulate(rows, headers=headers, tablefmt=style, disable_numparse=True, colalign=align)


def _size(size: int) -> str:
    """Decimal: 1 GB = 10^9 B."""
    for prefix, unit in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if size >= unit:
            return f"{size / unit:.3f} {prefix}B"
    return f"{size} B"
