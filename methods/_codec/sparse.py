"""Sparse matrices of a shard, [n, K, C], coded compactly and decodable by rows.

A row with t entries costs w bits for t itself, and per entry 16 bits of value (float16), l low bits of its column and,
for the high part of the columns, t + ((C - 1) >> l) bits of unary steps for the whole row (Elias-Fano; about
2 + log2(C / t) bits an entry, against log2 C for a plain index). w and l are chosen per image; l = 0 is nearly
a bitmap.
The size follows from the number of entries and the fullest row alone, so a budget is met without trial coding.
An image without entries takes no bits. Reading some rows reads their bits and the counts, nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from methods._codec import bits

VALUE_BITS = 16
PAIR_BITS = 10  # of the pair (w, l), kept as w << 5 | l
_LOW_BITS = 5


@dataclass(frozen=True)
class Entries:
    """The non-zero entries of one image, in any order."""

    rows: np.ndarray  # int64 [t]
    columns: np.ndarray  # int64 [t]
    values: np.ndarray  # float16 [t]


def image_bits(k: int, c: int, entries: np.ndarray, fullest: np.ndarray) -> np.ndarray:
    """Bits of an image, values included, for counts `entries` [m] with at most `fullest` [m] of them in one row."""
    widths = np.frexp(fullest.astype(np.float64))[1]  # the bit length of an integer
    lows = np.arange(bits.width_of(c - 1) + 1)[:, None]
    index = (k * ((c - 1) >> lows) + entries * (1 + lows)).min(0)
    return np.where(entries > 0, k * widths + index + entries * VALUE_BITS, 0)


def low_bits(k: int, c: int, entries: int) -> int:
    """The l at which `image_bits` is smallest; 0 without entries."""
    lows = np.arange(bits.width_of(c - 1) + 1)
    return int((k * ((c - 1) >> lows) + entries * lows).argmin()) if entries else 0


def sections(images: list[Entries], k: int, c: int) -> dict[str, np.ndarray]:
    """Sections p (widths), c (counts), h (high parts), l (low parts), x (values)."""
    pairs, counts, widths, lows, high, columns, values = [], [], [], [], [], [], []
    for entries in images:
        order = np.lexsort((entries.columns, entries.rows))
        count = np.bincount(entries.rows, minlength=k)
        low = low_bits(k, c, len(order))
        width = bits.width_of(int(count.max()))
        pairs.append(width << _LOW_BITS | low)
        counts.append(count)
        widths.append(np.full(k, width))
        lows.append(np.full(len(order), low))
        column = entries.columns[order]
        columns.append(column)
        values.append(entries.values[order])
        if len(order):
            high.append(_steps(column, count, low, (c - 1) >> low))
    return {
        "p": bits.encode_uints(np.array(pairs)),
        "c": bits.pack(np.concatenate(counts), np.concatenate(widths)),
        "h": np.packbits(np.concatenate([*high, np.zeros(0, np.uint8)]), bitorder="little"),
        "l": bits.pack(np.concatenate(columns) & ((1 << np.concatenate(lows)) - 1), np.concatenate(lows)),
        "x": np.concatenate(values).astype(np.float16),
    }


def _steps(column: np.ndarray, count: np.ndarray, low: int, last: int) -> np.ndarray:
    """The unary high parts of one image's rows, one 0/1 byte per bit: entry j of a row sets bit (column >> low) + j."""
    starts = np.cumsum(count + last) - (count + last)
    row = np.repeat(np.arange(len(count)), count)
    ordinal = np.arange(len(column)) - np.repeat(np.cumsum(count) - count, count)
    out = np.zeros(len(column) + last * len(count), np.uint8)
    out[starts[row] + (column >> low) + ordinal] = 1
    return out


def add_rows(out: torch.Tensor, stored: Mapping[str, np.ndarray], k: int, rows: np.ndarray) -> None:
    """Add the rows `rows` (view indices) of every image to `out`, float64 [n, len(rows), C]."""
    n, m, c = out.shape
    if stored["x"].size == 0:
        return
    pairs = bits.decode_uints(stored["p"], n)
    width, low = np.repeat(pairs >> _LOW_BITS, k), np.repeat(pairs & ((1 << _LOW_BITS) - 1), k)
    count = bits.take(stored["c"], np.cumsum(width) - width, width)
    length = np.where(width > 0, count + ((c - 1) >> low), 0)
    first, high, bottom = (np.cumsum(part) - part for part in (count, length, count * low))

    asked = (np.arange(n)[:, None] * k + rows).reshape(-1)
    count, low, length = count[asked], low[asked], length[asked]
    at = bits.runs(high[asked], length)
    within = bits.runs(np.zeros(len(asked), np.int64), length)[bits.read_bits(stored["h"], at)]
    ordinal = bits.runs(np.zeros(len(asked), np.int64), count)
    lows = np.repeat(low, count)
    parts = bits.take(stored["l"], np.repeat(bottom[asked], count) + ordinal * lows, lows)
    column = (within - ordinal) << lows | parts
    values = stored["x"][bits.runs(first[asked], count)]
    # Asked rows are places in `out`, one each, so no position comes twice.
    position = torch.from_numpy(np.repeat(np.arange(n * m) * c, count) + column)
    flat = out.view(-1)
    flat[position] += torch.from_numpy(values).double()
