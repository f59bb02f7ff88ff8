"""Images by index, ready to use in a data set's `load`: `ArraySource` in memory, `FileSource` decoded when asked for.

Both are a `bench.api.ImageSource`. Pillow's pixels are the reference: a photograph is decoded, turned to RGB (or grey),
and cut square as torchvision's Resize and CenterCrop do it. EXIF orientation is ignored, as torchvision does.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from bench.errors import UserError

_CHUNK = 4096  # images hashed at a time: memory stays bounded for splits that are mapped from disk
_MODES = {1: "L", 3: "RGB"}
# Decoders that stay in this process: that of PostScript starts another program, whatever a file is called.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM")
_DEEP = ("I", "F")  # modes of more than 8 bits, which Pillow would clip
# A JPEG of 18x12 pixels. What this machine's decoder and resize make of it stands in the digest of every FileSource.
_SAMPLE = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAYEBQYFBAYGBQYHBwYIChAKCgkJChQODwwQFxQYGBcUFhYaHSUfGhsjHBYWICwgIyYnKSopGR8tMC0o"
    "MCUoKSj/2wBDAQcHBwoIChMKChMoGhYaKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCj/wAARCAAMABID"
    "ASIAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAABwAG/8QAJRAAAQIEBgIDAAAAAAAAAAAAAQIRAAMEBQYSISMxURNBgdHS/8QAFgEBAQEAAAAA"
    "AAAAAAAAAAAABQQH/8QAIREAAQIGAgMAAAAAAAAAAAAAAQADAgYREjFBIZEFEyL/2gAMAwEAAhEDEQA/AC2x4LStAUuWAkclo2VswbLZOWnD+goO"
    "T8CEKz22mFPJ2wWBUx7AjX2u3U6vJmQ7ZetXb7iGPykDTMIs5IzQc/N28axvpGy5Mr5Iyi5OEJBSNiXx0P1FDQujkJWpIRoC3JigwzCAaesdBaWJ"
    "jeptf//Z"
)


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


@dataclass(frozen=True)
class Policy:
    """How an image file becomes a square of uint8 pixels.

    Args:
        size: pixels of the square.
        resize: the shorter side is brought to so many pixels first, then the centre is cut out; 0: the file has the
            size already, and one that has not is refused.
        channels: 3 (RGB) or 1 (grey).
    """

    size: int
    resize: int = 0
    channels: int = 3


class FileSource:
    """A `bench.api.ImageSource` of image files; a file is decoded when its image is asked for.

    Args:
        files: one an image, in index order.
        labels: integers [N].
        policy: how a file becomes pixels.
        cache: a folder where the digest is kept, so that unchanged files are hashed once; None: nowhere.
        keep_pixels: decode all files at the first `read`, into one file of `cache` that is mapped from then on. It
            takes as many bytes as the pixels: for small images, not for photographs by the million.
    """

    def __init__(
        self,
        files: Sequence[str | Path],
        labels: np.ndarray,
        policy: Policy,
        cache: Path | None = None,
        *,
        keep_pixels: bool = False,
    ) -> None:
        if len(files) != len(labels):
            raise ValueError(f"{len(files)} files and {len(labels)} labels")
        self.files = [os.fspath(file) for file in files]
        self.policy = policy
        self._cache = cache
        self._keeps_pixels = keep_pixels
        self._pixels: np.ndarray | None = None
        self.labels = np.array(labels, dtype=np.int64)
        self.labels.flags.writeable = False

    def __len__(self) -> int:
        return len(self.files)

    def read(self, indices: np.ndarray) -> np.ndarray:
        """uint8 [n, channels, size, size]. Raises UserError, with its name, for a file that is no whole image."""
        p, wanted = self.policy, np.asarray(indices, dtype=np.int64)
        if self._keeps_pixels and self._cache is not None:
            if self._pixels is None:
                self._pixels = self._decoded(self._cache / f"{self._state()}.npy")
            return np.array(self._pixels[wanted])
        images = np.empty((len(wanted), p.channels, p.size, p.size), np.uint8)
        for row, index in enumerate(wanted):
            images[row] = decode(self.files[index], p)
        return images

    def digest(self) -> str:
        """`content_digest`, kept for as long as no file is exchanged."""
        if self._cache is None:
            return self.content_digest()
        kept = self._cache / f"{self._state()}.json"
        if kept.is_file():
            return str(json.loads(kept.read_text(encoding="utf-8"))["digest"])
        digest = self.content_digest()
        with _written(kept) as partial:
            partial.write_text(json.dumps({"digest": digest, "files": len(self)}) + "\n", encoding="utf-8")
        return digest

    def content_digest(self) -> str:
        """Hex sha256 of the policy, what the decoder makes of a sample, the labels, and every file's content."""
        content = self._header()
        for file_digest in self.image_digests():
            content.update(file_digest)
        return content.hexdigest()

    def image_digests(self) -> list[bytes]:
        """sha256 of every file, in index order: equal files are equal images."""
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            return list(pool.map(_file_digest, self.files))

    def _header(self) -> hashlib._Hash:
        head = {"policy": asdict(self.policy), "decoder": decoder_digest(), "files": len(self)}
        content = hashlib.sha256(json.dumps(head, sort_keys=True, separators=(",", ":")).encode())
        content.update(np.ascontiguousarray(self.labels, dtype="<i8").tobytes())
        return content

    def _state(self) -> str:
        """Changes when a file is exchanged; cheap."""
        state = self._header()
        state.update(listing(self.files).encode())
        return state.hexdigest()

    def _decoded(self, file: Path) -> np.ndarray:
        """All images in one mapped array; the first process that asks decodes them, the others wait for it."""
        p = self.policy
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.is_file():
                with _written(file) as partial, partial.open("wb") as pixels:
                    shape = (len(self), p.channels, p.size, p.size)
                    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(pixels, header)
                    for each in self.files:
                        pixels.write(np.ascontiguousarray(decode(each, p)).data)
        # Here and below: a variable with a type would change the code digests of the data sets that read images.
        return np.load(file, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


def decode(file: str | Path, policy: Policy) -> np.ndarray:
    """uint8 [channels, size, size] of an image file. Raises UserError with the file's name."""
    try:
        with Image.open(file, formats=FORMATS) as image:
            if image.mode.startswith(_DEEP):
                raise UserError(f"{file} has more than 8 bits a channel ({image.mode}): save it with 8 bits.")
            pixels = image.convert(_MODES[policy.channels])
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{file} cannot be read as an image: {error}") from None
    pixels = _squared(pixels, policy)
    if pixels.size != (policy.size, policy.size):
        width, height = pixels.size
        raise UserError(f"{file} is {width}x{height} px; this data set takes {policy.size}x{policy.size}.")
    array = np.asarray(pixels)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _squared(image: Image.Image, policy: Policy) -> Image.Image:
    if not policy.resize:
        return image
    from torchvision.transforms import functional

    return functional.center_crop(functional.resize(image, policy.resize), policy.size)  # type: ignore[no-any-return]


@contextmanager
def _written(file: Path) -> Iterator[Path]:
    """A path to write to, which becomes `file` when all is written: nobody reads half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        yield partial
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


@cache
def decoder_digest() -> str:
    """Hex sha256 of the pixels that this machine's decoder and resize make of a sample: 64 digits that change with what
    they do, not with their version."""
    with Image.open(io.BytesIO(base64.b64decode(_SAMPLE))) as image:
        pixels = image.convert("RGB")
    return hashlib.sha256(pixels.tobytes() + _squared(pixels, Policy(size=5, resize=7)).tobytes()).hexdigest()


def listing(files: Iterable[str | Path]) -> str:
    """Hex sha256 of names, sizes and times of files: cheap, and it changes when one of them is exchanged. The folder
    they lie in is no part of it."""
    content = hashlib.sha256()
    for file in files:
        folder, name = os.path.split(file)
        try:
            state = os.stat(file)
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror or error}") from None
        content.update(f"{os.path.basename(folder)}/{name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode())
    return content.hexdigest()


def _file_digest(file: str) -> bytes:
    try:
        with open(file, "rb") as opened:
            return hashlib.file_digest(opened, "sha256").digest()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from None
