"""A plan: grids of names -> trials."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from bench.errors import UserError, unknown
from bench.plugins.registry import Registry
from bench.plugins.spec import named_by_content, parse
from bench.protocol import definition
from bench.protocol.definition import Protocol
from bench.protocol.options import with_teacher
from bench.protocol.own_teacher import add_teacher_file
from bench.protocol.toml_file import read_toml
from bench.texts import cut
from bench.trials.budget import Budget
from bench.trials.trial import Trial

DEFAULT_REPLICATES = 3
MOST_TRIALS = 1_000_000  # of one plan
LARGEST_IPC = 10**9
UNCOMPRESSED = "none"  # the compressor of a soft-label protocol where the plan names none


@dataclass(frozen=True)
class Grid:
    """Every combination of the listed names. Where a protocol stores no teacher's labels (class labels, a
    teacher online, labels of the methods), compressors and budgets do not apply."""

    datasets: Sequence[str] = ()
    protocols: Sequence[str] = ()
    methods: Sequence[str] = ()
    compressors: Sequence[str] = (UNCOMPRESSED,)
    budgets: Sequence[str] = ()
    students: Sequence[str] = ()  # empty: the protocol's own
    teachers: Sequence[str] = ()  # recipes by name or file (.toml); empty: the protocol's own
    ipcs: Sequence[int] = (10,)
    replicates: int = DEFAULT_REPLICATES


@dataclass(frozen=True)
class Plan:
    """Grids, run together."""

    grids: Sequence[Grid] = field(default_factory=list)

    def trials(self, registry: Registry) -> list[Trial]:
        """All trials, each once, in the order of the grids. Raises UserError on any name or value that is not known."""
        grids = [_checked(grid, registry) for grid in self.grids]
        total = sum(grid.count for grid in grids)
        if total > MOST_TRIALS:
            raise UserError(
                f"The plan has {cut(str(total), 60)} trials; at most {MOST_TRIALS:,} are run at once. Name fewer "
                "methods, budgets or replicates, or make several plans of it."
            )
        return list(dict.fromkeys(trial for grid in grids for trial in grid))


def read_plan(path: str | Path) -> Plan:
    """A plan file: one or more [[grid]] tables with the keys of Grid. Raises UserError."""
    path = Path(path)
    if not os.path.isfile(path):
        raise UserError(f"--plan {path}: there is no such file.")
    content = read_toml(path)
    tables = content.get("grid")
    well_formed = isinstance(tables, list) and tables and all(isinstance(table, dict) for table in tables)
    if set(content) - {"title", "notes"} != {"grid"} or not well_formed:
        raise UserError(f"{path}: a plan consists of [[grid]] tables (and, if wanted, title and notes).")
    allowed = [f.name for f in fields(Grid)]
    for grid in content["grid"]:
        for key, value in grid.items():
            if key not in allowed:
                raise UserError(f"{path}: {unknown('key', key, allowed)}")
            if key != "replicates" and not isinstance(value, list):
                raise UserError(f"{path}: '{key}' must be a list, for instance {key} = [{value!r}].")
    return Plan([Grid(**grid) for grid in content["grid"]])


@dataclass(frozen=True)
class _Names:
    """A grid of known names in their one spelling, not yet expanded."""

    datasets: Sequence[str]
    protocols: Sequence[Protocol]
    ipcs: Sequence[int]
    methods: Sequence[str]
    students: Mapping[str, str]  # as it was typed -> in its one spelling
    named: Sequence[str]  # students as the grid names them; empty: the protocol's own
    labels: Mapping[str, Sequence[tuple[str | None, str | None]]]  # regime -> (compressor, budget)
    replicates: int

    @property
    def count(self) -> int:
        """How many trials, by arithmetic; what stands in the grid twice counts twice."""
        kinds = sum(len(self.labels[fixed.labels(dataset)]) for dataset in self.datasets for fixed in self.protocols)
        return kinds * len(self.ipcs) * len(self.methods) * max(1, len(self.named)) * self.replicates

    def __iter__(self) -> Iterator[Trial]:
        for dataset, fixed, ipc, method in itertools.product(self.datasets, self.protocols, self.ipcs, self.methods):
            labels = self.labels[fixed.labels(dataset)]
            for student in self.named or [fixed.student(dataset)]:
                network = self.students[student]
                for compressor, budget in labels:
                    for replicate in range(self.replicates):
                        yield Trial(dataset, fixed.id, method, ipc, compressor, budget, network, replicate)


def _checked(grid: Grid, registry: Registry) -> _Names:
    """The grid with every name and value looked up. Raises UserError."""
    for name in ("datasets", "protocols", "methods", "compressors", "students", "teachers", "budgets", "ipcs"):
        values = getattr(grid, name)
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise UserError(f"{name} must be a list, for instance {name} = [{values!r}], not {values!r}.")
        for value in values if name not in ("ipcs", "budgets") else ():
            if not isinstance(value, str):
                raise UserError(f"{name} must be a list of names in quotes; {value!r} is none.")
    for name in ("datasets", "protocols", "methods", "ipcs"):
        if not getattr(grid, name):
            raise UserError(f"Nothing to run: no {name[:-1]} is named. Type --{name[:-1]} NAME.")
    for ipc in grid.ipcs:
        if not isinstance(ipc, int) or isinstance(ipc, bool) or ipc < 1:
            raise UserError(f"ipc must be a whole number of at least 1, not {cut(repr(ipc), 80)}.")
        if ipc > LARGEST_IPC:
            raise UserError(f"ipc must be at most {LARGEST_IPC:,}: {cut(hex(ipc), 80)} images per class fit nowhere.")
    if not isinstance(grid.replicates, int) or isinstance(grid.replicates, bool) or grid.replicates < 1:
        raise UserError(f"replicates must be a whole number of at least 1, not {cut(repr(grid.replicates), 80)}.")
    datasets = [str(parse(registry, "dataset", text)) for text in grid.datasets]
    methods = [str(named_by_content(parse(registry, "method", text))) for text in grid.methods]
    codes = [_compressor(registry, text) for text in grid.compressors]
    budgets = [str(Budget.parse(str(text))) for text in grid.budgets]
    protocols = [definition.load(registry, name) for name in _with_teachers(grid, registry)]
    if (
        budgets
        and not any(takes for _, takes in codes)
        and any(p.labels(d) == "stored" for p in protocols for d in datasets)
    ):
        raise UserError(
            f"--budget {budgets[0]} was given, but {', '.join(n for n, _ in codes)} takes no budget. Name a compressor "
            f"that does, for instance --compressor svd."
        )
    regimes = {fixed.labels(dataset) for dataset in datasets for fixed in protocols}
    if "learned" in regimes and "stored" not in regimes and any(name != UNCOMPRESSED for name, _ in codes):
        raise UserError(
            f"--compressor {codes[0][0]}: {', '.join(grid.protocols)} trains on labels that methods hand in. They "
            "count as they are; compressors are for the labels of a protocol's teacher. Leave --compressor out."
        )
    typed = grid.students or {fixed.student(dataset) for dataset in datasets for fixed in protocols}
    return _Names(
        datasets=datasets,
        protocols=protocols,
        ipcs=grid.ipcs,
        methods=methods,
        students={student: str(parse(registry, "network", student)) for student in typed},
        named=grid.students,
        labels={regime: list(_labels(regime, codes, budgets)) for regime in regimes},
        replicates=grid.replicates,
    )


def _with_teachers(grid: Grid, registry: Registry) -> Iterator[str]:
    """Every protocol with its own teachers, or with each of those that the grid names."""
    teachers = [
        add_teacher_file(registry, "--teacher", text) if text.endswith(".toml") else text for text in grid.teachers
    ]
    for name in grid.protocols:
        yield from [with_teacher(name, teacher) for teacher in teachers] or [name]


def _compressor(registry: Registry, text: str) -> tuple[str, bool]:
    spec = parse(registry, "compressor", text)
    return str(spec), bool(spec.plugin.constants.get("TAKES_BUDGET", True))


def _labels(regime: str, codes: list[tuple[str, bool]], budgets: list[str]) -> Iterable[tuple[str | None, str | None]]:
    if regime != "stored":
        yield None, None
        return
    for name, takes_budget in codes:
        if not takes_budget:
            yield name, None
        elif budgets:
            yield from ((name, budget) for budget in budgets)
        else:
            raise UserError(f"Compressor '{name}' needs a budget. Type for instance --budget 30x or --budget 20kB.")
