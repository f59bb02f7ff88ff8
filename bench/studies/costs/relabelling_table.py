"""The table of `condensebench cost --relabelling`: a row for each label set, with the shares of its stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.reports.printers import printed
from bench.reports.quantities import METHOD_WIDTH, duration, percent, size
from bench.reports.table import Column, Page, Row, Table, by_key, typed
from bench.studies.costs.relabelling import STAGES, Profile


@dataclass(frozen=True)
class LabelledSet:
    """What a label set is made of."""

    dataset: str
    protocol: str
    method: str
    ipc: int


def _share(stage: str) -> Callable[[Row], str]:
    return lambda row: percent(row[f"{stage}_seconds"] / row["seconds"])


COLUMNS = by_key(
    (
        Column("dataset", "str"),
        Column("protocol", "str", "protocol", left=True),
        Column("method", "str", "method", left=True, width=METHOD_WIDTH),
        Column("ipc", "int64"),
        Column("images", "int64", "images"),
        Column("views", "int64", "views"),
        Column("classes", "int64"),
        Column("teachers", "int64", "teachers"),
        Column("seconds", "float64", "time", duration),
        *(Column(f"{stage}_seconds", "float64", f"{stage} %", show_row=_share(stage)) for stage in STAGES),
        Column("labels_per_second", "float64", "labels/s", lambda value: size(value, "")),
        Column("label_bytes", "int64", "stored", lambda value: size(value, "B")),
        Column("device", "str"),
    )
)
NOTES = (
    "reading: the images, from their file to the device; augmentation: rendering the views; teacher: the answers of "
    "all teachers; storing: float16 logits, written to the store's disk; other: drawing views, joining answers, half "
    "precision. Shares of the time by the clock on the wall, measured once, after one batch that is not counted.",
    "On a GPU every stage is waited for: nothing overlaps, and a run may be faster. Compressors are not part of it: "
    "condensebench labels times them.",
)


def rendered_profiles(profiles: Mapping[LabelledSet, Profile], format: str) -> str:
    """The table in a format of bench.reports.printers. Raises UserError for a format that there is not."""
    rows: list[Row] = [_row(name, profile) for name, profile in profiles.items()]
    tables: dict[str, list[Row]] = {}
    for row in rows:
        tables.setdefault(f"{row['dataset']}, ipc {row['ipc']}, on {row['device']}", []).append(row)
    shown = [column for column in COLUMNS.values() if column.heading is not None]
    parts = [Table(shown, [group], title=heading) for heading, group in tables.items()]
    page = Page(parts, typed(COLUMNS, rows), notes=NOTES, title="Where the time of relabelling goes")
    return printed(page, format).removesuffix("\n")


def _row(name: LabelledSet, profile: Profile) -> Row:
    return {
        "dataset": name.dataset,
        "protocol": name.protocol,
        "method": name.method,
        "ipc": name.ipc,
        "images": profile.images,
        "views": profile.views,
        "classes": profile.classes,
        "teachers": profile.teachers,
        "seconds": profile.total,
        **{f"{stage}_seconds": profile.seconds[stage] for stage in STAGES},
        "labels_per_second": profile.images * profile.views / profile.total,
        "label_bytes": profile.label_bytes,
        "device": profile.device,
    }
