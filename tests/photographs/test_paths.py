"""Paths in few bytes: what goes in comes out, whatever it is, and a million of them do not fill the memory."""

from __future__ import annotations

import hashlib
import os
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from bench.photographs import paths as packed
from bench.photographs.listing import FileList, joined
from bench.photographs.paths import Paths

AWKWARD = [
    "/data/a/1.png", "/data/a/2.png", "/data/b/1.png", "/data/a/3.png",  # back to a folder
    "alone.png", "./here.png", "//twice//over.png", "/root.png", "a/", "", "ä/ü\n.png", os.fsdecode(b"\xff/\xfe.png"),
]  # fmt: skip


def files(paths: list[str]) -> FileList:
    """With sizes and times that differ."""
    numbers = np.arange(len(paths), dtype=np.int64)
    return FileList(paths, numbers * 7, numbers * 10**18 // 3)


def former_digest(paths: list[str], sizes: np.ndarray, times: np.ndarray) -> str:
    """As it was taken while paths were a list of texts: manifests of then are known by it."""
    folders = map(os.path.abspath, dict.fromkeys(map(os.path.dirname, paths)))
    content = hashlib.sha256("\0".join(folders).encode(errors="surrogateescape"))
    content.update("\0".join(paths).encode(errors="surrogateescape"))
    content.update(sizes.astype("<i8").tobytes() + times.astype("<i8").tobytes())
    return content.hexdigest()


def former_key(path: str, size: int, time: int) -> bytes:
    """As of `former_digest`."""
    folder, name = os.path.split(path)
    text = f"{os.path.abspath(folder)}\0{name}\0{size}\0{time}"
    return hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=16).digest()


@pytest.mark.parametrize("piece", [1, 2, 10_000])
@pytest.mark.parametrize("some", [slice(None), slice(0), slice(4, 5), slice(8, None)])
def test_paths_come_back_as_they_are(some: slice, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "PIECE", piece)
    given = AWKWARD[some]
    kept = Paths(given)
    assert list(kept) == [kept[index] for index in range(len(kept))] == given
    assert list(kept[::-2]) == given[::-2]
    for wrong in (len(given), -len(given) - 1):
        with pytest.raises(IndexError):
            kept[wrong]
    if given:
        assert kept[-1] == given[-1]


@pytest.mark.parametrize("piece", [1, 2, 10_000])
def test_digests_and_keys_are_those_of_former_manifests(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a million files would be read again."""
    monkeypatch.setattr(packed, "PIECE", piece)
    for given in (AWKWARD, AWKWARD[:1], []):
        listed = files(given)
        assert listed.digest == former_digest(given, listed.sizes, listed.times)
        expected = list(map(former_key, given, listed.sizes.tolist(), listed.times.tolist()))
        assert list(map(bytes, listed.keys())) == expected


def test_lists_that_are_joined_are_those_of_all_paths() -> None:
    parts = [AWKWARD[:2], [], AWKWARD[2:7], AWKWARD[7:]]
    whole = joined(map(files, parts))
    assert list(whole) == whole.paths == AWKWARD
    assert [whole[index] for index in range(len(whole))] == AWKWARD
    assert whole.digest == former_digest(AWKWARD, whole.sizes, whole.times)
    assert list(joined([whole[5:], whole[:5]])) == AWKWARD[5:] + AWKWARD[:5]


def test_a_path_takes_its_name_and_eight_bytes() -> None:
    classes = [f"n{label:08}" for label in range(20)]
    names = [f"/data/imagenet/train/{each}/{each}_{image}.JPEG" for each in classes for image in range(500)]
    tracemalloc.start()
    try:
        kept = Paths(iter(names))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    of_names = sum(len(Path(name).name) + 1 for name in names)
    assert size < of_names + 8 * len(names) + 20 * 200
    assert size < sum(map(sys.getsizeof, names)) / 3
    assert kept[7777] == names[7777]
