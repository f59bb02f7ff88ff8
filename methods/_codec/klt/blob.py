"""Levels to the bytes of a blob, and rows back from them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from methods._codec import bits as packing
from methods._codec.container import Container, pack
from methods._codec.klt import bands, refine
from methods._codec.klt import head as heads
from methods._codec.klt.basis import Basis, check_digest
from methods._codec.klt.codec import Coded, Source
from methods._codec.klt.head import Head
from methods._codec.klt.rebuild import Rebuilder
from methods._codec.klt.side import Side
from methods._codec.klt.steps import step_units
from methods._codec.klt.stream import Reader, Writer
from methods._codec.klt.tables import STEP
from methods._codec.klt.trellis import CODER, DIGEST

CODEC = "klt"
_FIXED = 62  # bytes of header and section table, about
_OF_STREAM = 15  # of the ends of its two parts and of their lengths, about
_OF_SECTION = 5
_STREAM_BYTES = 40000  # views share a stream until it is so long: it costs time, and its two parts some 16 bytes
_AT_A_TIME = 512  # rows that are decoded together: their coefficients fit the cache


def views_per_stream(payload: float, views: int) -> int:
    """How many views share a stream when all of them take `payload` bytes: streams about equally long."""
    streams = max(1, min(views, round(payload / _STREAM_BYTES)))
    return max(1, -(-views // streams))


def overhead(budget: int, views: int, extra: Mapping[str, np.ndarray]) -> int:
    """Bytes of a blob besides what `Coded.bytes` tells, to a few, where it takes about `budget` bytes."""
    streams = -(-views // views_per_stream(budget, views))
    return _FIXED + _OF_STREAM * streams + sum(_OF_SECTION + part.nbytes for part in extra.values())


def to_bytes(coded: Coded, index: int, source: Source, extra: Mapping[str, np.ndarray]) -> bytes:
    """A blob with all that `source` holds, coded at the step of this index; `extra` sections are the caller's."""
    k = source.shape[1]
    group = views_per_stream(coded.bytes(k), k)
    numbers = np.array([source.basis.exponent, index, group, coded.head.least], np.int16)
    fixed: dict[str, np.ndarray] = {"i": numbers, "g": np.array([DIGEST], np.uint32)}
    return pack(CODEC, source.shape, fixed | dict(extra) | sections(coded, group))


def sections(coded: Coded, group: int) -> dict[str, np.ndarray]:
    """What belongs to images ("h"), streams of `group` views each ("d"), and their lengths in words ("l").

    A stream has two parts, each with its length: all images' leading levels and likely classes of its views, and their
    coefficients. Images' right factors stand before the first.
    """
    k = len(coded.views)
    leading = max(levels.values.shape[1] for levels in coded.lead)
    lead = [
        _stacked([_padded(levels[part], leading, fill) for levels in coded.lead]) for part, fill in ((0, 0), (1, -1))
    ]
    head, rights = coded.head.words()
    streams = [rights]
    for start in range(0, k, group):
        views, stop = slice(start, start + group), min(k, start + group)
        stream = Writer()
        stream.write(lead[1][:, views].ravel(), lead[0][:, views].ravel())
        if coded.fine:
            inside = [slice(*np.searchsorted(likely.row, (start, stop))) for likely in coded.likely]
            fine = [
                np.concatenate([levels[part][at] for levels, at in zip(coded.fine, inside, strict=True)])
                for part in (0, 1)
            ]
            stream.write(fine[1], fine[0])
        streams += [stream.words(), CODER.write(coded.rows, views)]
    lengths = packing.encode_uints(np.array([len(words) for words in streams]))
    return {"h": head, "l": lengths, "d": np.concatenate(streams)}


def _stacked(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0][None] if len(parts) == 1 else np.stack(parts)


def _padded(array: np.ndarray, width: int, fill: int) -> np.ndarray:
    return np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=fill)


def read(
    container: Container,
    basis_of: Callable[[int], Basis],
    side_of: Callable[[np.ndarray, Basis], Side],
    views: np.ndarray,
) -> np.ndarray:
    """float32 [n, len(views), C]: logits. Only the streams that hold these views are read.

    Args:
        container: of a blob that `to_bytes` made.
        basis_of: exponent -> what was shared, in that unit.
        side_of: views, int64, ascending, and the basis -> what is known of them.
        views: int64 indices, in any order.

    Raises:
        CorruptBlobError: coded with another entropy model.
    """
    parts, (n, k, _) = container.sections, container.shape
    check_digest(int(parts["g"][0]), DIGEST)
    exponent, index, group, least = (int(v) for v in parts["i"])
    basis = basis_of(exponent)
    result = np.empty((n, len(views), basis.classes), np.float32)
    if not len(views):
        return result
    streams = np.unique(views // group)
    there = np.concatenate([np.arange(s * group, min(k, (s + 1) * group)) for s in streams])
    side = side_of(there, basis)
    ends = np.cumsum(packing.decode_uints(parts["l"], 1 + 2 * -(-k // group)))

    def words(part: int) -> np.ndarray:
        return parts["d"][ends[part - 1] if part else 0 : ends[part]]

    head = heads.read(parts["h"], words(0), n, index, basis, least)
    rebuilder = Rebuilder(index, heads.table(head.means, side, index), side, basis, k)
    for image in range(n):
        rebuilder.tell(image, head.along[image], head.ranked[image])
    base = basis.rows - step_units(index) + bands.widen(STEP * head.gains, basis.size)
    decoder = _Rows(rebuilder, head, base)
    # Places among `there` of the views of each stream, and of the views asked for.
    places = np.split(np.arange(len(there)), np.flatnonzero(np.diff(there // group)) + 1)
    asked = np.searchsorted(there, views)
    for some in _batches(len(streams), n * group):
        inside = [places[at] for at in some]
        chosen = streams[some.start : some.stop].tolist()
        logits = decoder.read([(Reader(words(1 + 2 * one)), words(2 + 2 * one)) for one in chosen], inside)
        first, last = inside[0][0], inside[-1][-1]
        wanted = np.flatnonzero((asked >= first) & (asked <= last))
        result[:, wanted] = logits[:, asked[wanted] - first]
    return result


def _batches(streams: int, rows: int) -> Iterator[range]:
    """Streams that are read together, of `rows` rows each."""
    size = max(1, _AT_A_TIME // rows)
    for start in range(0, streams, size):
        yield range(start, min(streams, start + size))


class _Rows:
    """Reads rows of all images."""

    def __init__(self, rebuilder: Rebuilder, head: Head, base: np.ndarray) -> None:
        """base: int32 [n, D], log-scales of rows' levels."""
        self._rebuilder, self._head, self._base = rebuilder, head, base

    def read(self, streams: list[tuple[Reader, np.ndarray]], places: list[np.ndarray]) -> np.ndarray:
        """float64 [n, views, C]: what streams hold whose views stand at these consecutive places in the side."""
        n = len(self._base)
        # Rows stand stream by stream, in each image by image.
        images = np.concatenate([np.repeat(np.arange(n), len(p)) for p in places])
        views = np.concatenate([np.tile(p, n) for p in places])
        edges = np.cumsum([0, *(n * len(p) for p in places)])
        slices = [slice(start, stop) for start, stop in itertools.pairwise(edges)]

        chosen = self._rebuilder.leading_buckets(images, views)
        lead = np.empty(chosen.shape, np.int32)
        for (reader, _), rows in zip(streams, slices, strict=True):
            lead[rows] = reader.read(chosen[rows].ravel()).reshape(-1, chosen.shape[1])
        whole = self._rebuilder.led_by(images, views, lead)
        for (_, words), rows in zip(streams, slices, strict=True):
            CODER.read(words, self._base, images[rows], whole[rows])
        logits = self._rebuilder.logits(whole)
        if self._head.refined is not None:
            self._refine(logits, self._head.refined[images], [reader for reader, _ in streams], edges)
        if len(places) == 1:
            return logits.reshape(n, len(views) // n, -1)
        result = np.empty((n, len(views) // n, logits.shape[1]))
        result[images, views - views[0]] = logits
        return result

    def _refine(self, logits: np.ndarray, numbers: np.ndarray, readers: list[Reader], edges: np.ndarray) -> None:
        """Read the likely classes of rows and correct `logits` [m, C] in place; `numbers` [m, NUMBERS]."""
        likely = refine.likely(logits, self._head.least)
        step = refine.step_of(self._rebuilder.index, self._rebuilder.basis.exponent)
        buckets = refine.buckets(likely.grade, numbers[likely.row], step)
        bounds = np.searchsorted(likely.row, edges)
        levels = np.concatenate(
            [
                reader.read(buckets[start:stop])
                for reader, start, stop in zip(readers, bounds[:-1], bounds[1:], strict=True)
            ]
        )
        refine.correct(logits, likely, levels, buckets, numbers, step)
