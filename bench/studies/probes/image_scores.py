"""The scores behind selections: how they are spread, and which classes the easiest and the hardest images are of.

Rethinking Large-scale Dataset Compression, figures 6 and 7 and table 6: an end of a score that is taken over all
images, not within each class, may leave classes out. No student is trained on such a selection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.artifacts.refs import DatasetRef, Workspace
from bench.errors import PluginError, UserError
from bench.plugins.spec import parse
from bench.reports.printers import printed
from bench.reports.table import Column, Page, Row, Table, by_key, typed
from bench.seeds import numpy_generator
from bench.stages.condense import lent_teacher
from bench.stages.lend import Lending, surviving
from bench.studies.pictures.condensed_sets import SetName
from bench.teachers.teacher_files import TeacherRef, UnusedTeacher

ENDS = ("easy", "hard")
COLUMNS = by_key(
    (
        Column("dataset", "str"),
        Column("method", "str", "score", left=True),
        Column("ipc", "int64"),
        *(
            Column(f"q{share}", "float64", heading, show=lambda value: f"{value:.3g}")
            for share, heading in ((0, "least"), (25, "25 %"), (50, "median"), (75, "75 %"), (100, "most"))
        ),
        Column("end", "str", "end", left=True),
        Column("images", "int64", "images"),
        Column("empty_classes", "int64", "empty classes"),
        Column("fewest", "int64", "fewest"),
        Column("most", "int64", "most of a class"),
    )
)


@dataclass(frozen=True)
class ImageScores:
    """The scores of all images of a training split."""

    name: SetName
    values: np.ndarray  # float64 [N], low is easy
    labels: np.ndarray  # int64 [N]
    classes: int

    def counts(self, end: str) -> np.ndarray:
        """int64 [classes]: of the ipc * classes images at one end of the score, how many are of each class. The lot
        decides between equal scores: images stand class by class, and the first ones would be of few classes."""
        keys = self.values if end == "easy" else -self.values
        lots = numpy_generator("ends", self.name.dataset, self.name.method).permutation(len(keys))
        taken = lots[np.argsort(keys[lots], kind="stable")[: self.name.ipc * self.classes]]
        return np.bincount(self.labels[taken], minlength=self.classes)


def image_scores(ws: Workspace, name: SetName, dataset: DatasetRef, teacher: TeacherRef | UnusedTeacher) -> ImageScores:
    """What a method says of every image, in a process of its own.

    Raises:
        UserError: the method has no scores.
        PluginError: they are not one finite number for each image.
        PluginFailure: the method raised it, or died.
    """
    spec = parse(ws.registry, "method", name.method)
    if "scores" not in spec.plugin.functions:
        known = [each.name for each in ws.registry.all("method") if "scores" in each.functions]
        raise UserError(
            f"method '{name.method}' ranks no images by a score that it tells: it has no function scores(train, ctx, "
            f"*, ...). Methods that have one: {', '.join(known)}."
        )
    lent, normalisation = lent_teacher(ws.registry, teacher, dataset)
    coordinates = ("scores", str(spec), dataset.spec)
    lending = Lending(ws, spec, dataset, lent, normalisation, coordinates)

    def call() -> np.ndarray:
        with lending.process() as process:
            return np.array(process.call("bench.stages.lent:scores"))

    values, train = surviving(call), ws.described(dataset).train
    if values.shape != (len(train),) or values.dtype.kind not in "fiu" or not np.isfinite(values).all():
        raise PluginError(
            f"method '{name.method}': scores(...) must return a finite number for each of the {len(train)} images; it "
            f"returned {values.dtype} of shape {values.shape}."
        )
    return ImageScores(name, values.astype(np.float64), np.array(train.labels), dataset.classes)


def rendered_scores(scored: Sequence[ImageScores], format: str) -> str:
    """A row for each score and end, in a format of bench.reports.printers."""
    rows: list[Row] = []
    for each in scored:
        quantiles = np.quantile(each.values, [0, 0.25, 0.5, 0.75, 1])
        for end in ENDS:
            counts = each.counts(end)
            rows.append(
                {
                    "dataset": each.name.dataset,
                    "method": each.name.method,
                    "ipc": each.name.ipc,
                    **dict(zip((f"q{share}" for share in (0, 25, 50, 75, 100)), quantiles.tolist(), strict=True)),
                    "end": end,
                    "images": int(counts.sum()),
                    "empty_classes": int((counts == 0).sum()),
                    "fewest": int(counts.min()),
                    "most": int(counts.max()),
                }
            )
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["dataset"], row["ipc"]), []).append(row)
    columns = [column for column in COLUMNS.values() if column.heading is not None]
    tables = [Table(columns, [group], title=f"{dataset}, ipc {ipc}") for (dataset, ipc), group in groups.items()]
    notes = [
        "score: low is easy; least to most over all images of the training split.",
        "end: the easiest or the hardest ipc x classes images of all, not within each class, equal scores by lot; of a "
        "class: how many.",
    ]
    return printed(Page(tables, typed(COLUMNS, rows), notes=notes), format)
