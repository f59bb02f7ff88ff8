"""The command line: verbs and options only. Heavy imports stand inside the verb that needs them."""

from __future__ import annotations

from collections.abc import Callable
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
FORMAT = click.option(
    "--format", "format_", type=click.Choice(["text", "md", "csv", "latex", "json"]), default="text", show_default=True
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
    condensebench check records results/mine    is the comparison fair?
    """


@cli.command("list")
@click.argument("kind", required=False, type=click.Choice(list(KINDS)))
@PLUGIN
@JSON
def list_(kind: str | None, plugins: tuple[str, ...], as_json: bool) -> None:
    """List methods, compressors, datasets, protocols and students."""
    from bench.cli import catalogue

    found = catalogue.listing([kind] if kind else list(KINDS), plugins)
    click.echo(catalogue.to_json(found) if as_json else catalogue.listing_text(found))


@cli.command()
@click.argument("name")
@PLUGIN
@JSON
def show(name: str, plugins: tuple[str, ...], as_json: bool) -> None:
    """Show one of them: description, parameters with defaults, source, file; of a protocol every fixed value."""
    from bench.cli import catalogue

    found = catalogue.details(name, plugins)
    click.echo(catalogue.to_json(found) if as_json else catalogue.details_text(found))


@cli.command()
@click.argument("kind", type=click.Choice(["method", "compressor", "dataset", "protocol"]))
@click.argument("name")
@click.option("--kind", "does", type=click.Choice(["select", "synthesize"]), help="Of a method [default: select].")
@click.option("--in-tree", is_flag=True, help="Into this project's own folders instead of the current one.")
def new(kind: str, name: str, does: str | None, in_tree: bool) -> None:
    """Write a working plugin and its test into the current folder, to be changed into your own."""
    from bench.plugins.scaffold import new_command

    raise SystemExit(new_command(kind, name, does=does, in_tree=in_tree))


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
    from bench.cli.run import run_command

    grid = {
        k: options.pop(k) for k in ("datasets", "protocols", "methods", "compressors", "students", "ipcs", "budgets")
    }
    raise SystemExit(run_command(grid=grid, plugins=plugins, **options))


@cli.command()
@click.option("--results", default="results/local", show_default=True, metavar="DIR", help="Folder of the records.")
@click.option("--by", type=click.Choice(["protocol"]), help="One column per protocol: what a recipe alone is worth.")
@click.option("--scores", type=click.Choice(["dd-ranking"]), help="IOR, HLR, LRS and ARS instead of accuracies.")
@click.option("--full-data", metavar="DIR", help="For HLR and LRS: hard-label results on all training images.")
@click.option(
    "--unaugmented",
    multiple=True,
    metavar="ID=ID",
    help="For ARS: a protocol and the same recipe without augmentation; repeatable.",
)
@FORMAT
def leaderboard(format_: str, results: str, **options: Any) -> None:
    """Print the tables of a results folder; what could not be read goes to stderr. Exit code 1 if a line was edited."""
    from bench.cli.command import leaderboard_command

    raise SystemExit(leaderboard_command(results, format_=format_, **options))


@cli.command()
@click.argument("a")
@click.argument("b")
@click.option("--results", metavar="DIR", help="Compare two entries of this folder instead of two folders.")
@FORMAT
def compare(a: str, b: str, results: str | None, format_: str) -> None:
    """Compare A with B cell by cell, paired by replicate: difference, interval, win or loss, p-values.

    A and B are two results folders (or record files); or, with --results, two entries of one folder, written METHOD or
    METHOD/COMPRESSOR@BUDGET.

    \b
    condensebench compare results/before results/after
    condensebench compare herding el2n --results results/default-plan
    condensebench compare random/rpca@10x random/lpld@10x --results results/default-plan
    """
    from bench.reports.comparison import compare_command

    raise SystemExit(compare_command(a, b, results=results, format_=format_))


@cli.command()
@click.argument("file", default="results/claims.toml", metavar="[FILE]")
@click.option("--results", multiple=True, metavar="DIR", help="Folder of records; repeatable [default: FILE's own].")
@click.option("--out", metavar="FILE", help="Write the page instead of printing it.")
def claims(file: str, results: tuple[str, ...], out: str | None) -> None:
    """Hold claims of the literature (a TOML file) to records: a page of paired differences and verdicts."""
    from bench.reports.claims.claim_file import claims_command

    raise SystemExit(claims_command(file, results=results, out=out))


@cli.command()
@click.option("--results", default="results/local", show_default=True, metavar="DIR", help="Folder of the records.")
@click.option("--out", required=True, metavar="FILE", help="Ending in .png, .svg or .pdf.")
def plot(results: str, out: str) -> None:
    """Draw accuracy against true bytes of labels: a panel per data set and method, a line per compressor."""
    from bench.reports.plots import plot_command

    raise SystemExit(plot_command(results, out))


@cli.group()
def check() -> None:
    """Check protocols, plugins or records. Exit codes: 0 ok, 1 findings, 2 bad input, 3 the lock of the protocols."""


@check.command("protocols")
@PLUGIN
@JSON
def check_protocols(plugins: tuple[str, ...], as_json: bool) -> None:
    """Hold the protocol files to their schema, to the lock and to the canaries."""
    from bench.lock.check_protocols import check_protocols_command

    raise SystemExit(check_protocols_command(plugins, as_json))


@check.command("plugins")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@PLUGIN
@JSON
def check_plugins(names: tuple[str, ...], plugins: tuple[str, ...], as_json: bool) -> None:
    """Hold methods and compressors (all, or those named) to their contract."""
    from bench.checks.plugins.check_plugins import check_plugins_command

    raise SystemExit(check_plugins_command(names, plugins, as_json))


@check.command("records")
@click.argument("folder", metavar="DIR")
@click.option("--baseline", metavar="DIR", help="Earlier records: say which numbers moved beyond chance.")
@STORE
@PLUGIN
@JSON
def check_records(
    folder: str, baseline: str | None, store: str | None, plugins: tuple[str, ...], as_json: bool
) -> None:
    """Is what is compared comparable, is every value possible, has a number drifted?"""
    from bench.checks.records.check_records import check_records_command

    raise SystemExit(check_records_command(folder, baseline=baseline, plugins=plugins, store=store, as_json=as_json))


@cli.command()
@click.argument("targets", nargs=-1, required=True, metavar="ID|DIR...")
@click.option("--results", default="results/local", show_default=True, metavar="DIR", help="Where the IDs are.")
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N", help="N of the records, drawn evenly from all cells."
)
@click.option("--jobs", type=click.IntRange(min=1), help="Trials at once [default: one a core].")
@click.option("--store", metavar="DIR", help="Artifacts to reuse [default: none, everything is made anew].")
@PLUGIN
@JSON
def verify(targets: tuple[str, ...], plugins: tuple[str, ...], **options: Any) -> None:
    """Run records again here and compare; where they differ, say what was claimed instead."""
    from bench.checks.verify.verification import verify_command

    raise SystemExit(verify_command(targets, plugins=plugins, **options))


@cli.command()
@click.option("--classes", type=click.IntRange(min=2), default=1000, show_default=True)
@click.option("--ipc", type=click.IntRange(min=1), default=50, show_default=True)
@click.option("--views", type=click.IntRange(min=1), default=300, show_default=True, help="Stored per image.")
@click.option("--dtype", type=click.Choice(["fp16", "fp32"]), default="fp16", show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=1024, show_default=True, help="Images per stored file.")
@click.option("--topk", type=click.IntRange(min=1), default=10, show_default=True, help="Of LPQLD and FKD.")
@click.option("--factor", type=click.FloatRange(min=1), default=30.0, show_default=True, help="The nominal x.")
@click.option("--format", "format_", type=click.Choice(["text", "md", "json"]), default="text", show_default=True)
def storage(factor: float, format_: str, **setting: Any) -> None:
    """Explain the literature's storage figures; what a label set takes in every layout; what "30x" means to whom."""
    from bench.studies.storage.storage_table import Setting, report

    click.echo(report(Setting(**setting), factor, format_))


@cli.command()
@click.option("--dataset", metavar="NAME", help="Labels of a condensed set, made as a protocol makes them.")
@click.option("--method", metavar="NAME", help="Of the condensed set [default: random].")
@click.option("--ipc", type=click.IntRange(min=1), help="Images per class [default: 10].")
@click.option("--protocol", "protocol_id", metavar="ID", help="Whose labels [default: small-soft-v1].")
@click.option("--npz", metavar="FILE", help="Labels made elsewhere: 'logits' [images, views, classes], maybe 'hard'.")
@click.option("--photos", is_flag=True, help="Photographs inside installed packages, 1,000 classes (extra `photos`).")
@click.option("--views", type=click.IntRange(min=1), help="Of each photograph [default: 300].")
@click.option("--compressor", "compressors", multiple=True, metavar="NAME", help="Repeatable [default: all].")
@click.option("--budget", "budgets", multiple=True, metavar="B", help="Repeatable [default: 10x, 30x, 100x].")
@click.option("--set-size", type=click.IntRange(min=1), metavar="N", help="Count bytes as for a part of N images.")
@click.option("--project", type=click.IntRange(min=1), metavar="N", help="Extrapolate bytes and times to N images.")
@click.option(
    "--format", "format_", type=click.Choice(["text", "md", "csv", "json"]), default="text", show_default=True
)
@STORE
@PLUGIN
def labels(**options: Any) -> None:
    """Compare compressors on a label set, without training a student: KL, agreement, bytes, times, rank.

    \b
    condensebench labels --dataset digits --ipc 10 --compressor svd --compressor rpca --budget 10x --budget 30x
    condensebench labels --npz labels.npz --compressor klt --budget 30x --set-size 10000
    condensebench labels --photos --budget 30x --project 50000     ImageNet-1K at 50 images per class
    """
    from bench.studies.label_sets.label_command import labels_command

    raise SystemExit(labels_command(**options))


def _condensed_sets(verb: Callable[..., None]) -> Callable[..., None]:
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


@cli.command()
@_condensed_sets
@click.option("--plan", metavar="FILE", help="The sets of a plan (TOML) instead of the options above.")
@click.option("--replicate", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--classes", type=click.IntRange(min=1), default=10, show_default=True, help="Show the first N classes.")
@click.option("--images", type=click.IntRange(min=1), default=10, show_default=True, help="Of each class at most N.")
@click.option("--out", required=True, metavar="FILE.png|DIR", help="One picture, or a folder for all of them.")
@STORE
@PLUGIN
def picture(**options: Any) -> None:
    """Draw condensed sets: a row for each method, or of one method a row for each class.

    \b
    condensebench picture --dataset mnist5k --method random --method dm --ipc 1 --out methods.png
    condensebench picture --dataset mnist5k --method dm --ipc 10 --out dm.png
    condensebench picture --plan results/default-plan.toml --out pictures
    """
    from bench.studies.pictures.picture_command import picture_command

    raise SystemExit(picture_command(**options))


@cli.command()
@_condensed_sets
@click.option("--plan", metavar="FILE", help="A plan (TOML) instead: of each data set the most images per class.")
@FORMAT
@PLUGIN
def cost(**options: Any) -> None:
    """Measure what methods cost: process time and peak memory, each in a fresh process with nothing cached.

    \b
    condensebench cost --dataset digits --method herding --method dm --ipc 10
    condensebench cost --plan results/default-plan.toml --format md
    """
    from bench.studies.costs.cost_command import cost_command

    raise SystemExit(cost_command(**options))


@cli.command()
@click.option("--check", "check_", is_flag=True, help="Hold protocols, defaults and engine to protocols/lock.json.")
@click.option("--release", multiple=True, metavar="ID", help="Fix a protocol for good; repeatable.")
def lock(check_: bool, release: tuple[str, ...]) -> None:
    """The lock of the released protocols. Exit code 3 if one was edited or the engine gives other numbers."""
    from bench.lock.lock_file import lock_command

    raise SystemExit(lock_command(check=check_, release=release))


@cli.command()
@click.argument("dataset")
@click.option("--recipe", default="small-teacher-v1", show_default=True, help="A file in protocols/teachers/.")
@click.option("--ship", is_flag=True, help="Copy the weights to protocols/teachers/, to be committed.")
@STORE
@PLUGIN
def teacher(dataset: str, recipe: str, ship: bool, store: str | None, plugins: tuple[str, ...]) -> None:
    """Train a data set's teacher by its recipe (or find it), and tell its accuracy on the test split."""
    from bench.cli.command import teacher_command

    teacher_command(dataset, recipe, ship=ship, store=Path(store) if store else None, plugins=plugins)
