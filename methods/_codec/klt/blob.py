"""Levels to the bytes of a blob, and rows back from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from methods._codec import bits as packing
from methods._codec.container import Container, pack
from methods._codec.klt import bands, refine
from methods._codec.klt import head as heads
from methods._codec.klt.basis import Basis, check_digest
from methods._codec.klt.codec import Coded, Source
from methods._codec.klt.rebuild import Rebuilder
from methods._codec.klt.side import Side
from methods._codec.klt.steps import step_of, step_units
from methods._codec.klt.stream import Reader, Writer
from methods._codec.klt.tables import DIGEST, STEP

CODEC = "klt"
OVERHEAD = 70  # bytes of header and section table, about
_STREAM_BYTES = 4000  # views share a stream until it is so long: a stream ends on a word, and its length is stored


def views_per_stream(payload: float, views: int) -> int:
    """How many views share a stream when all of them take `payload` bytes."""
    return int(np.clip(np.ceil(_STREAM_BYTES * views / max(payload, 1.0)), 1, views))


def to_bytes(coded: Coded, index: int, source: Source, extra: Mapping[str, np.ndarray]) -> bytes:
    """A blob with all that `source` holds, coded at the step of this index; `extra` sections are the caller's."""
    group = views_per_stream(coded.bytes(), source.shape[1])
    numbers = np.array([source.basis.exponent, index, group, source.refined], np.int16)
    fixed: dict[str, np.ndarray] = {"i": numbers, "g": np.array([DIGEST], np.uint32)}
    return pack(CODEC, source.shape, fixed | dict(extra) | sections(coded, group))


def sections(coded: Coded, group: int) -> dict[str, np.ndarray]:
    """What belongs to images ("h"), streams of `group` views each ("d"), and their lengths in words ("l").

    A stream holds all images' rows of its views: leading levels, coefficients band by band, likely classes.
    """
    k, size = coded.levels.shape[1:]
    streams = []
    starts = [np.concatenate([[0], np.cumsum((grades > 0).sum(1))]) for grades in coded.grades]
    for start in range(0, k, group):
        views, stop = slice(start, start + group), min(k, start + group)
        stream = Writer()
        for buckets, levels in zip(coded.lead_buckets, coded.lead, strict=True):
            stream.write(buckets[views].ravel(), levels[views].ravel())
        for band in bands.split(size):
            stream.write(coded.buckets[:, views, band].ravel(), coded.levels[:, views, band].ravel())
        likely = [slice(at[start], at[stop]) for at in starts]
        if likely:
            stream.write(
                np.concatenate([b[at] for b, at in zip(coded.fine_buckets, likely, strict=True)]),
                np.concatenate([v[at] for v, at in zip(coded.fine, likely, strict=True)]),
            )
        streams.append(stream.words())
    lengths = packing.encode_uints(np.array([len(words) for words in streams]))
    return {"h": coded.head.words(), "l": lengths, "d": np.concatenate(streams)}


def read(
    container: Container, basis_of: Callable[[int], Basis], side_of: Callable[[np.ndarray], Side], views: np.ndarray
) -> np.ndarray:
    """float64 [n, len(views), C]: logits. Only the streams that hold these views are read.

    Args:
        container: of a blob that `to_bytes` made.
        basis_of: exponent -> what was shared, in that unit.
        side_of: views, int64, ascending -> what is known of them.
        views: int64 indices, in any order.

    Raises:
        CorruptBlobError: coded with another entropy model.
    """
    parts, (n, k, _) = container.sections, container.shape
    check_digest(int(parts["g"][0]))
    exponent, index, group, refined = (int(v) for v in parts["i"])
    basis = basis_of(exponent)
    if not len(views):
        return np.empty((n, 0, basis.classes))
    streams = np.unique(views // group)
    inside = [np.arange(s * group, min(k, (s + 1) * group)) for s in streams]
    there = np.concatenate(inside)
    side = side_of(there)
    head = heads.read(parts["h"], n, index, basis, side.width, bool(refined))
    outside = None if side.outside is None else basis.project(side.outside)
    rebuilder = Rebuilder(index, heads.table(head.means, head.mean_buckets, outside, index), side, basis, k)
    for image in range(n):
        rebuilder.tell(image, head.along[image], head.ranked[image])

    ends = np.cumsum(packing.decode_uints(parts["l"], -(-k // group)))
    readers = [Reader(parts["d"][ends[s - 1] if s else 0 : ends[s]]) for s in streams]
    # Rows stand stream by stream, in each image by image. A view's place is the one among `there`.
    places = np.split(np.arange(len(there)), np.cumsum([len(i) for i in inside])[:-1])
    images = np.concatenate([np.repeat(np.arange(n), len(p)) for p in places])
    at = np.concatenate([np.tile(p, n) for p in places])
    edges = np.cumsum([0, *(n * len(p) for p in places)])

    def take(chosen: np.ndarray) -> np.ndarray:
        levels = np.empty(chosen.shape, np.int32)
        for reader, start, stop in zip(readers, edges[:-1], edges[1:], strict=True):
            levels[start:stop] = reader.read(chosen[start:stop].ravel()).reshape(stop - start, -1)
        return levels

    lead_buckets = rebuilder.leading_buckets(images, at)
    lead = np.zeros(lead_buckets.shape, np.int32)
    for reader, start, stop in zip(readers, edges[:-1], edges[1:], strict=True):
        for image in range(n):
            rows = np.arange(start, stop)[images[start:stop] == image]
            width = 1 + rebuilder.ranked[image].free
            lead[rows, :width] = reader.read(lead_buckets[rows, :width].ravel()).reshape(len(rows), width)
    base = basis.rows - step_units(index) + bands.widen(STEP * head.gains, basis.size)
    levels, buckets = bands.run(base[images], len(images), lambda _, chosen: take(chosen))
    whole = rebuilder.predicted(images, at) + rebuilder.led(lead, images, at) + bands.restore(levels, buckets)
    logits = rebuilder.logits(whole)
    if head.refined is not None:
        _refine(logits, head.refined[images], exponent, index, readers, edges)
    result = np.empty((n, len(there), basis.classes))
    result[images, at] = logits
    return np.ldexp(result[:, np.searchsorted(there, views)], exponent)


def _refine(
    logits: np.ndarray, numbers: np.ndarray, exponent: int, index: int, readers: list[Reader], edges: np.ndarray
) -> None:
    """Read the likely classes of all rows and correct `logits` [m, C], in the unit 2^exponent, in place."""
    natural = np.ldexp(logits, exponent)
    grades = refine.grades(natural)
    row, column = np.nonzero(grades)
    grade = grades[row, column]
    buckets = refine.buckets(grade, numbers[row])
    levels = np.empty(len(grade), np.int32)
    for reader, start, stop in zip(readers, *np.searchsorted(row, (edges[:-1], edges[1:])), strict=True):
        levels[start:stop] = reader.read(buckets[start:stop])
    natural[row, column] += refine.corrections(
        levels, buckets, grade, numbers[row], float(np.ldexp(step_of(index), exponent))
    )
    raised = np.where(grades > 0, 0.0, refine.raised_by(numbers)[:, None])
    logits[:] = np.ldexp(natural + raised, -exponent)
