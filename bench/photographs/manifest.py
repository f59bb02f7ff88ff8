"""The content of image files: a sha256 of each, taken once, in parallel, and kept in a manifest.

A digest is taken again where a file's path, size or time has changed, and for no other reason. What was taken before a
process was killed is kept too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bench.errors import UserError
from bench.photographs.decoding import cores
from bench.photographs.listing import FileList

ROW = np.dtype([("key", "u1", 16), ("sha256", "u1", 32)])
PART = 20_000  # files hashed between two writes: what a kill may cost
SUFFIX = ".manifest.npy"


def content_digests(files: FileList, folder: Path | None, report: Callable[[int], object] | None = None) -> np.ndarray:
    """The sha256 of every file, uint8 [N, 32], in index order.

    Args:
        files: to hash.
        folder: where manifests are kept; None: nothing is kept.
        report: called with the number of files whenever some have been hashed.

    Raises:
        UserError: a file cannot be read.
    """
    if folder is None:
        return _hashed(files)
    digests = known_digests(files, folder)
    if digests is None:
        manifest = _path(files, folder)
        with locked(manifest):
            if _rows(manifest) is None:  # not there, or damaged
                _make(files, manifest, report)
        digests = known_digests(files, folder)
        assert digests is not None
    return digests


def known_digests(files: FileList, folder: Path) -> np.ndarray | None:
    """What `content_digests` gives, where every file was hashed already; else None."""
    rows = _rows(_path(files, folder))
    return np.ascontiguousarray(rows["sha256"]) if rows is not None and len(rows) == len(files) else None


def _path(files: FileList, folder: Path) -> Path:
    return folder / f"{files.digest[:32]}{SUFFIX}"


def _make(files: FileList, manifest: Path, report: Callable[[int], object] | None) -> None:
    rows = np.zeros(len(files), ROW)
    rows["key"] = files.keys()
    known = _known(rows["key"], manifest.parent, rows["sha256"])
    partial = manifest.with_name(f"{manifest.name.removesuffix(SUFFIX)}-part{SUFFIX}")
    missing = np.flatnonzero(~known)
    for start in range(0, len(missing), PART):
        part = missing[start : start + PART]
        paths = [files.paths[index] for index in part]
        rows["sha256"][part] = _hashed(FileList(paths, files.sizes[part], files.times[part]))
        known[part] = True
        if start + PART < len(missing):
            _save(partial, rows[known])
        if report is not None:
            report(len(part))
    _save(manifest, rows)
    partial.unlink(missing_ok=True)


def _known(keys: np.ndarray, folder: Path, digests: np.ndarray) -> np.ndarray:
    """Fill in the digests that other manifests have; bool [N], where they do."""
    known = np.zeros(len(keys), bool)
    wanted = np.ascontiguousarray(keys).view("<u8")
    for manifest in sorted(folder.glob(f"*{SUFFIX}")):
        rows = _rows(manifest)
        if rows is None or not len(rows):
            continue  # what is missing is hashed
        others = np.ascontiguousarray(rows["key"]).view("<u8")
        order = np.argsort(others[:, 0], kind="stable")
        place = order[np.searchsorted(others[order, 0], wanted[:, 0]).clip(max=len(order) - 1)]
        same = (others[place] == wanted).all(axis=1) & ~known
        digests[same] = rows["sha256"][place[same]]
        known |= same
    return known


def _rows(manifest: Path) -> np.ndarray | None:
    """What a manifest holds, `ROW` [N]; None where it is not there, or is none: it can always be made anew."""
    try:
        with manifest.open("rb") as opened:
            np.lib.format.read_magic(opened)
            shape, _, dtype = np.lib.format.read_array_header_1_0(opened)
            content = opened.read()
        rows = np.frombuffer(content, ROW)
    except MemoryError:
        raise
    except Exception:  # the header's parser raises what comes
        return None
    return rows if dtype == ROW and shape == rows.shape else None


def _hashed(files: FileList) -> np.ndarray:
    with ThreadPoolExecutor(cores()) as pool:
        content = b"".join(pool.map(file_digest, files.paths, chunksize=1))
    return np.frombuffer(content, np.uint8).reshape(-1, 32)


def file_digest(file: str) -> bytes:
    """sha256 of a file's content. Raises UserError where it cannot be read."""
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").digest()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from None


def _save(file: Path, rows: np.ndarray) -> None:
    with written(file) as partial, partial.open("wb") as opened:
        np.save(opened, rows, allow_pickle=False)


@contextlib.contextmanager
def written(file: Path) -> Iterator[Path]:
    """A path to write to, which becomes `file` when all is written: nobody reads half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield partial
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """One process at a time makes `file`; the system lets the next one in where the first dies."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
