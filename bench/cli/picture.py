"""The verb `picture`: condensed sets as contact sheets."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from bench.cli.options import DATA, PLUGIN, STORE, condensed_sets
from bench.places import absolute_path

GROUP = "look"


@click.command()
@condensed_sets
@click.option("--plan", metavar="FILE", help="The sets of a plan (TOML) instead of the options above.")
@click.option("--replicate", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--classes", type=click.IntRange(min=1), default=10, show_default=True, help="Show the first N classes.")
@click.option("--images", type=click.IntRange(min=1), default=10, show_default=True, help="Of each class at most N.")
@click.option("--out", required=True, metavar="FILE.png|DIR", help="One picture, or a folder for all of them.")
@STORE
@DATA
@PLUGIN
def command(
    *,
    plan: str | None,
    datasets: Sequence[str],
    methods: Sequence[str],
    ipcs: Sequence[int],
    protocols: Sequence[str],
    replicate: int,
    classes: int,
    images: int,
    out: str,
    store: str | None,
    plugins: Sequence[str],
) -> int:
    """Draw condensed sets: a row for each method, or of one method a row for each class.

    Exit code 1 if a method failed.

    \b
    condensebench picture --dataset mnist5k --method random --method dm --ipc 1 --out methods.png
    condensebench picture --dataset mnist5k --method dm --ipc 10 --out dm.png
    condensebench picture --plan results/default-plan.toml --out pictures
    """
    from rich.console import Console
    from rich.progress import Progress

    from bench.driver.defaults import default_device, default_store, make_plan, work_as_runs_do
    from bench.plugins.registry import discover

    registry = discover(plugins)
    chosen = make_plan(plan=plan, datasets=datasets, methods=methods, ipcs=ipcs, protocols=protocols)
    work_as_runs_do(registry, [each for grid in chosen.grids for each in grid.datasets])
    from bench.artifacts.refs import Workspace
    from bench.studies.pictures.condensed_sets import named_sets
    from bench.studies.pictures.contact_sheets import draw_pictures, only_picture, pictures

    names = named_sets(registry, plan=plan, datasets=datasets, methods=methods, ipcs=ipcs, protocols=protocols)
    sheets = pictures(names, images)
    target = Path(out)
    if target.suffix.lower() == ".png":
        files = {target: only_picture(sheets, target)}
    else:
        files = {target / f"{sheet.stem}.png": sheet for sheet in sheets}
    ws = Workspace(absolute_path(store or default_store()), registry, default_device())
    steps = draw_pictures(ws, names, files, replicate=replicate, classes=classes, images=images)
    failed = 0
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        for step in progress.track(steps, total=len(names), description="condensing what is not there"):
            if step.outcome.status != "ok":
                failed += 1
                place = f"{step.name.dataset} ipc={step.name.ipc} {step.name.method}"
                print(f"failed: {place}: {step.outcome.error_type}: {step.outcome.message}", file=sys.stderr)
            for path in step.written:
                print(path)
    return int(failed > 0)
