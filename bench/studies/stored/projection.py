"""What ImageNet-1K at full size takes: time, disk and memory of each stage, from units that were measured or assumed.

The sum is no promise. It says which stage decides, and what changes with the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.photographs.cache_limits import shown
from bench.plugins.registry import Registry
from bench.protocol import definition
from bench.reports.table import Column, Page, Table, by_key, typed
from bench.studies.stored.real_size import FEATURES, LISTED, PROTOCOL, SETS, VIEWS, of_set, of_split

DATASET, REPLICATES = "imagenet-1k", 3


@dataclass(frozen=True)
class Unit:
    """Seconds that one thing takes, and where the figure is from."""

    seconds: float
    of: str
    origin: str  # measured, published or assumed, and where


# One core of the machines that this project is measured on; a GPU of the kind of an A100.
CORE = {
    "hash": Unit(0.55e-3, "a file listed and hashed", "measured: speed data, 5,000 photographs"),
    "decode": Unit(4.3e-3, "a photograph decoded, resized and cut", "measured: Pillow, one core, 393 photographs"),
    "count": Unit(3.0e-3, "an image counted as PNG", "measured: photographs of 224 px"),
    "forward": Unit(78e-3, "an image through ResNet-18, 224 px", "measured: one core"),
    "step": Unit(330e-3, "an image of a training step, ResNet-18, 224 px", "measured: one core, views included"),
    "greedy": Unit(11.2, "score's greedy over the split, ipc 10", "measured: speed score"),
    "rpca": Unit(366e-3, "an image encoded by rpca, 300 x 1000", "measured: speed decompositions, mixed precision"),
    "klt": Unit(73.6e-3, "an image encoded by klt, 300 x 1000", "measured: speed klt"),
    "rpca decode": Unit(
        5e-3, "an image decoded by rpca, 300 views", "assumed: ten times the measured one of 100 classes"
    ),
    "klt decode": Unit(13.3e-3, "an image decoded by klt, 300 views", "measured: speed klt"),
}
GPU = {
    "forward": Unit(1 / 4000, "an image through ResNet-18, 224 px", "assumed: 4,000 images a second in float32"),
    "step": Unit(
        1 / 1500, "an image of a training step, ResNet-18, 224 px", "assumed: 1,500 images a second in float32"
    ),
}


@dataclass(frozen=True)
class Machine:
    """What a run has."""

    name: str
    cores: int
    gpus: int

    def forward(self, images: float) -> float:
        """Seconds that images take through a network, on all there is."""
        return images * (GPU["forward"].seconds / self.gpus if self.gpus else CORE["forward"].seconds / self.cores)

    def students(self, images: float, each: int) -> float:
        """Seconds that so many students take, which each see so many images; a student has one GPU, or one core."""
        at_once = min(each, self.gpus or self.cores)
        step = GPU["step"].seconds if self.gpus else CORE["step"].seconds
        return images * step * -(-each // at_once)


MACHINES = (Machine("1 GPU, 16 cores", 16, 1), Machine("8 GPUs, 64 cores", 64, 8), Machine("16 cores", 16, 0))
CELLS = (("random", "rpca"), ("score", "klt"))
IPCS = (10, 50)


@dataclass(frozen=True)
class Stage:
    """What one stage takes on one machine."""

    name: str
    seconds: float
    disk: int  # bytes that it leaves in the store
    memory: int  # bytes of its largest worker


def stages(machine: Machine, method: str, compressor: str, ipc: int, views: int, epochs: int) -> list[Stage]:
    """The stages of a cell with REPLICATES students, in order. `random` draws a set for each replicate."""
    data = SETS[DATASET]
    split, made = of_split(data), of_set(data, ipc, views)
    images, files = data.classes * ipc, data.train + data.test
    sets = REPLICATES if method == "random" else 1
    cores = machine.cores
    decoded = sets * images + data.test if method == "random" else files
    out = [
        Stage("describe: hash the files", files * CORE["hash"].seconds / cores, 0, LISTED * files),
        Stage(
            "decode",
            decoded * CORE["decode"].seconds / cores,
            (files if method == "score" else data.test) * data.image_bytes,
            0,
        ),
    ]
    if method == "score":
        out += [
            Stage("features", machine.forward(data.train), split.features, split.memory),
            Stage(
                f"soft labels, {VIEWS} views", machine.forward(VIEWS * data.train), split.scoring_labels, split.memory
            ),
            Stage("greedy selection", CORE["greedy"].seconds * ipc / 10, 0, 4 * data.train * FEATURES),
        ]
    decode_seconds = CORE[f"{compressor} decode"].seconds * images
    return [
        *out,
        Stage("condensed sets", sets * images * CORE["count"].seconds, sets * made.images, made.condensing),
        Stage("raw labels", machine.forward(sets * images * views), sets * made.raw_labels, made.encoding),
        Stage(
            f"encode: {compressor}", sets * images * CORE[compressor].seconds / cores, sets * made.labels, made.encoding
        ),
        Stage(
            f"{REPLICATES} students", machine.students(images * epochs, REPLICATES) + decode_seconds, 0, made.student
        ),
        Stage("test", machine.forward(REPLICATES * data.test), 0, made.student),
    ]


COLUMNS = (
    Column("stage", heading="stage", left=True),
    *(Column(each.name, "Float64", each.name, lambda value: duration(value)) for each in MACHINES),
    Column("disk", "Int64", "disk", lambda value: shown(int(value)) if value else "-"),
    Column("memory", "Int64", "memory of a worker", lambda value: shown(int(value)) if value else "-"),
)
UNITS = (
    Column("where", heading="where", left=True),
    Column("of", heading="what", left=True),
    Column("seconds", "Float64", "takes", lambda value: small(value)),
    Column("origin", heading="from", left=True),
)


def projection(registry: Registry) -> Page:
    """A table for each cell and ipc, and one of the units. Raises UserError where the protocol is not there."""
    fixed = definition.load(registry, PROTOCOL)
    tables, everything = list[Table](), list[dict[str, Any]]()
    for method, compressor in CELLS:
        for ipc in IPCS:
            recipe = fixed.recipe(
                dataset=DATASET, ipc=ipc, student=fixed.student(DATASET), classes=SETS[DATASET].classes
            )
            columns = [stages(each, method, compressor, ipc, recipe.views, recipe.epochs) for each in MACHINES]
            rows: list[dict[str, Any]] = [
                {
                    "stage": first.name,
                    **{machine.name: column[at].seconds for machine, column in zip(MACHINES, columns, strict=True)},
                    "disk": first.disk,
                    "memory": first.memory,
                }
                for at, first in enumerate(columns[0])
            ]
            total = {machine.name: sum(row[machine.name] for row in rows) for machine in MACHINES}
            last = {
                "stage": "all",
                **total,
                "disk": sum(stage.disk for stage in columns[0]),
                "memory": max(stage.memory for stage in columns[0]),
            }
            title = f"{method} and {compressor} at 30x, ipc {ipc}, {REPLICATES} students, {PROTOCOL}"
            tables.append(Table(COLUMNS, [rows, [last]], title))
            everything += [{"cell": title, **row} for row in (*rows, last)]
    units = [
        {"where": place, **vars(each)} for place, known in (("a core", CORE), ("a GPU", GPU)) for each in known.values()
    ]
    tables.append(Table(UNITS, [units], "Units"))
    frame = typed(by_key((Column("cell"), *COLUMNS)), everything)
    return Page(tables, frame, document={"cells": everything, "units": units})


def duration(seconds: float) -> str:
    """A time as it is told: 3.2 days, 5 h 20 min, 12 min, 8 s."""
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.1f} days"
    if seconds >= 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"


def small(seconds: float) -> str:
    """A time of one thing: 0.25 ms, 11.2 s."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
