"""How an image's share of the budget is divided between low-rank factors and sparse entries: by the true error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from methods._codec import bits, factors, sparse
from methods._codec.container import Specs, packed_size
from methods._codec.labels import require
from methods._codec.largest import largest
from methods._codec.lowrank import truncated_svd
from methods._codec.sparse import Entries

_STREAMS = ("c", "h", "l", "x")  # the sections of `sparse` besides its widths


@dataclass(frozen=True)
class Split:
    """The choice for the images of one chunk."""

    ranks: np.ndarray  # int64 [b]
    factors: factors.Factors
    entries: list[Entries]


def share_bits(codec: str, shape: tuple[int, int, int], exponent_bytes: int, budget_bytes: int) -> int:
    """Bits of payload that each image may take (factors, counts and entries), the same for all.

    What the header may grow to is set aside; never less than rank 1 without entries.

    Raises:
        InfeasibleError: rank 1 of L with an empty S, for every image, is above the budget.
    """
    n, k, c = shape
    fixed: Specs = {"e": ("u1", exponent_bytes)}
    streams: Specs = {name: ("<f2" if name == "x" else "u1", 0) for name in _STREAMS}

    def size(total: int, rank_spread: int, width_spread: int) -> int:
        low = factors.specs(n, total, rank_spread, k, c, "fp16")
        return packed_size(
            codec, shape, fixed | low | {"p": ("u1", bits.encoded_uints_size(n, width_spread))} | streams
        )

    smallest = size(n, 0, 0)
    require(smallest, budget_bytes, "rank 1 of L and an empty S for every image")
    growth = 4 * (2 + len(_STREAMS)) + 3  # varints of sections up to 2^35 elements; three bit streams end on a byte
    free = budget_bytes - size(0, min(k, c) - 1, (1 << sparse.PAIR_BITS) - 1) - growth
    return max(free * 8 // n, 16 * (k + c))


def rank_grid(highest: int) -> list[int]:
    """The ranks that are tried: 1..8, then steps of about a quarter. A larger budget only adds to them."""
    ranks = []
    rank = 1
    while rank <= highest:
        ranks.append(rank)
        rank = max(rank + 1, round(1.25 * rank))
    return ranks


def best_split(data: np.ndarray, low: np.ndarray, rest: np.ndarray | None, share: int) -> Split:
    """Rank and entries of each image, with the least squared error among `rank_grid`.

    Args:
        data: [b, K, C] the matrices, Frobenius norm < 1.
        low: [b, K, C] their low-rank parts.
        rest: [b, K, C] their sparse parts, from which the largest entries are taken; None: from what the cut low-rank
            part leaves over.
        share: bits for each image, see `share_bits`.
    """
    b, k, c = data.shape
    grid = rank_grid(min(share // (16 * (k + c)), k, c))
    left, right, _ = truncated_svd(low, grid[-1])
    stored = factors.quantise(left, right, "fp16")
    ranks, entries = np.zeros(b, np.int64), []
    for image in range(b):
        left, right = stored.left[image].astype(np.float64), stored.right[image].astype(np.float64)
        best: tuple[float, int, Entries] | None = None
        residual, done = data[image].copy(), 0
        for rank in grid:
            residual -= left[:, done:rank] @ right[done:rank]
            done = rank
            source = residual if rest is None else rest[image]
            kept, gain = _entries(residual, source, share - 16 * (k + c) * rank)
            error = float(np.vdot(residual, residual)) - gain
            if best is None or error < best[0]:
                best = error, rank, kept
        assert best is not None
        ranks[image] = best[1]
        entries.append(best[2])
    return Split(ranks, stored, entries)


def _entries(residual: np.ndarray, source: np.ndarray, room: int) -> tuple[Entries, float]:
    """The largest entries of `source` that `room` bits hold, and by how much they lower the squared error."""
    k, c = residual.shape
    flat = np.abs(source).ravel()
    most = min(room // (sparse.VALUE_BITS + 1), flat.size)
    if most <= 0:
        return Entries(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float16)), 0.0
    top = largest(flat, most)
    top = top[np.lexsort((top, -flat[top]))]
    values = source.ravel()[top].astype(np.float16)
    top, values = top[values != 0], values[values != 0]
    count = np.arange(len(top) + 1)
    size = sparse.image_bits(k, c, count, np.concatenate([[0], np.maximum.accumulate(_ordinals(top // c))]))
    fits = int(np.searchsorted(size, room, side="right")) - 1
    error = residual.ravel()[top[:fits]]
    gains = np.concatenate([[0.0], np.cumsum(error**2 - (error - values[:fits].astype(np.float64)) ** 2)])
    kept = int(gains.argmax())
    return Entries(top[:kept] // c, top[:kept] % c, values[:kept]), float(gains[kept])


def _ordinals(rows: np.ndarray) -> np.ndarray:
    """For each element, how many up to and with it are equal to it."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    new = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(rows) else np.zeros(0, bool)
    starts = np.flatnonzero(new)
    result = np.empty(len(rows), np.int64)
    result[order] = np.arange(len(rows)) - starts[np.cumsum(new) - 1] + 1
    return result
