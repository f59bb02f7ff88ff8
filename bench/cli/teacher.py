"""The verb `teacher`: a data set's teacher, made by its recipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from bench.cli.options import DATA, PLUGIN, STORE
from bench.places import absolute_path

GROUP = "extend"
SAID_EVERY = 15.0  # seconds


@click.command()
@click.argument("dataset")
@click.option(
    "--recipe",
    default="small-teacher-v1",
    show_default=True,
    metavar="NAME",
    help="In protocols/teachers/, or FILE.toml.",
)
@click.option("--ship", is_flag=True, help="Copy the weights to protocols/teachers/, to be committed.")
@STORE
@DATA
@PLUGIN
def command(dataset: str, recipe: str, ship: bool, store: str | None, plugins: tuple[str, ...]) -> None:
    """Make a data set's teacher by its recipe (or find it), and tell its accuracy on the test split. Weights that the
    recipe names are downloaded here, never during a run."""
    from bench.driver.defaults import default_device, default_store, work_as_runs_do
    from bench.plugins.registry import discover
    from bench.plugins.spec import parse
    from bench.protocol.own_teacher import add_teacher_file

    registry = discover(plugins)
    if recipe.endswith(".toml"):
        recipe = add_teacher_file(registry, "--recipe", recipe)
    work_as_runs_do(registry, [dataset])
    from bench.artifacts.describe import describe
    from bench.artifacts.refs import Workspace
    from bench.stages.teach import teach
    from bench.teachers.weights import ship as ship_weights
    from bench.training.standing import watch_trainings

    place = Path(store) if store else default_store()
    ws = Workspace(absolute_path(place), registry, default_device())
    spec = str(parse(ws.registry, "dataset", dataset))
    described = describe(ws, spec)
    watch_trainings(_say_now_and_then())
    ref = teach(ws, recipe, described, download=True)
    print(f"{spec}: {ref.network}, {100 * ref.accuracy:.2f} % on the test split, weights {ref.digest[:16]}")
    weights = ship_weights(ref, ws.store, recipe, spec) if ship else ref.path(ws.store)
    print(f"{weights} ({weights.stat().st_size} bytes)")


def _say_now_and_then() -> Callable[[object], None]:
    """Prints how far the training is, a line now and then."""
    last = -SAID_EVERY

    def say(standing: object) -> None:
        nonlocal last
        if standing is not None and time.monotonic() - last >= SAID_EVERY:
            last = time.monotonic()
            print(standing, file=sys.stderr)

    return say
