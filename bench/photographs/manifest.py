"""The content of image files: a sha256 of each, taken once, in parallel, and kept in a manifest.

A digest is taken again where a file's path, size or time has changed, and for no other reason. What was taken before a
process was killed is kept too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
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
        digests = np.empty((len(files), 32), np.uint8)
        for start in range(0, len(files), PART):
            digests[start : start + PART] = _hashed(files[start : start + PART])
        return digests
    known = known_digests(files, folder)
    if known is None:
        with locked(_path(files, folder)):
            known = known_digests(files, folder)  # another process may have made it
            if known is None:  # not there, or damaged
                known = _make(files, _path(files, folder), report)
    return known


def known_digests(files: FileList, folder: Path) -> np.ndarray | None:
    """What `content_digests` gives, where every file was hashed already; else None."""
    digests, done = np.empty((len(files), 32), np.uint8), 0
    for rows in _pieces(_path(files, folder)):
        part = digests[done : done + len(rows)]
        if len(part) < len(rows):  # of another list
            return None
        part[:] = rows["sha256"]
        done += len(rows)
    return digests if done == len(files) else None


def _path(files: FileList, folder: Path) -> Path:
    return folder / f"{files.digest[:32]}{SUFFIX}"


def _make(files: FileList, manifest: Path, report: Callable[[int], object] | None) -> np.ndarray:
    """Hash what no manifest of the folder knows, and write this one; returns all digests, uint8 [N, 32]."""
    keys, digests = files.keys(), np.empty((len(files), 32), np.uint8)
    known = _known(keys, manifest.parent, digests)
    partial = manifest.with_name(f"{manifest.name.removesuffix(SUFFIX)}-part{SUFFIX}")
    missing = np.flatnonzero(~known)
    for start in range(0, len(missing), PART):
        part = missing[start : start + PART]
        digests[part] = _hashed([files[index] for index in part])
        known[part] = True
        if start + PART < len(missing):
            _save(partial, keys, digests, np.flatnonzero(known))
        if report is not None:
            report(len(part))
    _save(manifest, keys, digests, np.arange(len(files)))
    partial.unlink(missing_ok=True)
    return digests


def _known(keys: np.ndarray, folder: Path, digests: np.ndarray) -> np.ndarray:
    """Fill in the digests that other manifests have; bool [N], where they do."""
    known, wanted = np.zeros(len(keys), bool), keys.view("<u8")
    order = np.argsort(wanted[:, 0], kind="stable")
    ordered = wanted[order, 0]
    for rows in (rows for manifest in sorted(folder.glob(f"*{SUFFIX}")) for rows in _pieces(manifest)):
        others = np.ascontiguousarray(rows["key"]).view("<u8")
        first, last = (np.searchsorted(ordered, others[:, 0], side=side) for side in ("left", "right"))
        count = last - first  # a file may be listed twice
        row = np.repeat(np.arange(len(others)), count)
        place = order[np.arange(len(row)) + np.repeat(first + count - np.cumsum(count), count)]
        same = (wanted[place] == others[row]).all(axis=1) & ~known[place]
        digests[place[same]] = rows["sha256"][row[same]]
        known[place[same]] = True
    return known


def _pieces(manifest: Path) -> Iterator[np.ndarray]:
    """What a manifest holds, `ROW` [n] at a time; nothing where it is not there, or is none: it can always be made
    anew."""
    try:
        with manifest.open("rb") as opened:
            np.lib.format.read_magic(opened)
            shape, _, dtype = np.lib.format.read_array_header_1_0(opened)
            size = os.fstat(opened.fileno()).st_size - opened.tell()
            if dtype == ROW and len(shape) == 1 and shape[0] * ROW.itemsize == size:
                while content := opened.read(PART * ROW.itemsize):
                    yield np.frombuffer(content, ROW)
    except MemoryError:
        raise
    except Exception:  # the header's parser raises what comes
        return


def _hashed(files: Sequence[str]) -> np.ndarray:
    with ThreadPoolExecutor(cores()) as pool:
        content = b"".join(pool.map(file_digest, files, chunksize=1))
    return np.frombuffer(content, np.uint8).reshape(-1, 32)


def file_digest(file: str) -> bytes:
    """sha256 of a file's content. Raises UserError where it cannot be read."""
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").digest()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from None


def _save(file: Path, keys: np.ndarray, digests: np.ndarray, indices: np.ndarray) -> None:
    """Write the rows of these files (int64 [n]), as NumPy writes an array of them."""
    header = {"descr": np.lib.format.dtype_to_descr(ROW), "fortran_order": False, "shape": indices.shape}
    with written(file) as partial, partial.open("wb") as opened:
        np.lib.format.write_array_header_1_0(opened, header)
        for start in range(0, len(indices), PART):
            part = indices[start : start + PART]
            rows = np.empty(len(part), ROW)
            rows["key"], rows["sha256"] = keys[part], digests[part]
            opened.write(rows.tobytes())


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
