"""The condensed sets of the page of pictures: side by side, with what teachers say, and their stored labels."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.artifacts.pixels import nearest_levels
from bench.artifacts.refs import Workspace
from bench.places import absolute_path
from bench.plugins.registry import Registry
from bench.texts import visible
from bench.training.normalisation import statistics
from bench.website.chart_data import Group
from bench.website.encoding import part
from bench.website.gallery import label_pictures, sprites
from bench.website.gallery.kept_charts import kept_groups
from bench.website.gallery.kept_sets import Cell, KeptSet, NamedSet, kept_sets, missing, named_sets
from bench.website.gallery.plain_labels import PlainLabels
from bench.website.gallery.stored_labels import LabelIndex
from bench.website.material import Material
from bench.website.reproduction import knows_protocol
from bench.website.tables import board_tables, row_key

MOST_CLASSES, MOST_IMAGES = 100, 10  # of a set that are shown, and of one of its classes
MOST_PIXELS = 2**18  # of the shown images of one set
MOST_BYTES = 6_000_000  # of all files: what comes after is not shown
_MOST_LINKS = 6  # to rows, of one set


@dataclass
class Gallery:
    """What the page of pictures loads."""

    store: str
    index: list[dict[str, Any]] = field(default_factory=list)  # of the cells, in the order of the page
    files: dict[str, bytes | str] = field(default_factory=dict)
    address_of: dict[str, str] = field(default_factory=dict)  # key of a row -> where its set is shown
    lacking: list[dict[str, str]] = field(default_factory=list)  # sets that are not in the store, with what makes them
    untold: int = 0  # rows with a result whose records do not tell their set
    plots: list[Group] = field(default_factory=list)
    left_out: int = 0  # sets that would have made the site too large

    @property
    def sets(self) -> int:
        """How many are shown."""
        return sum(cell["count"] for cell in self.index)


def gallery(material: Material, store: Path) -> Gallery:
    """The sets of the records of a site that a store holds. Nothing is made that is not there.

    Args:
        material: whose rows are shown.
        store: a folder that may not exist.
    """
    shown = Gallery(visible(str(store)))
    names = named_sets(material.rows)
    scored = {row_key(row) for row in material.rows if row.values["n"]}
    shown.untold = len(scored - {row_key(row) for name in names for row in name.rows})
    ws = Workspace(absolute_path(store), material.registry)
    kept = kept_sets(names, ws.store)
    shown.lacking = [_lacking(cell, sets, material.registry) for cell, sets in missing(names, kept).items()]
    labels, plain = LabelIndex(ws.store, [each.address for each in kept]), PlainLabels(ws)
    shown.plots = list(kept_groups(ws, kept, labels, material.rows))
    tables = {row_key(row): table.key for table in board_tables(material.rows) for row in table.rows}
    size = 0
    for cell in dict.fromkeys(each.name.cell for each in kept):
        key = hashlib.sha256(repr(cell).encode()).hexdigest()[:12]
        entries: list[dict[str, Any]] = []
        members = [each for each in kept if each.name.cell == cell and _drawable(each)]
        for one in members:
            entry, files = _set(one, members[0], labels, plain, ws, f"{key}-{len(entries)}", tables)
            if size + sum(map(len, files.values())) > MOST_BYTES:
                shown.left_out += 1
                continue
            size += sum(map(len, files.values()))
            shown.files |= files
            shown.address_of |= {row_key(row): f"pictures.html#cell={key}&set={entry['key']}" for row in one.name.rows}
            entries.append(entry)
        if entries:
            title = visible(f"{cell.dataset}, ipc {cell.ipc}")
            classes = plain.class_names(cell.dataset, _classes(members[0]))
            shown.files[f"data/gallery-{key}.js"] = part("GALLERY", key, {"classes": classes, "sets": entries})
            shown.index.append({"key": key, "title": title, "count": len(entries)})
    return shown


def _drawable(kept: KeptSet) -> bool:
    return kept.artifact.arrays["images"].shape[1] in sprites.CHANNELS


def _classes(kept: KeptSet) -> int:
    counts = [record.num_classes for row in kept.name.rows for record in row.standing.entry.whole if record.num_classes]
    return counts[0] if counts else 1 + int(kept.artifact.arrays["labels"].max())


def _lacking(cell: Cell, sets: Sequence[NamedSet], registry: Registry) -> dict[str, str]:
    """The sets of a cell that are not in the store, and the command that makes them without training a student."""
    protocols = [each.row["protocol"] for each in sets]
    known = [protocol for protocol in protocols if knows_protocol(registry, protocol)]
    words = ["condensebench", "picture", "--dataset", cell.dataset, "--protocol", [*known, *protocols][0]]
    words += ["--ipc", str(cell.ipc), *(word for name in _methods(sets) for word in ("--method", name))]
    return {
        "title": visible(f"{cell.dataset}, ipc {cell.ipc}"),
        "methods": visible(", ".join(_methods(sets))),
        "command": visible(shlex.join([*words, "--out", "pictures"])),
    }


def _methods(sets: Sequence[NamedSet]) -> list[str]:
    return list(dict.fromkeys(each.method for each in sets))


def _set(
    kept: KeptSet,
    first: KeptSet,
    labels: LabelIndex,
    plain: PlainLabels,
    ws: Workspace,
    stem: str,
    tables: Mapping[str, str],
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What the page knows of a set, and its pictures. `first`: the set of the cell whose teacher speaks for all."""
    arrays = kept.artifact.arrays
    places = shown_images(np.asarray(arrays["labels"]), _classes(kept), arrays["images"].shape[-1])
    sheet = np.zeros((*places.shape, *arrays["images"].shape[1:]), np.uint8)
    there = places >= 0
    sheet[there] = nearest_levels(np.asarray(arrays["images"][places[there]]))
    name = kept.name
    teacher = plain.teacher(name.cell.dataset, first.name.row["protocol"], name.dataset_digest)
    said = plain.say(name.cell.dataset, teacher, arrays["images"][places[there]]) if teacher else []
    tops = iter(said)
    rows = list(name.rows[:_MOST_LINKS])
    entry: dict[str, Any] = {
        "key": f"{name.digest[:12]}-{hashlib.sha256(name.method.encode()).hexdigest()[:4]}",
        "method": name.method,
        "digest": name.digest,
        "images": len(arrays["labels"]),
        "made": "indices" not in arrays,
        "teacher": None if teacher is None else f"{teacher.recipe} ({teacher.network}, {100 * teacher.accuracy:.1f} %)",
        "sheet": f"pictures/{stem}.png",
        "size": arrays["images"].shape[-1],
        "top": [[next(tops) if said and here else None for here in row] for row in there],
        "there": there.sum(axis=1).tolist(),
        "links": [
            [_row_title(row.values), f"index.html#table={tables[row_key(row)]}&row={row_key(row)}"] for row in rows
        ],
        "more": len(name.rows) - len(rows),
        "labels": [],
    }
    files = {f"pictures/{stem}.png": sprites.mosaic(sheet)}
    for number, (each, pictures) in enumerate(_stored(kept, labels, plain, ws)):
        names = {what: f"pictures/{stem}-{what}{number}.png" for what in pictures}
        entry["labels"].append({**each, **names})
        files |= {names[what]: content for what, content in pictures.items()}
    return entry, files


def _stored(
    kept: KeptSet, labels: LabelIndex, plain: PlainLabels, ws: Workspace
) -> Iterator[tuple[dict[str, Any], dict[str, bytes]]]:
    """The stored labels of a set, of each protocol that its rows were run on."""
    dataset = plain.dataset(kept.name.cell.dataset)
    if dataset is None:
        return
    for stored in labels.of(kept.address):
        codes = {
            (row.values["compressor"], row.values["budget"])
            for row in kept.name.rows
            if row.values["protocol"] == stored.protocol
        }
        if codes:
            yield label_pictures.of_set(ws, kept, stored, codes, statistics("dataset", dataset))


def _row_title(values: Mapping[str, Any]) -> str:
    stored = " ".join(filter(None, (values["compressor"], values["budget"])))
    return f"{values['protocol']} {values['student']} {stored}".strip()


def shown_images(labels: np.ndarray, classes: int, size: int) -> np.ndarray:
    """int64 [classes shown, images of each]: places in the set, -1 where a class has fewer.

    Args:
        labels: int64 [n], the class of each image.
        classes: of the data set.
        size: pixels per side.
    """
    images = min(MOST_IMAGES, int(np.bincount(labels).max()))
    most = max(1, MOST_PIXELS // size**2)
    shown = min(classes, MOST_CLASSES, max(10, most // images))
    if shown * images > most:
        images = max(1, most // shown)
        shown = min(shown, most // images)
    places = np.full((shown, images), -1, np.int64)
    for label in range(shown):
        of_class = np.flatnonzero(labels == label)[:images]
        places[label, : len(of_class)] = of_class
    return places
