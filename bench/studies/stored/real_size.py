"""What a data set takes before it is there: disk by what lies where, and memory of the largest worker, by arithmetic.

Every number follows from the sizes of a data set, the values of a protocol, and constants of the engine. Memory is what
a worker holds above its libraries and the networks; pages of mapped files are the system's and are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bench.artifacts.duplicates import BLOCK_BYTES as COMPARED_BYTES
from bench.artifacts.opened import WHOLE
from bench.artifacts.split_images import IN_MEMORY
from bench.errors import UserError, unknown
from bench.labels.label_file import SHARD_BYTES
from bench.labels.reader import HELD
from bench.photographs.cache_limits import shown
from bench.plugins.registry import Registry
from bench.protocol import definition
from bench.reports.table import Column, Page, Table, by_key, typed
from bench.stages.condense import BLOCK_BYTES
from bench.teachers.ensemble import TEACHER_BATCH
from bench.training.footprint import images_of_a_pass
from bench.training.loop import LABEL_BLOCK_BYTES
from bench.trials.budget import Budget, reference_bytes

IPCS = (1, 10, 50, 100)
FEATURES, VIEWS, EPOCHS = 512, 5, 10  # of ResNet-18; of score; of el2n
PROTOCOL, BUDGET = "standard-soft-v1", "30x"
NAMED = 24 + 8  # bytes of a file's name, as ImageNet names files, and of the place where it ends
STATE = 8 + 8  # its size, the time of its last change
LABELLED = 3 * 8  # its label: of the list, of the source, of the split
HASHED = 32  # its digest
KEPT = NAMED + STATE + LABELLED + HASHED  # of a listed file while its data set is open
LENT = 2 * (NAMED + STATE + 8 + HASHED)  # the split as it is sent to the process of a method: written, then whole
LISTED = KEPT + LENT  # bytes of a listed file; `python -m speed imagenet` holds 1,281,167 of them to it
DRAWN = 800  # bytes of an image while one view of a whole split is drawn (bench/views/parameters.py)
ENCODING = 20  # of a shard of raw labels: what klt makes of its first one; the other compressors take up to 6
DECODING = 6  # of a window of labels: decoded parts, joined, by temperature, logarithms, probabilities, products


@dataclass(frozen=True)
class RealSet:
    """The sizes of a shipped data set, as it is evaluated."""

    train: int
    test: int
    classes: int
    channels: int
    size: int  # pixels
    files: bool = False  # photographs, which are decoded into a cache

    @property
    def image_bytes(self) -> int:
        """Of one image, uint8."""
        return self.channels * self.size**2


SETS = {
    "digits": RealSet(1197, 600, 10, 1, 8),
    "mnist5k": RealSet(4000, 1000, 10, 1, 28),
    "glyphs:classes=100": RealSet(10_000, 2000, 100, 3, 32),
    "mnist": RealSet(60_000, 10_000, 10, 1, 28),
    "fashion-mnist": RealSet(60_000, 10_000, 10, 1, 28),
    "svhn": RealSet(73_257, 26_032, 10, 3, 32),
    "cifar10": RealSet(50_000, 10_000, 10, 3, 32),
    "cifar100": RealSet(50_000, 10_000, 100, 3, 32),
    "tiny-imagenet": RealSet(100_000, 10_000, 200, 3, 64, files=True),
    "imagenette": RealSet(9_469, 3_925, 10, 3, 224, files=True),
    "imagewoof": RealSet(9_025, 3_929, 10, 3, 224, files=True),
    "imagenet-10": RealSet(13_000, 500, 10, 3, 224, files=True),  # at most 1,300 a class
    "imagenet-100": RealSet(130_000, 5_000, 100, 3, 224, files=True),
    "imagenet-1k": RealSet(1_281_167, 50_000, 1000, 3, 224, files=True),
}


@dataclass(frozen=True)
class OfSplit:
    """What is made of a training split, in bytes."""

    decoded: int  # both splits of photographs, in datasets/files
    features: int
    logits: int
    scoring_labels: int  # VIEWS views
    dynamics_scores: int  # EPOCHS epochs
    dynamics: int  # class probabilities, where a method asks for them
    memory: int  # of the worker that makes the largest of them


@dataclass(frozen=True)
class OfSet:
    """What is made of a condensed set, in bytes."""

    images: int  # the condensed set
    raw_labels: int  # raw labels, kept within --keep-labels
    labels: int  # encoded at BUDGET
    condensing: int  # memory of the worker that writes the set
    encoding: int  # memory of a worker that labels and encodes
    student: int  # memory of a student


def of_split(data: RealSet) -> OfSplit:
    """By arithmetic."""
    n = data.train
    batch = _pass_bytes(data)
    reading = 4 * data.image_bytes * 1000  # a part that is worked on, two that are read ahead, one that is read
    pixels = min(n * data.image_bytes, IN_MEMORY) + min(data.test * data.image_bytes, WHOLE)
    return OfSplit(
        decoded=(n + data.test) * data.image_bytes if data.files else 0,
        features=4 * n * FEATURES,
        logits=4 * n * data.classes,
        scoring_labels=2 * n * VIEWS * data.classes,
        dynamics_scores=12 * n * EPOCHS,
        dynamics=2 * n * EPOCHS * data.classes,
        memory=batch + reading + pixels + n * (DRAWN + (LISTED if data.files else 0)),
    )


def of_set(data: RealSet, ipc: int, views: int) -> OfSet:
    """By arithmetic. `views`: that a protocol stores of an image."""
    n = data.classes * ipc
    view = 4 * n * data.classes
    window = view * max(1, min(views, LABEL_BLOCK_BYTES // view))
    raw = 2 * n * views * data.classes
    listed = data.train * LISTED if data.files else 0
    return OfSet(
        images=n * data.image_bytes,
        raw_labels=raw,
        labels=Budget.parse(BUDGET).total_bytes(n, views, data.classes),
        condensing=4 * min(BLOCK_BYTES, n * data.image_bytes) + listed,
        encoding=ENCODING * min(SHARD_BYTES, raw) + _pass_bytes(data),
        student=DECODING * window + min(HELD, reference_bytes(n, views, data.classes) // 30) + 8 * COMPARED_BYTES,
    )


def _pass_bytes(data: RealSet) -> int:
    """Of the float images that go through a teacher together on a processor, and of what they are rendered from."""
    whole = torch.empty(TEACHER_BATCH, data.channels, data.size, data.size, device="meta")
    return 3 * 4 * data.image_bytes * min(TEACHER_BATCH, images_of_a_pass(whole, "cpu"))


SPLIT_COLUMNS = (
    Column("dataset", heading="data set", left=True),
    *(
        Column(key, "Int64", heading, lambda value: shown(int(value)) if value else "-")
        for key, heading in (
            ("decoded", "decoded photographs"), ("features", "features"), ("logits", "logits"),
            ("scoring_labels", "soft labels"), ("dynamics_scores", "dynamics' scores"),
            ("dynamics", "dynamics, on demand"), ("memory", "memory"),
        )
    ),
)  # fmt: skip
SET_COLUMNS = (
    Column("dataset", heading="data set", left=True),
    Column("ipc", "Int64", "ipc"),
    *(
        Column(key, "Int64", heading, lambda value: shown(int(value)))
        for key, heading in (
            ("images", "condensed set"), ("raw_labels", "raw labels"), ("labels", f"labels at {BUDGET}"),
            ("condensing", "memory: condense"), ("encoding", "memory: encode"), ("student", "memory: student"),
        )
    ),
)  # fmt: skip


def expected(registry: Registry, names: Sequence[str] = ()) -> Page:
    """What data sets take under PROTOCOL, as two tables; without names, all shipped ones. Raises UserError."""
    for name in names:
        if name not in SETS:
            raise UserError(unknown("data set", name, SETS))
    chosen = list(names) or list(SETS)
    fixed = definition.load(registry, PROTOCOL)
    splits = [{"dataset": name, **vars(of_split(SETS[name]))} for name in chosen]
    sets = []
    for name in chosen:
        for ipc in IPCS:
            recipe = fixed.recipe(dataset=name, ipc=ipc, student=fixed.student(name), classes=SETS[name].classes)
            sets.append({"dataset": name, "ipc": ipc, **vars(of_set(SETS[name], ipc, recipe.views))})
    tables = [
        Table(SPLIT_COLUMNS, [splits], "Made of a training split, once"),
        Table(SET_COLUMNS, [sets], f"Made of a condensed set, {PROTOCOL}"),
    ]
    return Page(tables, typed(by_key(SET_COLUMNS), sets), document={"splits": splits, "sets": sets})
