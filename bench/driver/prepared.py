"""What a run does before anything runs: the trials of a plan, and which of them have no valid record yet.

The command line, `bench.run` and `--dry-run` prepare alike.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bench import machine
from bench.artifacts.kept_pixels import pixels_to_keep
from bench.artifacts.refs import Workspace
from bench.confinement.plugin_limits import OPENING, Limits
from bench.driver.coming_labels import labels_to_keep
from bench.driver.defaults import default_arithmetic, default_device, default_store, make_plan
from bench.errors import UserError, unknown
from bench.foreign.named_files import name_and_place
from bench.lock.before_run import guard
from bench.places import NotHere, absolute_path
from bench.plugins.registry import discover
from bench.protocol.definition import default_recipes
from bench.protocol.effects import hold_to_effects
from bench.records import files
from bench.records.files import ReadRecord, State
from bench.stages.origins import OriginDigests, teacher_to_train
from bench.trials.trial import Trial

RERUN: Mapping[str, frozenset[State]] = {  # --rerun -> the states of the trials that run
    "missing": frozenset({"missing", "stale"}),
    "failed": frozenset({"missing", "stale", "failed"}),
    "stale": frozenset({"stale"}),
    "all": frozenset({"missing", "stale", "failed", "done"}),
}


@dataclass(frozen=True)
class RunOptions:
    """How a plan is run. `bench.driver.run.run` describes the fields."""

    results: Path = Path("results/local")
    store: Path = field(default_factory=default_store)
    jobs: int | None = None
    ray_address: str | None = None
    rerun: str = "missing"
    limit: int | None = None
    arithmetic: str | None = None
    limits: Limits = field(default_factory=Limits)
    gpu_share: float | None = None
    teacher_gpus: int = 1

    def __post_init__(self) -> None:
        if self.rerun not in RERUN:
            raise UserError(unknown("--rerun", self.rerun, RERUN))


@dataclass(frozen=True)
class Prepared:
    """A plan that may run: its trials, and what the records say of them.

    The records are read on first use, so that a run which locks its results folder reads them under the lock.
    """

    options: RunOptions
    workspace: Workspace
    trials: Sequence[Trial]

    @cached_property
    def notes(self) -> Sequence[str]:
        """What whoever runs it should hear first: data sets without an entry in a protocol, files that got a name."""
        pairs = ((trial.protocol, trial.dataset) for trial in self.trials)
        return [*default_recipes(self.workspace.registry, pairs), *_named_files(self.trials)]

    @cached_property
    def pixels_to_keep(self) -> Sequence[str]:
        """A line for each data set of photographs that a run may decode into the store, and how much that is."""
        datasets = dict.fromkeys(trial.dataset for trial in self.chosen)
        return [line for dataset in datasets if (line := pixels_to_keep(self.workspace, dataset))]

    @cached_property
    def labels_to_keep(self) -> Sequence[str]:
        """A line for each kind of large label set that a run makes: what it takes, and whether it is kept."""
        return labels_to_keep(self.workspace, self.chosen)

    @cached_property
    def progress(self) -> Path:
        """Where it stands which stages of this run go on, and how far long trainings are."""
        return self.workspace.store.root / "progress" / uuid.uuid4().hex

    @cached_property
    def trainings(self) -> Sequence[str]:
        """A line for each teacher that has to be trained first, and who asks for it."""
        users: dict[tuple[str, str], list[str]] = {}
        origins = OriginDigests(self.workspace)
        for trial in self.chosen:
            for name in origins.teacher_recipes(trial):
                who = users.setdefault((name, trial.dataset), [])
                by_protocol = origins.protocol(trial.protocol).asks_teachers(trial.dataset)
                who.append(trial.protocol if by_protocol else trial.method)
        lines = []
        for (name, dataset), who in users.items():
            recipe = teacher_to_train(self.workspace, name, dataset)
            if recipe is not None and recipe.recipe is not None:
                what = f"teacher {recipe.name} is trained on {dataset} first, {recipe.recipe.epochs} epochs"
                lines.append(f"{what}; asked for by: {', '.join(dict.fromkeys(who))}")
        return lines

    def find_data(self) -> None:
        """Raise NotHere where the files of a chosen trial's data set are not on this machine. On others they may be."""
        if self.options.ray_address is None:
            for dataset in dict.fromkeys(trial.dataset for trial in self.chosen):
                try:
                    _ = self.workspace.data(dataset).dataset
                except NotHere:
                    raise
                except Exception:  # the trials that fail for it tell why
                    continue

    @cached_property
    def existing(self) -> Sequence[ReadRecord]:
        """Every record of the results folder."""
        folder = self.options.results
        return files.scan(folder).records if any(folder.glob("*.jsonl")) else []

    @cached_property
    def states(self) -> Mapping[Trial, State]:
        """done, missing, stale or failed, for every trial."""
        return trial_states(self.workspace, self.trials, self.existing)

    @cached_property
    def chosen(self) -> Sequence[Trial]:
        """The trials that run."""
        wanted = RERUN[self.options.rerun]
        return [trial for trial in self.trials if self.states[trial] in wanted][: self.options.limit]


def prepare(
    options: RunOptions, plugins: Iterable[str | Path] = (), *, plan: str | Path | None = None, **grid: Any
) -> Prepared:
    """The trials of a plan file or of one grid, whose released protocols are as they were released.

    Raises:
        LockError: a protocol that the plan names, or the engine, differs from what protocols/lock.json holds.
        UserError: an unknown name or a bad value; or a protocol was withdrawn.
    """
    registry = discover(plugins)
    grids = make_plan(plan=plan, **grid)
    trials = grids.trials(registry)  # first: a name that is mistyped is told before a canary trains
    hold_to_effects(registry, ((each.protocol, each.dataset, each.ipc, each.student) for each in trials))
    guard(registry, (protocol for each in grids.grids for protocol in each.protocols), options.store)
    default = default_arithmetic(registry, {trial.dataset for trial in trials})
    arithmetic = machine.resolve(options.arithmetic, default)
    limits = replace(options.limits, seconds=min(options.limits.seconds, OPENING))  # nothing but data sets runs here
    ws = Workspace(absolute_path(options.store), registry, default_device(), arithmetic=arithmetic, limits=limits)
    return Prepared(options, ws, trials)


def _named_files(trials: Iterable[Trial]) -> list[str]:
    """A line for each set of files that a trial's method names: what the records call it, and where it lies."""
    methods = {trial.method for trial in trials}
    return [
        f"{place} is {name}: records name it so, by its content, wherever it lies."
        for name, place in name_and_place()
        if any(f"={name}" in method for method in methods)
    ]


def trial_states(ws: Workspace, trials: Sequence[Trial], existing: Sequence[ReadRecord]) -> dict[Trial, State]:
    """done, missing, stale or failed, for every trial.

    Where a data set was never opened here, its digest and its teacher's are taken to be those of the record until the
    run has opened it and knows better; all other digests are compared now.
    """
    latest = {record.id: record for record in files.latest(existing)}
    origins = OriginDigests(ws)
    return {trial: state_of(trial, origins.known(trial), latest) for trial in trials}


def state_of(trial: Trial, made_by: Mapping[str, str | None], latest: Mapping[str, ReadRecord]) -> State:
    """The state of a trial by the digests that are known (not None)."""
    identity = trial.id
    record = latest.get(identity)
    if record is None:
        return "missing"
    expected = {**record.made_by, **{name: value for name, value in made_by.items() if value is not None}}
    return files.status_of(identity, expected, latest)
