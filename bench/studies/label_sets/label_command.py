"""The verb `labels`: finds the labels that the options name, and hands them to the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from bench.artifacts.refs import Workspace
from bench.artifacts.store import Store
from bench.driver.run import DEFAULT_PROTOCOLS, default_device, default_store
from bench.errors import UserError
from bench.plugins.registry import discover
from bench.plugins.spec import parse
from bench.protocol import definition
from bench.stages import stages
from bench.stages.label import Labelling
from bench.studies.label_sets.quality_table import labels_report
from bench.studies.label_sets.sources import FileLabels, LabelSet, TrialLabels

DEFAULT_METHOD, DEFAULT_IPC = "random", 10


def labels_command(
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
    """Print how well the labels are kept. Returns the exit code: 1 if a compressor failed."""
    _check_options(dataset, npz, photos, {"--method": method, "--ipc": ipc, "--protocol": protocol_id}, views)
    registry = discover(plugins)
    place = (Path(store) if store else default_store()).resolve()
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
    text, code = labels_report(
        registry, labels, compressors=compressors, budgets=budgets, set_size=set_size, project=project, format=format_
    )
    click.echo(text)
    return code


def trial_labels(ws: Workspace, dataset: str, protocol_id: str, method: str, ipc: int) -> TrialLabels:
    """The labels of replicate 0 of a trial with the protocol's own student.

    Raises:
        UserError: a name or value that is not known; the protocol stores no labels for this data set.
    """
    spec = str(parse(ws.registry, "dataset", dataset))
    chosen = str(parse(ws.registry, "method", method))
    fixed = definition.load(ws.registry, protocol_id)
    if (regime := fixed.labels(spec)) != "stored":
        raise UserError(
            f"--protocol {protocol_id}: its labels are {regime}, there is nothing to compress. Type for instance "
            f"--protocol {DEFAULT_PROTOCOLS[0]}."
        )
    described = stages.describe(ws, spec)
    labellers = [stages.teach(ws, name, described) for name in fixed.teachers(spec)]
    condensed = stages.condense(ws, chosen, described, labellers[0], ipc, 0)
    recipe = fixed.recipe(dataset=spec, ipc=ipc, student=fixed.student(spec), classes=described.classes)
    return TrialLabels(Labelling(ws, fixed.id, recipe, described, labellers, condensed))


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
