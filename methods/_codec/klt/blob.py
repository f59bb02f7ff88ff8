"""Levels to the bytes of a blob, and rows back from them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from methods._codec import bits as packing
from methods._codec.container import Container, pack
from methods._codec.klt import head as heads
from methods._codec.klt import refine
from methods._codec.klt.basis import Basis, check_digest
from methods._codec.klt.codec import Coded, Source
from methods._codec.klt.head import Head
from methods._codec.klt.rebuild import Rebuilder
from methods._codec.klt.side import Side
from methods._codec.klt.trellis import CODER, DIGEST, PathReader

CODEC = "klt"
_FIXED = 62  # bytes of header and section table, about
_OF_STREAM = 8  # of its end and of its length, about
_OF_SECTION = 5
_STREAM_BYTES = 40000  # views share a stream until it is so long: it costs time, and its end some 8 bytes
_AT_A_TIME = 512  # rows that are decoded together: their coefficients fit the cache


def views_per_stream(budget_bytes: int, shape: tuple[int, ...]) -> int:
    """How many views of a set [n, K, C] share a stream, if it fills the budget: streams about equally long."""
    n, views, classes = shape
    payload = min(budget_bytes, 2 * n * views * classes)
    streams = max(1, min(views, round(payload / _STREAM_BYTES)))
    return max(1, -(-views // streams))


def overhead(source: Source, extra: Mapping[str, np.ndarray]) -> int:
    """Bytes of a blob besides what `Coded.bytes` tells, to a few."""
    streams = -(-source.shape[1] // source.group)
    return _FIXED + _OF_STREAM * streams + sum(_OF_SECTION + part.nbytes for part in extra.values())


def to_bytes(coded: Coded, source: Source, extra: Mapping[str, np.ndarray]) -> bytes:
    """A blob with all that `source` holds, all views in order; `extra` sections are the caller's."""
    numbers = np.array([source.basis.exponent, coded.index, source.group, coded.head.least], np.int16)
    fixed: dict[str, np.ndarray] = {"i": numbers, "g": np.array([DIGEST], np.uint32)}
    return pack(CODEC, source.shape, fixed | dict(extra) | sections(coded))


def sections(coded: Coded) -> dict[str, np.ndarray]:
    """What belongs to images ("h"), streams of some views each ("d"), and their lengths in words ("l").

    A stream has leading levels, coefficients and likely classes of its views, each image by image. Before the first
    stands another, of images' means and right factors.
    """
    head, ours = coded.head.words()
    streams = [ours]
    for start, stop in itertools.pairwise(coded.edges):
        views = slice(start, stop)
        parts = [led.paths.some(views) for led in coded.lead] + [rows.some(views) for rows in coded.rows]
        for fine in coded.fine:
            parts.append(fine.paths.some(slice(*np.searchsorted(fine.likely.row, (start, stop)))))
        streams.append(CODER.write(parts))
    lengths = packing.encode_uints(np.array([len(words) for words in streams]))
    return {"h": head, "l": lengths, "d": np.concatenate(streams)}


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
    ends = np.cumsum(packing.decode_uints(parts["l"], 1 + -(-k // group)))

    def words(part: int) -> np.ndarray:
        return parts["d"][ends[part - 1] if part else 0 : ends[part]]

    head = heads.read(parts["h"], words(0), n, index, basis, least)
    rebuilder = Rebuilder(index, heads.table(head.means, side, index), side, basis, k)
    scales = heads.scales(head.gains, basis, index)
    for image in range(n):
        rebuilder.tell(image, head.along[image], head.ranked[image], scales[image])
    decoder = _Rows(rebuilder, head, scales)
    # Places among `there` of the views of each stream, and of the views asked for.
    places = np.split(np.arange(len(there)), np.flatnonzero(np.diff(there // group)) + 1)
    asked = np.searchsorted(there, views)
    for some in _batches(len(streams), n * group):
        inside = [places[at] for at in some]
        chosen = streams[some.start : some.stop].tolist()
        logits = decoder.read([CODER.reader(words(1 + one)) for one in chosen], inside)
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

    def read(self, streams: list[PathReader], places: list[np.ndarray]) -> np.ndarray:
        """float64 [n, views, C]: what streams hold whose views stand at these consecutive places in the side."""
        n = len(self._base)
        # Rows stand stream by stream, in each image by image.
        images = np.concatenate([np.repeat(np.arange(n), len(p)) for p in places])
        views = np.concatenate([np.tile(p, n) for p in places])
        # Where rows of an image begin, and the last ones of a stream end.
        starts = np.cumsum([0, *np.repeat([len(p) for p in places], n)])
        edges = [starts[place * n : place * n + n + 1] for place in range(len(places))]

        units, lead = self._rebuilder.leading_units(images, views), np.zeros((len(images), self._rebuilder.leading))
        has = np.arange(lead.shape[1]) < self._rebuilder.leading_of[images][:, None]
        before = np.append(0, np.cumsum(has.sum(1)))
        lead[has] = _in_turn(streams, units[has], [before[mine] for mine in edges])
        whole = self._rebuilder.led_by(images, views, lead)
        for reader, mine in zip(streams, edges, strict=True):
            rows = slice(mine[0], mine[-1])
            reader.rows(self._base, images[rows], whole[rows])
        logits = self._rebuilder.logits(whole)
        if self._head.refined is not None:
            self._refine(logits, self._head.refined[images], streams, edges)
        if len(places) == 1:
            return logits.reshape(n, len(views) // n, -1)
        result = np.empty((n, len(views) // n, logits.shape[1]))
        result[images, views - views[0]] = logits
        return result

    def _refine(
        self, logits: np.ndarray, numbers: np.ndarray, streams: list[PathReader], edges: list[np.ndarray]
    ) -> None:
        """Read the likely classes of rows and correct `logits` [m, C] in place; `numbers` [m, NUMBERS]."""
        likely = refine.likely(logits, self._head.least)
        step = refine.step_of(self._rebuilder.index, self._rebuilder.basis.exponent)
        units = refine.units(likely.grade, numbers[likely.row], step)
        points = _in_turn(streams, units, [np.searchsorted(likely.row, mine) for mine in edges])
        refine.correct(logits, likely, points, numbers, step)


def _in_turn(streams: list[PathReader], units: np.ndarray, bounds: list[np.ndarray]) -> np.ndarray:
    """float64 [m]: what is next in each stream; `units` [m], all log-scales, and `bounds` of paths among them."""
    parts = [
        reader.along(units[mine[0] : mine[-1]], mine - mine[0]) for reader, mine in zip(streams, bounds, strict=True)
    ]
    return np.concatenate(parts)
