"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from bench.confinement.plugin_limits import Limits

PLUGIN = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    metavar="FILE",
    help="A method, compressor, data set (.py) or protocol (.toml) of your own, or a folder of such; repeatable.",
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


def _place_size(context: click.Context, option: click.Parameter, size: str | None) -> None:  # noqa: ARG001 (click's)
    if size:
        from bench.artifacts.size_limits import KEEP_LABELS, STORE_LIMIT

        {limit.option: limit for limit in (KEEP_LABELS, STORE_LIMIT)}[option.opts[0]].place(size)


KEEP_LABELS = click.option(
    "--keep-labels",
    metavar="SIZE",
    expose_value=False,
    callback=_place_size,
    help="Of raw labels in the store, which all compressors read; 0 keeps none "
    "[default: $CONDENSEBENCH_KEEP_LABELS, else 40GB].",
)
STORE_LIMIT = click.option(
    "--store-limit",
    metavar="SIZE",
    expose_value=False,
    callback=_place_size,
    help="Of all that lies in the store, for instance 500GB [default: $CONDENSEBENCH_STORE_LIMIT, else none].",
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


def plugin_limits(timeout: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The limits of plugins, of a verb that runs some; `limits_of` reads them. `timeout`: the default, in words."""

    def decorate(verb: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option(
                "--stage-processes",
                type=click.IntRange(min=1),
                metavar="N",
                help="That a plugin may have at once [default: 256].",
            ),
            click.option(
                "--stage-memory",
                type=click.FloatRange(min=0, min_open=True),
                metavar="MIB",
                help="Of all processes of a plugin [default: 80 % of the machine's].",
            ),
            click.option(
                "--stage-timeout",
                type=click.FloatRange(min=0, min_open=True),
                metavar="SECONDS",
                help=f"Of one call of a plugin [default: {timeout}].",
            ),
        ):
            verb = option(verb)
        return verb

    return decorate


def limits_of(timeout: float | None, memory: float | None, processes: int | None) -> Limits:
    """The limits that were typed, with the defaults for the others."""
    from bench.confinement.plugin_limits import PROCESSES, SECONDS, Limits

    return Limits(timeout or SECONDS, int(memory * 2**20) if memory else None, processes or PROCESSES)
