"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

PLUGIN = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="FILE",
    help="A method, compressor, data set (.py) or protocol (.toml) of your own; repeatable.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
STORE = click.option(
    "--store", metavar="DIR", help="Folder of the artifacts [default: $CONDENSEBENCH_STORE, else .condensebench]."
)


def _place_data(context: click.Context, option: click.Parameter, folders: str | None) -> None:  # noqa: ARG001 (click's)
    if folders:
        from bench.places import place_data

        place_data(folders)


DATA = click.option(
    "--data",
    metavar="DIR",
    expose_value=False,
    callback=_place_data,
    help="Folder of the data sets [default: $CONDENSEBENCH_DATA, else data].",
)


def _place_limit(context: click.Context, option: click.Parameter, size: str | None) -> None:  # noqa: ARG001 (click's)
    if size:
        from bench.photographs.cache_limits import place_limit

        place_limit(size)


CACHE_LIMIT = click.option(
    "--cache-limit",
    metavar="SIZE",
    expose_value=False,
    callback=_place_limit,
    help="Of decoded photographs in the store, for instance 200GB; 0 keeps none "
    "[default: $CONDENSEBENCH_CACHE_LIMIT, else 32GB].",
)


def _place_speed_ups(context: click.Context, option: click.Parameter, names: tuple[str, ...]) -> None:  # noqa: ARG001 (click's)
    if names:
        from bench.training.speed_ups import place_speed_ups

        place_speed_ups(names)


SPEED_UP = click.option(
    "--speed-up",
    multiple=True,
    metavar="NAME",
    expose_value=False,
    callback=_place_speed_ups,
    help="Of trainings: compile, graphs or prefetch; repeatable. Records tell which.",
)
RESULTS = click.option(
    "--results", default="results/local", show_default=True, metavar="DIR", help="Folder of the records."
)
JOBS = click.option("--jobs", type=click.IntRange(min=1), help="Trials at once [default: one a core].")
FORMAT = click.option(
    "--format", "format_", type=click.Choice(["text", "md", "csv", "latex", "json"]), default="text", show_default=True
)


def condensed_sets(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The options that name condensed sets, of a verb that shows or measures some."""
    for option in (
        click.option(
            "--protocol", "protocols", multiple=True, metavar="ID", help="Whose teacher [default: small-soft-v1]."
        ),
        click.option("--ipc", "ipcs", multiple=True, type=click.IntRange(min=1), help="Images per class; repeatable."),
        click.option(
            "--method", "methods", multiple=True, metavar="NAME", help="For instance el2n:end=hard; repeatable."
        ),
        click.option("--dataset", "datasets", multiple=True, metavar="NAME", help="Repeatable."),
    ):
        verb = option(verb)
    return verb
