"""Reader of encoded labels: the rows that students ask for, decoded view by view while they train."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import reduce
from types import ModuleType
from typing import TypeVar

import numpy as np
import torch

from bench import varint
from bench.artifacts.artifact_file import hand_back
from bench.errors import CorruptBlobError, PluginError, UserError
from bench.labels.adapter import invalid, takes_shared
from bench.labels.decode_memory import FREE, PER_BYTE, bounded_memory, refused
from bench.labels.label_file import Bytes, LabelFile
from bench.labels.pool import BatchViews, common
from bench.texts import cut
from bench.views.parameters import View, Views

CONTAINER = b"CL\x01"  # how a blob of methods/_codec begins: after the checksum it names its codec and its shape
MOST_CLASSES = 2**20
MOST_VIEWS = 2**20
HELD = 256 * 2**20  # bytes of mapped blobs that stay in memory
_HEADER = 512  # bytes at the beginning of a blob in which its name and its shape stand

T = TypeVar("T")


class EncodedLabels:
    """The reader that the training loop is given: rows of the encoded labels, decoded when asked for.

    Memory: the encoded bytes, or no more than `HELD` of them where the blobs are mapped; what a compressor makes of the
    part that all images share (klt: 4 B for each component of each image's mean); and the rows asked for; never images
    x views x classes.

    Raises:
        CorruptBlobError: a blob is of other images or views than the set, or whatever a compressor raises at its bytes.
    """

    def __init__(self, file: LabelFile, compressor: ModuleType, images: int, name: str) -> None:
        self._file, self._module, self._name = file, compressor, name
        self._images, self._classes = images, 0
        views = stored_views(file.views, images)
        self.views: Sequence[View] = views
        self._check_shapes(len(views))
        self._extra = {"shared": file.shared} if takes_shared(compressor) else {}
        self.invalid = self._counted()
        self._per_view = 1  # numbers that `rows` takes for one stored view
        pool = self._pool()
        if pool is None:
            self.available = self._available()
        else:
            batches = BatchViews(views)
            self.views, self._per_view, self.available = batches, batches.per_view, batches.drawn(pool)

    def rows(self, views: Sequence[int]) -> torch.Tensor:
        """float32 [images, len(views), C]: teacher logits of these views; NaN where a batch of theirs was pruned."""
        stored = [view // self._per_view for view in views]
        parts = self._each(lambda blob: self._module.decode(blob, rows=stored, **self._extra), len(stored))
        decoded = parts[0] if len(parts) == 1 else torch.cat(parts)
        if decoded.ndim != 3 or tuple(decoded.shape[:2]) != (self._images, len(views)):
            raise PluginError(
                f"compressor '{self._name}': decode(blob, rows) must return [images, rows, classes] = "
                f"[{self._images}, {len(views)}, C]; it returned {list(decoded.shape)}."
            )
        return decoded.to(torch.float32)

    def _each(self, call: Callable[[Bytes], T], rows: int = 0) -> list[T]:
        """What a function of the compressor gives of each blob, where so many rows of logits are asked for."""
        results, read = list[T](), 0
        with self._decoding(self._most_memory(rows)):
            for blob in self._file.blobs:
                results.append(call(blob))
                read += len(blob)
                if read > HELD:
                    self._hand_back()
                    read = 0
        return results

    def _most_memory(self, rows: int) -> int | None:
        """Bytes that decoding so many rows may take; None for blobs of other kinds, whose compressors are plugins and
        decode in processes that have limits of their own."""
        if not self._classes:
            return None
        encoded = len(self._file.shared) + max(map(len, self._file.blobs))
        return FREE + PER_BYTE * (encoded + 4 * self._images * rows * self._classes)

    def _hand_back(self) -> None:
        for blob in self._file.blobs:
            if isinstance(blob, memoryview) and isinstance(blob.obj, np.ndarray):
                hand_back(blob.obj)

    @contextmanager
    def _decoding(self, most: int | None) -> Iterator[None]:
        """Whatever a compressor raises at a blob is a CorruptBlobError, and so is a request for more than `most` bytes;
        the cause stays with it. A machine without memory is no damage."""
        try:
            with nullcontext() if most is None else bounded_memory(most):
                yield
        except UserError:
            raise
        except Exception as error:
            if most is not None and (asked := refused(error, most)) is not None:
                raise CorruptBlobError(
                    f"compressor '{self._name}' asks for {asked:,} bytes to decode the labels, where {most:,} are more "
                    f"than any of this set take. The blob is damaged, or was not made by this compressor for this set."
                ) from error
            if isinstance(error, MemoryError) or "allocate" in str(error):  # torch's word for such a machine
                raise
            why = str(error).partition("\n")[0]
            raise CorruptBlobError(
                f"compressor '{self._name}' cannot decode the labels ({type(error).__name__}: {why}). The blob is "
                f"damaged, or was not made by this compressor for this set."
            ) from error

    def _check_shapes(self, views: int) -> None:
        """Refuse blobs that claim other images or views than the set has, before memory is asked for them."""
        shapes = [shape for blob in self._file.blobs if (shape := claimed_shape(blob)) is not None]
        images = sum(n for n, _, _ in shapes)
        whole = len(shapes) == len(self._file.blobs)
        if images > self._images or (whole and images != self._images) or any(k != views for _, k, _ in shapes):
            claimed = ", ".join(f"{n} x {k}" for n, k, _ in shapes[:4])
            raise CorruptBlobError(
                f"compressor '{self._name}': the labels say they are of {claimed} images x views; the set has "
                f"{self._images} x {views}."
            )
        self._classes = max((c for _, _, c in shapes), default=0)
        if len({c for _, _, c in shapes}) > 1 or any(not 1 <= c <= MOST_CLASSES for _, _, c in shapes):
            raise CorruptBlobError(f"compressor '{self._name}': the labels say they are of {shapes[0][2]} classes.")

    def sizes(self) -> dict[str, int]:
        """Bytes of the label file, see bench.labels.label_file.LabelFile.sizes."""
        return self._file.sizes()

    def _counted(self) -> dict[str, int] | None:
        """Over all shards, see bench.records.schema.InvalidLabels; None where the compressor does not count."""
        counts = [count for count in self._each(lambda blob: invalid(self._module, blob)) if count is not None]
        return {"values": sum(v for v, _ in counts), "rows": sum(r for _, r in counts)} if counts else None

    def _pool(self) -> np.ndarray | None:
        """The (view, batch) pairs that are stored; None where whole views are."""
        if not hasattr(self._module, "batches"):
            return None
        pools = self._each(lambda blob: self._module.batches(blob))
        if any(pool is None for pool in pools):
            return None
        pool = common(pools, self._name)
        whole = len(pool) == len(self.views) * (1 + int(pool[:, 1].max()))
        return None if whole else pool

    def _available(self) -> np.ndarray:
        if not hasattr(self._module, "rows"):
            return np.arange(len(self.views))
        # A short last shard may hold a view less, because its header weighs more; all images must have what is read.
        stored = self._each(lambda blob: np.asarray(self._module.rows(blob), dtype=np.int64))
        common = reduce(np.intersect1d, stored)
        if not len(common):
            raise PluginError(f"compressor '{self._name}': the shards have no stored view in common.")
        return common


def stored_views(data: bytes, images: int) -> Views:
    """The views of a label set, as `Views.to_bytes` wrote them, nothing drawn yet.

    Args:
        data: of the label file.
        images: of the set.

    Raises:
        UserError: they are damaged, or of another version.
        CorruptBlobError: they are of other images, or what they say can be drawn for no set.
    """
    try:
        views = Views.from_bytes(data)
    except (RecursionError, OverflowError) as error:
        raise CorruptBlobError(f"stored augmentation parameters cannot be read ({error}).") from None
    limits = {
        "images": (views.n, images, images),
        "views": (views.k, 1, MOST_VIEWS),
        "size": (views.size, 1, 2**16 - 1),
        "batch": (views.batch, 1, 2**62),
        "seed": (views.seed, 0, 2**63 - 1),
    }
    for name, (value, least, most) in limits.items():
        if not least <= value <= most:
            allowed = least if least == most else f"{least}..{most}"
            given = cut(str(value), 40)
            raise CorruptBlobError(f"stored augmentation parameters: {name} = {given}; allowed: {allowed}.")
    return views


def claimed_shape(blob: Bytes) -> tuple[int, int, int] | None:
    """(images, views, classes) in the header of a blob in the project's own container; None for blobs of other kinds.

    Raises:
        CorruptBlobError: the header is cut short.
    """
    if blob[: len(CONTAINER)] != CONTAINER:
        return None
    blob = bytes(blob[:_HEADER])
    try:
        position = len(CONTAINER) + 4
        position += 1 + blob[position]
        n, position = varint.decode(blob, position)
        k, position = varint.decode(blob, position)
        c, position = varint.decode(blob, position)
    except IndexError:
        raise CorruptBlobError("a label blob is cut short within its header.") from None
    return n, k, c
