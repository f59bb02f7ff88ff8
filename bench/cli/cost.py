"""The verb `cost`: what methods cost, each measured in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from bench.cli.options import DATA, FORMAT, PLUGIN, condensed_sets

GROUP = "run"


@click.command()
@condensed_sets
@click.option("--plan", metavar="FILE", help="A plan (TOML) instead: of each data set the most images per class.")
@click.option(
    "--relabelling", is_flag=True, help="Instead: how the time of making soft labels divides among its stages."
)
@FORMAT
@DATA
@PLUGIN
def command(
    *,
    plan: str | None,
    relabelling: bool,
    datasets: Sequence[str],
    methods: Sequence[str],
    ipcs: Sequence[int],
    protocols: Sequence[str],
    format_: str,
    plugins: Sequence[str],
) -> int:
    """Measure what methods cost: process time and peak memory, each in a fresh process with nothing cached.

    Exit code 1 if a method failed.

    \b
    condensebench cost --dataset digits --method herding --method dm --ipc 10
    condensebench cost --plan results/default-plan.toml --format md
    condensebench cost --relabelling --dataset digits --method random --ipc 10 --protocol small-soft-v1
    """
    if relabelling:
        return _relabelling(plan, datasets, methods, ipcs, protocols, format_, plugins)
    from rich.console import Console

    from bench.artifacts.refs import Workspace
    from bench.driver.outcome import Outcome
    from bench.plugins.registry import discover
    from bench.studies.costs.cost_table import largest, rendered
    from bench.studies.costs.measure import Costs
    from bench.studies.pictures.condensed_sets import Opened, SetName, named_sets
    from bench.texts import cut, visible

    registry = discover(plugins)
    named = named_sets(registry, plan=plan, datasets=datasets, methods=methods, ipcs=ipcs, protocols=protocols)
    names = largest(named) if plan else named
    say = Console(stderr=True).print
    with tempfile.TemporaryDirectory(prefix="condensebench-cost-") as folder:
        opened = Opened(Workspace(folder, registry), names)
        costs, outcomes = Costs(registry, Path(folder)), dict[SetName, Outcome]()
        for number, name in enumerate(names, 1):
            outcomes[name] = outcome = costs.measure(name, opened.dataset(name), opened.teacher(name))
            result = f"{outcome.value.seconds:.2f} s" if outcome.status == "ok" else f"failed: {outcome.message}"
            label = f"{number}/{len(names)} {name.dataset} ipc={name.ipc} {name.method}"
            say(visible(cut(f"{label}: {result}")), highlight=False, soft_wrap=True, markup=False)
        print(rendered(outcomes, {name.dataset: opened.dataset(name).train_images for name in names}, format_))
    return int(any(outcome.status != "ok" for outcome in outcomes.values()))


def _relabelling(
    plan: str | None,
    datasets: Sequence[str],
    methods: Sequence[str],
    ipcs: Sequence[int],
    protocols: Sequence[str],
    format_: str,
    plugins: Sequence[str],
) -> int:
    """Print where the time of relabelling goes, for every condensed set that the options or a plan name."""
    from bench.driver.defaults import default_device, make_plan, work_as_runs_do
    from bench.plugins.registry import discover

    registry = discover(plugins)
    chosen = make_plan(plan=plan, datasets=datasets, methods=methods, ipcs=ipcs, protocols=protocols)
    work_as_runs_do(registry, [each for grid in chosen.grids for each in grid.datasets])
    from bench.artifacts.refs import Workspace
    from bench.studies.costs.relabelling import profile
    from bench.studies.costs.relabelling_table import LabelledSet, rendered_profiles
    from bench.studies.label_sets.trial_labels import trial_labelling

    trials = chosen.trials(registry)
    stored = [trial for trial in trials if trial.compressor is not None] or trials  # without any the first tells why
    names = dict.fromkeys(LabelledSet(each.dataset, each.protocol, each.method, each.ipc) for each in stored)
    with tempfile.TemporaryDirectory(prefix="condensebench-cost-") as folder:
        ws = Workspace(folder, registry, default_device())
        profiles = {
            name: profile(trial_labelling(ws, name.dataset, name.protocol, name.method, name.ipc, purpose="relabel"))
            for name in names
        }
        print(rendered_profiles(profiles, format_))
    return 0
