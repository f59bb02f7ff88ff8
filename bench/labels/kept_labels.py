"""Raw labels that are kept: a teacher is asked once, and all compressors read what it said, within a limit.

A set that is kept has a mark beside its shards, which tells its size before its shards are there: sets that are made
at the same time do not exceed the limit together. What does not fit is made and dropped, shard by shard.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.artifacts.size_limits import LEAST_FREE, STORE_LIMIT, free_bytes, keep_limit, used_bytes
from bench.artifacts.store import Store
from bench.fingerprint import digest
from bench.photographs.manifest import locked, written

RAW = "raw-labels"  # the kind of the artifacts
MARK = ".set.json"  # how the name of a mark ends
SMALL = 256 * 2**20  # bytes of a set of which a user need not be told


@dataclass(frozen=True)
class KeptSet:
    """What a mark tells."""

    name: str  # one line, for people
    size: int  # bytes of all shards
    shards: tuple[str, ...]  # names of their files, beside the mark


def kept_set(
    store: Store, name: str, inputs: Mapping[str, Any], shards: Iterable[Mapping[str, Any]], size: int
) -> bool:
    """Whether the raw labels of a set are kept: they are marked, or marked now where the limit and the disk allow.

    Args:
        store: where they would lie.
        name: of the set, for people.
        inputs: what decides the labels.
        shards: what decides each of the artifacts.
        size: bytes of all of them.
    """
    folder = store.root / RAW
    mark = folder / f"{digest({**inputs, 'arithmetic': store.arithmetic})[:32]}{MARK}"
    if mark.is_file():
        return True
    limit = keep_limit()
    if size > limit:
        return False
    files = [store.path(RAW, each).name for each in shards]
    with locked(folder / ".sets"):
        if mark.is_file():
            return True
        if size + sum(reserved(folder).values()) > limit or not _fits(store.root, size):
            return False
        with written(mark) as partial:
            partial.write_text(json.dumps({"name": name, "size": size, "shards": files}), encoding="utf-8")
    return True


def marks(folder: Path) -> Iterator[tuple[Path, KeptSet]]:
    """The marks of a folder of raw labels, and what they tell; what is no mark is left out."""
    for file in sorted(folder.glob(f"*{MARK}")):
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            yield file, KeptSet(str(values["name"]), int(values["size"]), tuple(map(str, values["shards"])))
        except (OSError, ValueError, KeyError, TypeError):
            continue


def reserved(folder: Path) -> dict[str, int]:
    """What each set in a folder of raw labels takes or will take, in bytes, by its mark's name; shards that belong to
    no mark, as earlier versions wrote them, by their own."""
    sizes, marked = dict[str, int](), set[str]()
    for file, each in marks(folder):
        sizes[file.name] = each.size
        marked.update(each.shards)
    for file in folder.glob("*.safetensors"):
        if file.name not in marked:
            sizes[file.name] = file.stat().st_size
    return sizes


def _fits(root: Path, size: int) -> bool:
    """Whether the store's limit and its disk have room for so many bytes."""
    limit = STORE_LIMIT.bytes()
    if limit is not None and used_bytes(root) + size > limit:
        return False
    return size <= LEAST_FREE or size + LEAST_FREE <= free_bytes(root)
