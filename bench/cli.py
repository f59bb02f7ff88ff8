"""The command line: verbs and options only. Heavy imports stand inside the verb that needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

KINDS = {
    "methods": "method",
    "compressors": "compressor",
    "datasets": "dataset",
    "protocols": "protocol",
    "students": "network",
}
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


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="condensebench", message="%(package)s %(version)s")
def cli() -> None:
    """Compare dataset-condensation methods and soft-label compressors under fixed protocols.

    \b
    condensebench list                          what there is
    condensebench show score                    one of them: parameters, source, file
    condensebench run --dataset digits --protocol small-soft-v1 --method random --method herding \\
                      --compressor svd --budget 10x --ipc 10 --results results/mine
    condensebench leaderboard --results results/mine
    """


@cli.command("list")
@click.argument("kind", required=False, type=click.Choice(list(KINDS)))
@PLUGIN
@JSON
def list_(kind: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """List methods, compressors, datasets, protocols and students."""
    from bench import catalogue

    found = catalogue.listing([kind] if kind else list(KINDS), plugins)
    click.echo(catalogue.to_json(found) if as_json else catalogue.listing_text(found))


@cli.command()
@click.argument("name")
@PLUGIN
@JSON
def show(name: str, plugins: tuple[str, ...], as_json: bool) -> None:
    """Show one of them: description, parameters with defaults, source, file; of a protocol every fixed value."""
    from bench import catalogue

    found = catalogue.details(name, plugins)
    click.echo(catalogue.to_json(found) if as_json else catalogue.details_text(found))


@cli.command()
@click.option(
    "--dataset", "datasets", multiple=True, metavar="NAME", help="For instance glyphs:classes=100; repeatable."
)
@click.option("--protocol", "protocols", multiple=True, metavar="ID", help="Repeatable [default: small-soft-v1].")
@click.option("--method", "methods", multiple=True, metavar="NAME", help="For instance el2n:end=hard; repeatable.")
@click.option("--compressor", "compressors", multiple=True, metavar="NAME", help="Of soft labels; repeatable.")
@click.option("--student", "students", multiple=True, metavar="NAME", help="Repeatable [default: the protocol's].")
@click.option("--ipc", "ipcs", multiple=True, type=click.IntRange(min=1), help="Images per class; repeatable.")
@click.option("--budget", "budgets", multiple=True, metavar="B", help="Of the labels: 30x or 20kB; repeatable.")
@click.option("--replicates", type=click.IntRange(min=1), help="Students per cell [default: 3].")
@click.option("--plan", metavar="FILE", help="A plan (TOML) instead of the options above.")
@click.option("--results", default="results/local", show_default=True, metavar="DIR", help="Continued if it exists.")
@click.option("--jobs", type=click.IntRange(min=1), help="Trials at once [default: one a core].")
@click.option("--ray-address", metavar="A", help="An existing Ray cluster, for instance auto or ray://host:10001.")
@click.option(
    "--rerun",
    type=click.Choice(["missing", "failed", "stale", "all"]),
    default="missing",
    show_default=True,
    help="Which trials to run.",
)
@click.option("--dry-run", is_flag=True, help="Say what would run and how long it may take; run nothing.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Run at most N trials.")
@STORE
@PLUGIN
def run(plugins: tuple[str, ...], **options: Any) -> None:
    """Run trials; the same command again runs only what is missing."""
    from bench.command import run_command

    grid = {
        k: options.pop(k) for k in ("datasets", "protocols", "methods", "compressors", "students", "ipcs", "budgets")
    }
    raise SystemExit(run_command(grid=grid, plugins=plugins, **options))


@cli.command()
@click.option("--results", default="results/local", show_default=True, metavar="DIR", help="Folder of the records.")
@click.option(
    "--format", "format_", type=click.Choice(["text", "md", "csv", "latex", "json"]), default="text", show_default=True
)
def leaderboard(results: str, format_: str) -> None:
    """Print the tables of a results folder; what could not be read goes to stderr. Exit code 1 if a line was edited."""
    from bench import records
    from bench.standings import leaderboard as tabulate
    from bench.tables import render

    loaded = records.load(results)
    for note in [*loaded.torn, *loaded.tampered]:
        click.echo(note, err=True)
    click.echo(render(tabulate(records.latest(loaded.records)), format_))
    if loaded.tampered:
        raise SystemExit(1)


@cli.command()
@click.argument("dataset")
@click.option("--recipe", default="small-teacher-v1", show_default=True, help="A file in protocols/teachers/.")
@click.option("--ship", is_flag=True, help="Copy the weights to protocols/teachers/, to be committed.")
@STORE
@PLUGIN
def teacher(dataset: str, recipe: str, ship: bool, store: str | None, plugins: tuple[str, ...]) -> None:
    """Train a data set's teacher by its recipe (or find it), and tell its accuracy on the test split."""
    from bench.command import teacher_command

    teacher_command(dataset, recipe, ship=ship, store=Path(store) if store else None, plugins=plugins)
