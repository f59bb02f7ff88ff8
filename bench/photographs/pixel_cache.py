"""Decoded photographs, kept as one uint8 array on disk that all processes map.

One process fills it, on all cores, chunk by chunk. A chunk that is on the disk is marked, so that a fill that was
killed continues. The file's name is the digest of its content: of the files, the policy and the decoder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import logging
import math
import mmap
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.errors import UserError
from bench.photographs.cache_limits import VARIABLE, cache_limit, shown
from bench.photographs.decoding import Policy, cores, decode, decoder_version
from bench.photographs.listing import FileList
from bench.photographs.manifest import locked

LOG = logging.getLogger("condensebench")
PIXELS, PART, MARKS = ".pixels.npy", ".pixels.part", ".marks"
CHUNK_BYTES = 64 * 2**20
LEAST_CHUNKS = 64  # of a small set, so that all cores have work to the end
NAMED_FILES = 5
RESIDENT_BYTES = 2**28  # of a map, that one process holds in memory


class KeptPixels:
    """Images of a complete cache, by indices: mapped from disk, so that all processes share them.

    What a process has read of a map counts as its memory until the system wants it back, and a watcher that holds it to
    a limit does not wait for that. So pages are handed back now and then; they stay in the system's cache of files.
    """

    def __init__(self, file: Path) -> None:
        with file.open("rb") as opened:
            np.lib.format.read_magic(opened)
            shape, _, _ = np.lib.format.read_array_header_1_0(opened)
            self._map = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            self._pixels = np.frombuffer(self._map, np.uint8, offset=opened.tell()).reshape(shape)
        self._read = 0

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Copies, uint8 [n, channels, size, size]."""
        images: np.ndarray = self._pixels[indices]
        self._read += images.nbytes
        if self._read > RESIDENT_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._read = 0
        return images


@dataclass(frozen=True)
class PixelCache:
    """The pixels of a list of files.

    Args:
        folder: where caches are kept.
        files: in index order.
        policy: how they are decoded.
        digests: sha256 of each file, uint8 [N, 32].
    """

    folder: Path
    files: FileList
    policy: Policy
    digests: np.ndarray = field(repr=False)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[N, channels, size, size]."""
        return len(self.files), self.policy.channels, self.policy.size, self.policy.size

    @property
    def image_bytes(self) -> int:
        """Of one image."""
        return math.prod(self.shape[1:])

    @property
    def total_bytes(self) -> int:
        """Of all images."""
        return math.prod(self.shape)

    @property
    def path(self) -> Path:
        """Where the complete cache lies, or will."""
        return self.folder / f"{self._identity(0, len(self.files)).hex()[:32]}{PIXELS}"

    def find(self) -> KeptPixels | None:
        """The mapped pixels, or None where the cache is not complete. A file that is none of its kind is removed."""
        if not self.path.is_file():
            return None
        if not _begins_as(self.path, header := _header(self.shape), len(header) + self.total_bytes):
            LOG.warning("%s is no whole cache of these photographs. It is made again.", self.path)
            self.path.unlink(missing_ok=True)
            return None
        return KeptPixels(self.path)

    def make(self, report: Callable[[int], object] | None = None) -> KeptPixels:
        """The mapped pixels, decoded now where they are not there yet; other processes that ask wait.

        Args:
            report: called with a number of images whenever some have been decoded, from here.

        Raises:
            UserError: files cannot be decoded, or the pixels take more than the limit or the disk has.
        """
        if (pixels := self.find()) is not None:
            return pixels
        with locked(self.path):
            if not self.path.is_file():
                self._fill(report)
        pixels = self.find()
        assert pixels is not None
        return pixels

    def _fill(self, report: Callable[[int], object] | None) -> None:
        part, marks = self._begin()
        errors: list[str] = []
        with _filling(part) as pixels, _filling(marks) as marked:
            done = np.frombuffer(os.pread(marked, marks.stat().st_size, 0), np.uint8).reshape(-1, 32)
            start = part.stat().st_size - self.total_bytes  # of the pixels, behind the header
            chunks = [(first, last) for first, last in self._chunks() if self._unmarked(done, first, last)]
            if report is not None:
                report(len(self.files) - sum(last - first for first, last in chunks))
            with _pool() as pool:
                futures = {
                    pool.submit(self._decode_chunk, pixels, start, marked, first, last): last - first
                    for first, last in chunks
                }
                for future in as_completed(futures):
                    errors += future.result()
                    if report is not None:
                        report(futures[future])
            if errors:
                raise UserError(_broken(sorted(errors), len(self.files)))
            os.fsync(pixels)
        part.replace(self.path)
        marks.unlink()

    def _begin(self) -> tuple[Path, Path]:
        """The unfinished file and its marks: those that are there, or new ones. Raises UserError."""
        part = self.path.with_name(self.path.name.removesuffix(PIXELS) + PART)
        marks = part.with_suffix(MARKS)
        header = _header(self.shape)
        size = len(header) + self.total_bytes
        if not _is_part(part, marks, header, size, self._count()):
            self._adopt(part, marks, header, size)
        if not _is_part(part, marks, header, size, self._count()):
            for file in (part, marks):
                file.unlink(missing_ok=True)
            self._refuse_if_too_large(size)
            with part.open("wb") as opened:
                opened.write(header)
                opened.truncate(size)
            marks.write_bytes(bytes(32 * self._count()))
        return part, marks

    def _refuse_if_too_large(self, size: int) -> None:
        limit = cache_limit()
        others = sum(file.stat().st_size for pattern in (PIXELS, PART) for file in self.folder.glob(f"*{pattern}"))
        what = f"The decoded pixels of {len(self.files):,} photographs ({os.path.dirname(self.files[0])}, ...) take "
        if size + others > limit:
            kept = f", beside {shown(others)} that {self.folder} holds" if others else ""
            wanted = math.ceil((size + others) / 1e9)
            raise UserError(
                f"{what}{shown(size)}{kept}; the limit is {shown(limit)}. Type --cache-limit {wanted}GB to keep them, "
                f"or --cache-limit 0 to decode a photograph whenever it is asked for, which takes longer (elsewhere: "
                f"${VARIABLE})."
            )
        free = shutil.disk_usage(self.folder).free
        if size > free:
            raise UserError(
                f"{what}{shown(size)}, and {self.folder} has {shown(free)} left. Name another folder with --store, or "
                f"type --cache-limit 0 to decode a photograph whenever it is asked for, which takes longer."
            )

    def _adopt(self, part: Path, marks: Path, header: bytes, size: int) -> None:
        """Continue what was begun for the same files but a few that were exchanged since: a repaired file does not cost
        all the others."""
        for other in self.folder.glob(f"*{PART}"):
            its_marks = other.with_suffix(MARKS)
            if not _is_part(other, its_marks, header, size, self._count()):
                continue
            with other.with_suffix(".lock").open("w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:  # somebody is at it
                    continue
                done = np.fromfile(its_marks, np.uint8).reshape(-1, 32)
                if not all(self._unmarked(done, *chunk) for chunk in self._chunks()):
                    other.replace(part)
                    its_marks.replace(marks)
                    return

    def _decode_chunk(self, pixels: int, start: int, marked: int, first: int, last: int) -> list[str]:
        """Decode the images of one chunk into the file; the messages of those that cannot be."""
        errors = list[str]()
        for index in range(first, last):
            try:
                image = self._decoded(index)
            except UserError as error:
                errors.append(str(error))
                continue
            os.pwrite(pixels, np.ascontiguousarray(image).data, start + index * self.image_bytes)
        if not errors:
            os.fsync(pixels)  # before it is said to be there
            os.pwrite(marked, self._identity(first, last), 32 * (first // self._per_chunk()))
        return errors

    def _decoded(self, index: int) -> np.ndarray:
        file = self.files[index]
        try:
            with open(file, "rb") as opened:
                content = opened.read()
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror or error}") from None
        if hashlib.sha256(content).digest() != self.digests[index].tobytes():
            raise UserError(f"{file} was exchanged while the data set was open. Type the same command again.")
        return decode(file, self.policy, content)

    def _unmarked(self, done: np.ndarray, first: int, last: int) -> bool:
        return bool(done[first // self._per_chunk()].tobytes() != self._identity(first, last))

    def _identity(self, first: int, last: int) -> bytes:
        """32 bytes: what these pixels are made from."""
        head = json.dumps({"policy": self.policy.identity(), "decoder": decoder_version()}, sort_keys=True)
        content = hashlib.sha256(head.encode())
        content.update(np.ascontiguousarray(self.digests[first:last]).data)
        return content.digest()

    def _per_chunk(self) -> int:
        return max(1, min(CHUNK_BYTES // self.image_bytes, math.ceil(len(self.files) / LEAST_CHUNKS)))

    def _count(self) -> int:
        return math.ceil(len(self.files) / self._per_chunk())

    def _chunks(self) -> Iterator[tuple[int, int]]:
        for first in range(0, len(self.files), self._per_chunk()):
            yield first, min(first + self._per_chunk(), len(self.files))


def _header(shape: tuple[int, ...]) -> bytes:
    """Of a .npy file of uint8."""
    opened = io.BytesIO()
    np.lib.format.write_array_header_1_0(opened, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return opened.getvalue()


def _is_part(part: Path, marks: Path, header: bytes, size: int, chunks: int) -> bool:
    try:
        return marks.stat().st_size == 32 * chunks and _begins_as(part, header, size)
    except FileNotFoundError:
        return False


def _begins_as(file: Path, header: bytes, size: int) -> bool:
    """Whether a file has this beginning and so many bytes. Raises FileNotFoundError."""
    with file.open("rb") as opened:
        return os.fstat(opened.fileno()).st_size == size and opened.read(len(header)) == header


@contextlib.contextmanager
def _filling(file: Path) -> Iterator[int]:
    """A descriptor of a file that is written in places. A full disk is a UserError."""
    descriptor = os.open(file, os.O_RDWR)
    try:
        yield descriptor
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}") from None
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """A thread for each core. Where the work is interrupted, what has not begun is dropped."""
    pool = ThreadPoolExecutor(cores())  # Pillow lets other threads run while it decodes and resizes
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _broken(errors: list[str], count: int) -> str:
    """One message for all files that cannot be decoded."""
    if len(errors) == 1:
        return errors[0]
    more = f"\nand {len(errors) - NAMED_FILES:,} more" if len(errors) > NAMED_FILES else ""
    return f"{len(errors):,} of {count:,} files cannot be decoded:\n" + "\n".join(errors[:NAMED_FILES]) + more
