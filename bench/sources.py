"""Images by index, ready to use in a data set's `load`: `ArraySource` in memory, `FileSource` decoded when asked for.

Both are a `bench.api.ImageSource`. A data set of files lists them (`list_folder`), names labels and classes, and says
by a `Policy` for each split how a file becomes pixels. The harness decodes, hashes and keeps them (bench/photographs/).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np

from bench.errors import UserError
from bench.foreign.bounds import regular, unpacked_limit
from bench.photographs.cache_limits import cache_limit
from bench.photographs.decoding import Policy, cores, decode, decoder_digest, original
from bench.photographs.listing import SUFFIXES, FileList, joined, list_files, list_folder
from bench.photographs.manifest import content_digests, known_digests
from bench.photographs.pixel_cache import KeptPixels, PixelCache
from bench.texts import read_text

__all__ = [
    "SUFFIXES",
    "ArraySource",
    "FileList",
    "FileSource",
    "Policy",
    "array_digest",
    "decode",
    "joined",
    "list_files",
    "list_folder",
    "listing",
    "read_content",
    "read_lines",
]

_CHUNK = 4096  # images hashed at a time: memory stays bounded for splits that are mapped from disk
_ALONE = 8  # images that are decoded without further threads


class ArraySource:
    """A `bench.api.ImageSource` in one uint8 array [N, channels, height, width], in memory or mapped from disk."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) != len(labels):
            raise ValueError(
                f"images must be uint8 [N, channels, height, width] with N labels, "
                f"got {images.dtype} {images.shape} and {len(labels)} labels"
            )
        self._images = images
        self._digest: str | None = None
        self.labels = np.array(labels, dtype=np.int64)
        self.labels.flags.writeable = False

    def __len__(self) -> int:
        return len(self._images)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Copies of the images, uint8 [n, channels, height, width], in the order of `indices` (repeats allowed)."""
        wanted = np.asarray(indices, dtype=np.int64)
        if wanted.ndim != 1:
            raise ValueError(f"indices must have one dimension, got shape {wanted.shape}")
        return np.array(self._images[wanted])

    def digest(self) -> str:
        """Hex sha256 over shape, types, labels and pixels, in index order."""
        if self._digest is None:
            self._digest = array_digest(self._images, self.labels)
        return self._digest


def array_digest(images: np.ndarray, labels: np.ndarray) -> str:
    """Hex sha256 of a header (shape and types), then int64 little-endian labels, then the pixels in index order."""
    header = {"shape": list(images.shape), "images": "uint8", "labels": "int64"}
    digest = hashlib.sha256(json.dumps(header, sort_keys=True, separators=(",", ":")).encode())
    digest.update(np.ascontiguousarray(labels, dtype="<i8").tobytes())
    for start in range(0, len(images), _CHUNK):
        digest.update(np.ascontiguousarray(images[start : start + _CHUNK]).data)
    return digest.hexdigest()


class FileSource:
    """A `bench.api.ImageSource` of image files; a file is decoded when its image is asked for.

    Args:
        files: one an image, in index order; best a `FileList`, which knows sizes and times.
        labels: integers [N].
        policy: how a file becomes pixels.
        cache: a folder where digests and decoded pixels are kept; None: nowhere.
        keep_pixels: keep the pixels from the first `read` on, and not only once a split is read whole (`prepare`).
    """

    def __init__(
        self,
        files: Sequence[str | Path] | FileList,
        labels: np.ndarray,
        policy: Policy,
        cache: Path | None = None,
        *,
        keep_pixels: bool = False,
    ) -> None:
        if len(files) != len(labels):
            raise ValueError(f"{len(files)} files and {len(labels)} labels")
        self.files: Sequence[str] = files if isinstance(files, FileList) else [os.fspath(file) for file in files]
        self.policy = policy
        self._cache = cache
        self._keeps_pixels = keep_pixels
        self._pixels: KeptPixels | None = None
        self.labels = np.array(labels, dtype=np.int64)
        self.labels.flags.writeable = False

    def __len__(self) -> int:
        return len(self.files)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [n, channels, size, size]. Raises UserError, with its name, for a file that is no whole image."""
        p, wanted = self.policy, np.asarray(indices, dtype=np.int64)
        if self._keeps_pixels:
            self.prepare()
        if self._pixels is not None:
            return self._pixels[wanted]
        images = np.empty((len(wanted), p.channels, p.size, p.size), np.uint8)

        def fill(row: int) -> None:
            images[row] = decode(self.files[wanted[row]], p)

        _each(fill, len(wanted))
        return images

    def photos(self, indices: np.ndarray) -> list[np.ndarray]:
        """The originals, uint8 [channels, height, width] each, in the sizes that they have. Raises UserError."""
        wanted = np.asarray(indices, dtype=np.int64)
        images: list[np.ndarray] = [np.empty(0, np.uint8)] * len(wanted)

        def fill(row: int) -> None:
            images[row] = original(self.files[wanted[row]], self.policy.channels, exif=self.policy.exif)

        _each(fill, len(wanted))
        return images

    def prepare(self, report: Callable[[int], object] | None = None) -> None:
        """Have all pixels decoded and kept, before the split is read whole. One process decodes, on all cores; others
        wait. Nothing is kept without a cache folder, or where the limit of the cache is 0.

        Args:
            report: called with a number of images whenever some have been decoded.

        Raises:
            UserError: a file is no whole image, or the pixels take more than the limit.
        """
        if self._pixels is None and len(self) and (cache := self.pixel_cache) is not None:
            kept = cache.find()
            if kept is None and cache_limit():
                kept = cache.make(report)
            self._pixels = kept

    def undecoded(self) -> int:
        """Bytes of decoded pixels that `prepare` would add to the cache; told without reading a photograph."""
        if self._cache is None or not len(self):
            return 0
        digests = known_digests(self._listed, self._cache)
        if digests is not None:
            cache = PixelCache(self._cache, self._listed, self.policy, digests)
            return 0 if cache.path.is_file() else cache.total_bytes
        return len(self) * self.policy.channels * self.policy.size**2

    @cached_property
    def pixel_cache(self) -> PixelCache | None:
        """Where the decoded pixels are kept, or will be; None without a cache folder."""
        return None if self._cache is None else PixelCache(self._cache, self._listed, self.policy, self._contents)

    def digest(self) -> str:
        """Hex sha256 of the policy, what the decoder makes of a sample, the labels, and every file's content. A file is
        read for it once, and again where its path, size or time has changed."""
        return self._digest_of(self._contents)

    def content_digest(self) -> str:
        """The same, with every file read anew."""
        return self._digest_of(content_digests(self._listed, None))

    def image_digests(self) -> Iterator[bytes]:
        """sha256 of every file, in index order: equal files are equal images."""
        return (each.tobytes() for each in self._contents)

    @cached_property
    def _listed(self) -> FileList:
        return self.files if isinstance(self.files, FileList) else list_files(self.files)

    @cached_property
    def _contents(self) -> np.ndarray:
        return content_digests(self._listed, self._cache)

    def _digest_of(self, contents: np.ndarray) -> str:
        head = {"policy": self.policy.identity(), "decoder": decoder_digest(), "files": len(self)}
        content = hashlib.sha256(json.dumps(head, sort_keys=True, separators=(",", ":")).encode())
        content.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        content.update(np.ascontiguousarray(contents).data)
        return content.hexdigest()


def _each(work: Callable[[int], None], count: int) -> None:
    """Do `work` for 0..count-1, on all cores where that is worth it."""
    if count <= _ALONE:
        for index in range(count):
            work(index)
        return
    with ThreadPoolExecutor(cores()) as pool:
        for _ in pool.map(work, range(count)):
            pass


def listing(files: Iterable[str | Path]) -> str:
    """Hex sha256 of names, sizes and times of files: cheap, and it changes when one of them is exchanged. The folder
    they lie in is no part of it."""
    content = hashlib.sha256()
    for file in files:
        folder, name = os.path.split(file)
        state = regular(Path(file)).stat()
        content.update(f"{os.path.basename(folder)}/{name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return content.hexdigest()


def read_lines(file: Path) -> list[str]:
    """The lines of a text file that comes with a data set: UTF-8, with or without a byte order mark, any line ends.

    Raises:
        UserError: no regular file, or no such text.
    """
    return read_text(regular(file)).split("\n")


def unpack_zlib(packed: bytes | memoryview, name: object) -> bytes:
    """What a zlib stream in a file of a data set holds.

    Raises:
        UserError: it would unpack to more than any data set's does. The message says `name`.
        zlib.error: it is damaged.
    """
    limit = unpacked_limit(len(packed))
    content = zlib.decompressobj().decompress(packed, limit + 1)
    if len(content) > limit:
        raise UserError(f"{name} would unpack to more than {limit:,} bytes, as no data set does. It was not unpacked.")
    return content


def read_content(file: Path) -> bytes:
    """The bytes of a file of a data set, unpacked where its name ends in .gz.

    Raises:
        UserError: no regular file, cut short, or it would unpack to more than any data set's does.
    """
    try:
        if regular(file).suffix != ".gz":
            return file.read_bytes()
        limit = unpacked_limit(file.stat().st_size)
        with gzip.open(file) as opened:
            content = opened.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file} is no whole gzip file: {error}") from None
    if len(content) > limit:
        raise UserError(f"{file} would unpack to more than {limit:,} bytes, as no data set does. It was not unpacked.")
    return content
