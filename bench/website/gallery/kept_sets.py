"""The condensed sets that records were scored on, as far as the store holds them: each bound by its content.

Where a file lies, and under which name, proves nothing. A set is shown beside a record only if it has the digest that
the record tells.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from bench.artifacts.duplicates import set_digest
from bench.artifacts.store import Artifact, DamagedArtifact, Store, read
from bench.records.files import Record
from bench.reports.table import Row
from bench.website.material import BoardRow

MOST_READ = 2 * 2**30  # bytes of files that are read to find the sets: what is larger stays unread
_ARRAYS = {"images", "labels"}


@dataclass(frozen=True)
class Cell:
    """What condensed sets are compared within."""

    dataset: str
    ipc: int


@dataclass(frozen=True)
class NamedSet:
    """A condensed set as records tell it, and the rows whose students were trained on it."""

    cell: Cell
    method: str
    digest: str  # hex sha256 of the content
    dataset_digest: str | None
    rows: tuple[BoardRow, ...]

    @property
    def row(self) -> Row:
        """The values of its first row."""
        return self.rows[0].values


@dataclass(frozen=True)
class KeptSet:
    """A condensed set of the store."""

    name: NamedSet
    address: str  # path in the store
    artifact: Artifact  # with the arrays `images`, `labels` and, for real images, `indices`


def named_sets(rows: Iterable[BoardRow]) -> list[NamedSet]:
    """The set of the first replicate of every row, each set of a method once, in the order of the rows."""
    members: dict[tuple[Cell, str, str], list[BoardRow]] = defaultdict(list)
    datasets: dict[tuple[Cell, str, str], str | None] = {}
    for row in rows:
        record = _first(row)
        if record is not None and record.condensed is not None:
            key = Cell(row.values["dataset"], row.values["ipc"]), row.values["method"], record.condensed.digest
            members[key].append(row)
            datasets.setdefault(key, record.made_by.get("dataset"))
    return [NamedSet(*key, datasets[key], tuple(of)) for key, of in members.items()]


def _first(row: BoardRow) -> Record | None:
    told = [record for record in row.standing.entry.whole if record.condensed is not None]
    return min(told, key=lambda record: record.trial["replicate"], default=None)


def kept_sets(names: Iterable[NamedSet], store: Store) -> list[KeptSet]:
    """Those of some sets that lie in the store, in the order of the names."""
    names = list(names)
    wanted = {name.digest for name in names}
    places = {(name.dataset_digest, name.cell.ipc) for name in names}
    by_digest: dict[str, Artifact] = {}
    left = MOST_READ
    for path, inputs in store.kept("condensed"):
        size = path.stat().st_size
        if (inputs.get("dataset"), inputs.get("ipc")) not in places or size > left:
            continue
        left -= size
        try:
            artifact = read(path)
        except DamagedArtifact:
            continue
        if artifact.arrays.keys() >= _ARRAYS:
            for digest in _digests(artifact.arrays):
                if digest in wanted:
                    by_digest.setdefault(digest, artifact)
    return [
        KeptSet(name, store.relative(by_digest[name.digest]), by_digest[name.digest])
        for name in names
        if name.digest in by_digest
    ]


def _digests(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """What records call a set: by its images and labels, and, where students learn the method's soft labels, by these
    too."""
    images, labels, soft_labels = arrays["images"], arrays["labels"], arrays.get("soft_labels")
    digests = [set_digest(images, labels)]
    return digests if soft_labels is None else [*digests, set_digest(images, labels, soft_labels)]


def missing(names: Iterable[NamedSet], kept: Iterable[KeptSet]) -> Mapping[Cell, list[NamedSet]]:
    """The sets of each cell that the store does not hold."""
    held = {each.name.digest for each in kept}
    lacking: dict[Cell, list[NamedSet]] = defaultdict(list)
    for name in names:
        if name.digest not in held:
            lacking[name.cell].append(name)
    return lacking
