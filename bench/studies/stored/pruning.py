"""What no record needs of a store, and its removal.

A record needs what would be read to run it again: its data set's artifacts, its teachers, its condensed set, and the
labels of that. All else can be made again, and so can what is removed by mistake: it costs time, never a result.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.artifacts.artifact_file import DamagedArtifact, metadata, read
from bench.artifacts.duplicates import set_digest
from bench.artifacts.store import alone
from bench.errors import UserError
from bench.labels.kept_labels import RAW, marks
from bench.records import files

OF_SET = ("labels", RAW, "label-norms")  # kinds that belong to a condensed set
OF_DATASET = ("features", "logits", "scoring-labels", "dynamics", "dynamics-scores", "train-split", "dataset")
OF_TEACHER = ("teacher", "backbone")
CONDENSED, CHECKPOINTS = "condensed", "checkpoints"


@dataclass(frozen=True)
class Needless:
    """A file, or a folder of checkpoints, that no record needs."""

    path: Path
    kind: str
    size: int  # bytes


@dataclass(frozen=True)
class _Needs:
    """The digests that records name."""

    datasets: frozenset[str]
    sets: frozenset[str]
    words: str  # all digests of teachers and networks, wherever they stand

    @staticmethod
    def of(results: Iterable[Path]) -> _Needs:
        datasets, sets, words = set[str](), set[str](), list[str]()
        for folder in results:
            for record in files.load(folder).records:
                datasets.add(str(record.made_by.get("dataset")))
                if record.condensed is not None:
                    sets.add(record.condensed.digest)
                words.append(json.dumps([record.made_by, record.provenance, [t.digest for t in record.teachers or ()]]))
        return _Needs(frozenset(datasets), frozenset(sets), "\n".join(words))


def needless(root: Path, results: Sequence[Path]) -> list[Needless]:
    """What no record of these folders needs, kind by kind. Of a kind that is not known here, everything is needed.

    Raises:
        UserError: no folder is named, or one of them holds no records.
    """
    if not results:
        raise UserError(
            "store prune: say which records count, for instance --results results/mine; repeat it for all folders "
            "whose records were made with this store."
        )
    needs, kept_sets = _Needs.of(results), set[str]()
    unneeded = list[Needless]()
    splits = set(_split_digests(root, needs))
    for path, _ in _artifacts(root, CONDENSED):
        if needs.sets & _set_digests(path):
            kept_sets.add(f"{CONDENSED}/{path.name}")
        else:
            unneeded.append(_file(path, CONDENSED))
    for kind in (*OF_SET, *OF_DATASET, *OF_TEACHER):
        for path, meta in _artifacts(root, kind):
            inputs = meta.get("inputs") or {}
            if kind in OF_SET:
                needed = inputs.get("condensed") in kept_sets
            elif kind in OF_DATASET:
                text = json.dumps([inputs, (meta.get("dataset") or {}).get("digest")])
                needed = any(digest in text for digest in (*needs.datasets, *splits))
            else:
                needed = str(meta.get("digest")) in needs.words
            if not needed:
                unneeded.append(_file(path, kind))
    gone = {each.path.name for each in unneeded if each.kind == RAW}
    unneeded += [_file(mark, RAW) for mark, each in marks(root / RAW) if not _has_shards(root, each.shards, gone)]
    unneeded += [
        Needless(folder, CHECKPOINTS, sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))
        for folder in sorted((root / CHECKPOINTS).glob("*"))
        if folder.is_dir()
    ]
    return unneeded


def prune(root: Path, unneeded: Iterable[Needless]) -> None:
    """Remove what is not needed. Raises UserError where another process works in the store."""
    if not (unneeded := list(unneeded)):
        return
    with alone(root):
        for each in unneeded:
            if each.path.is_dir():
                shutil.rmtree(each.path, ignore_errors=True)
            else:
                each.path.unlink(missing_ok=True)


def _artifacts(root: Path, kind: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """The artifacts of a kind and what they tell of themselves; a damaged one tells nothing, so nobody needs it."""
    for path in sorted((root / kind).glob("*.safetensors")):
        try:
            yield path, metadata(path)
        except DamagedArtifact:
            yield path, {}


def _set_digests(path: Path) -> set[str]:
    """What records may call a condensed set: with its learned labels, where a protocol trains on them, and without."""
    try:
        arrays = read(path).arrays
    except DamagedArtifact:
        return set()
    parts = arrays["images"], arrays["labels"]
    return {set_digest(*parts), set_digest(*parts, arrays.get("soft_labels"))}


def _split_digests(root: Path, needs: _Needs) -> Iterator[str]:
    """The digests of the training splits of the data sets that records name."""
    for _, meta in _artifacts(root, "dataset"):
        facts = meta.get("dataset") or {}
        if facts.get("digest") in needs.datasets:
            yield str(facts.get("train_digest"))


def _has_shards(root: Path, shards: Iterable[str], gone: set[str]) -> bool:
    return any((root / RAW / name).is_file() and name not in gone for name in shards)


def _file(path: Path, kind: str) -> Needless:
    return Needless(path, kind, path.stat().st_size)
