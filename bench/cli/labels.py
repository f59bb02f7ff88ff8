"""The verb `labels`: compressors compared on a label set."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from bench.cli.options import DATA, PLUGIN, STORE
from bench.errors import UserError
from bench.places import absolute_path

if TYPE_CHECKING:
    from bench.studies.label_sets.label_sources import LabelSet

GROUP = "run"
DEFAULT_METHOD, DEFAULT_IPC = "random", 10


@click.command()
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
@DATA
@PLUGIN
def command(
    *,
    dataset: str | None,
    method: str | None,
    ipc: int | None,
    protocol_id: str | None,
    npz: str | None,
    photos: bool,
    views: int | None,
    compressors: Sequence[str],
    budgets: Sequence[str],
    set_size: int | None,
    project: int | None,
    format_: str,
    store: str | None,
    plugins: Sequence[str],
) -> int:
    """Compare compressors on a label set, without training a student: KL, agreement, bytes, times, rank.

    Exit code 1 if a compressor failed.

    \b
    condensebench labels --dataset digits --ipc 10 --compressor svd --compressor rpca --budget 10x --budget 30x
    condensebench labels --npz labels.npz --compressor klt --budget 30x --set-size 10000
    condensebench labels --photos --budget 30x --project 50000     ImageNet-1K at 50 images per class
    """
    from bench.driver.defaults import DEFAULT_PROTOCOLS, default_device, default_store, work_as_runs_do
    from bench.plugins.registry import discover

    _check_options(dataset, npz, photos, {"--method": method, "--ipc": ipc, "--protocol": protocol_id}, views)
    registry = discover(plugins)
    work_as_runs_do(registry, [dataset] if dataset is not None else [])
    from bench.artifacts.refs import Workspace
    from bench.artifacts.store import Store
    from bench.studies.label_sets.label_sources import FileLabels
    from bench.studies.label_sets.quality_table import labels_report
    from bench.studies.label_sets.trial_labels import trial_labels

    place = absolute_path(store or default_store())
    labels: LabelSet
    if dataset is not None:
        ws = Workspace(place, registry, default_device())
        labels = trial_labels(
            ws, dataset, protocol_id or DEFAULT_PROTOCOLS[0], method or DEFAULT_METHOD, ipc or DEFAULT_IPC
        )
    elif npz is not None:
        labels = FileLabels(npz, Store(place))
    else:
        from bench.studies.label_sets.photos import VIEWS, photo_labels

        labels = photo_labels(Store(place), views=views or VIEWS, device=default_device())
    text, failed = labels_report(
        registry,
        labels,
        compressors=compressors,
        budgets=budgets,
        set_size=set_size,
        project=project,
        format=format_,
        progress=_progress,
    )
    click.echo(text)
    return int(failed)


@contextmanager
def _progress(steps: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("encoding and comparing", total=steps)
        yield lambda: bar.advance(task)


def _check_options(
    dataset: str | None, npz: str | None, photos: bool, of_dataset: dict[str, object], views: int | None
) -> None:
    given = [name for name, value in (("--dataset", dataset), ("--npz", npz), ("--photos", photos)) if value]
    if len(given) != 1:
        what = f"{' and '.join(given)} were given" if given else "none was given"
        raise UserError(
            f"Whose labels? Name one of --dataset NAME, --npz FILE and --photos; {what}. Type for instance\n"
            f"  condensebench labels --dataset digits --compressor svd --compressor rpca --budget 30x"
        )
    for name, value in of_dataset.items():
        if value is not None and dataset is None:
            raise UserError(f"{name} {value} belongs to --dataset; with {given[0]} leave it out.")
    if views is not None and not photos:
        raise UserError(f"--views {views} belongs to --photos; with {given[0]} the views are given.")
