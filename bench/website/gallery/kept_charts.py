"""Plots of what the store holds: singular values of labels, how hard picked images are to learn, training losses."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from bench.artifacts.describe import find_dataset
from bench.artifacts.refs import DatasetRef, Workspace
from bench.artifacts.store import DamagedArtifact, read
from bench.studies.label_sets.spectrum import energies
from bench.texts import visible
from bench.trials.trial import Trial
from bench.website import charts
from bench.website.chart_data import Group, row_name
from bench.website.charts import Chart, Datum
from bench.website.gallery.kept_sets import Cell, KeptSet
from bench.website.gallery.stored_labels import LabelIndex, StoredLabels
from bench.website.material import BoardRow
from bench.website.tables import board_tables

_IMAGES = 32  # of a set whose labels are decomposed, evenly spaced in its first shard
_LEAST = 1e-6  # of the largest singular value: what is smaller is rounding
_CURVES, _POINTS = 20, 60  # rows whose losses are drawn, and epochs of each
_TICKS = 200  # picked images that are drawn one by one
WHOLE = "training split"


def kept_groups(
    ws: Workspace, kept: Sequence[KeptSet], labels: LabelIndex, rows: Sequence[BoardRow]
) -> Iterator[Group]:
    """The plots of every data set and ipc, then the learning curves of every table, ipc and student."""
    cells: dict[Cell, list[KeptSet]] = defaultdict(list)
    for each in kept:
        cells[each.name.cell].append(each)
    for cell, sets in cells.items():
        charts = [*_spectra(sets, labels), *_difficulties(ws, cell, sets)]
        if charts:
            title = f"{cell.dataset}, ipc {cell.ipc}, condensed sets and stored labels"
            key = hashlib.sha256(title.encode()).hexdigest()[:12]
            yield Group(key, visible(title), visible(cell.dataset), tuple(charts))
    yield from _learning_curves(ws, rows)


def _learning_curves(ws: Workspace, rows: Sequence[BoardRow]) -> Iterator[Group]:
    """The training losses of the students of the best rows, epoch by epoch."""
    places = {
        (Trial.from_dict(dict(inputs["trial"])).id, inputs["last"]): path for path, inputs in ws.store.kept("losses")
    }
    for table in board_tables(rows) if places else ():
        for ipc, student, members in table.cells:
            data: list[Datum] = []
            best = sorted((row for row in members if row.values["n"]), key=lambda row: -row.values["mean"])
            for row in best[:_CURVES]:
                data += _curve(row, places)
            if data:
                title = f"{table.title}, ipc {ipc}, {student}, learning curves"
                key = hashlib.sha256(f"{title} {table.key}".encode()).hexdigest()[:12]
                caption = (
                    "Of the first replicate: the loss of the protocol on the condensed set, mean over an epoch. The "
                    "test split is opened once, after the last epoch: there is no test curve."
                )
                chart = charts.curves(data, "learning-curves", "Training loss of the student", caption)
                yield Group(key, visible(title), visible(str(table.first.values["dataset"])), (chart,))


def _curve(row: BoardRow, places: Mapping[tuple[str, float], Path]) -> list[Datum]:
    """The losses of a row's first replicate whose curve is in the store: that which ends with the loss it records."""
    for record in sorted(row.standing.entry.whole, key=lambda record: record.trial["replicate"]):
        path = places.get((record.run.id, record.train_loss)) if record.train_loss is not None else None
        if path is not None:
            with suppress(DamagedArtifact, KeyError):
                losses = read(path).arrays["losses"]
                epochs = np.unique(np.linspace(1, len(losses), min(len(losses), _POINTS)).astype(int))
                return [{"epoch": int(n), "loss": float(f"{losses[n - 1]:.4g}"), "row": row_name(row)} for n in epochs]
    return []


def _spectra(sets: Sequence[KeptSet], labels: LabelIndex) -> Iterator[Chart]:
    """Singular values of each image's labels, of every protocol, mean over images."""
    rows: dict[tuple[str, str], list[Datum]] = defaultdict(list)
    for each in sets:
        for stored in labels.of(each.address):
            if stored.logits is not None:
                for domain, values in spectra(stored).items():
                    rows[stored.protocol, domain] += [
                        {"component": place, "share": float(value), "method": visible(each.name.method)}
                        for place, value in enumerate(values, start=1)
                        if value > _LEAST
                    ]
    for number, ((protocol, domain), data) in enumerate(rows.items()):
        title = f"Singular values of stored labels, {domain}, {protocol}"
        caption = (
            "Of the matrix of views and classes of an image, over the largest one; mean over images. The faster they "
            "fall, the fewer components a compressor has to keep."
        )
        yield charts.spectrum(data, f"singular-values-{number}", visible(title), caption)


def spectra(stored: StoredLabels) -> dict[str, np.ndarray]:
    """Singular values over the largest one, float64 [min(views, classes)], of logits and of what a student is given."""
    logits = stored.logits
    assert logits is not None
    images = np.unique(np.linspace(0, len(logits) - 1, min(len(logits), _IMAGES)).astype(int))
    domains: dict[str, list[np.ndarray]] = {"logits": [], f"softmax at temperature {stored.temperature:g}": []}
    for image in images:
        z = torch.from_numpy(np.array(logits[image], np.float64))
        for values, matrix in zip(domains.values(), (z, torch.softmax(z / stored.temperature, dim=-1)), strict=True):
            squares = energies(matrix)
            if squares[0] > 0:
                values.append(np.sqrt(squares / squares[0]))
    return {name: np.mean(values, axis=0) for name, values in domains.items() if values}


def _difficulties(ws: Workspace, cell: Cell, sets: Sequence[KeptSet]) -> Iterator[Chart]:
    """How hard the picked images of every method are, beside the whole training split."""
    picked = [each for each in sets if "indices" in each.artifact.arrays]
    dataset = find_dataset(ws, cell.dataset) if picked else None
    scores = None if dataset is None else error_norms(ws, dataset)
    if scores is None:
        return
    rows = [{**_quantiles(scores), "row": WHOLE, "images": len(scores)}]
    ticks = []
    for each in picked:
        values = scores[np.asarray(each.artifact.arrays["indices"])]
        name = visible(each.name.method)
        rows.append({**_quantiles(values), "row": name, "images": len(values)})
        ticks += [{"row": name, "score": round(float(value), 4)} for value in values[:_TICKS]]
    yield charts.distributions(
        rows,
        ticks,
        "error norm, mean over the first epochs",
        "scores",
        "How hard the picked images are",
        "The distance between a network's probabilities and the class, while it learns the training split: a score "
        "that several methods select by. Bars: the middle half. Lines: 5 % to 95 %. Ticks: the images of the set of "
        "replicate 0. Methods hand in images and no scores of their own.",
    )


def error_norms(ws: Workspace, dataset: DatasetRef) -> np.ndarray | None:
    """float64 [N]: of each training image, the mean over epochs of |p - y|; None without dynamics in the store."""
    for path, inputs in ws.store.kept("dynamics"):
        if inputs.get("dataset") != dataset.digest:
            continue
        try:
            probabilities = read(path).arrays["probabilities"]
        except (DamagedArtifact, KeyError):
            continue
        labels = ws.data(dataset.spec).train.labels
        total = np.zeros(len(labels))
        for epoch in probabilities:
            errors = np.array(epoch, np.float32)
            errors[np.arange(len(labels)), labels] -= 1
            total += np.linalg.norm(errors, axis=1)
        return np.asarray(total / len(probabilities))
    return None


def _quantiles(values: np.ndarray) -> Datum:
    names = ("low", "quarter", "median", "three_quarters", "high")
    shares = np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95))
    return {name: round(float(value), 4) for name, value in zip(names, shares, strict=True)}
