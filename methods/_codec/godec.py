"""Low rank plus sparse within a number of bits, by alternating projection (Zhou and Tao 2011, GoDec).

For a rank r the bits that are left buy t entries. L is the projection of D - S on a subspace of r dimensions that is
carried along and turned by one step of subspace iteration a round, S the t largest entries of D - L. Ranks are tried
along a grid, each from the subspace and the S of the one before, uphill until the error no longer falls. float32
throughout: the error is of second order in that of the subspace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from methods._codec import bits, factors, sparse
from methods._codec.largest import largest
from methods._codec.lowrank import balanced, truncated_svd
from methods._codec.sparse import Entries
from methods._codec.split import Split, rank_grid

SEARCH_ROUNDS = 2  # alternations at each rank that is tried
_SAMPLE = 1 << 15  # values whose quantile stands for that of all, but for the entries that are stored
START = 0.4  # of the bits go to the low-rank part where the search begins


@dataclass(frozen=True)
class State:
    """An image's decomposition: D ~ Q W + S."""

    basis: np.ndarray  # Q, float32 [K, r], orthonormal
    sparse: np.ndarray  # S, float32 [K, C]
    threshold: float  # the least magnitude in S
    error: float  # squared


Search = Callable[[np.ndarray, list[int], int, int], Iterable[State]]  # as `search`, of float32 [b, K, C]


def split(data: np.ndarray, share: int, rounds: int, search: Search | None = None) -> Split:
    """Low rank and entries of each image.

    Args:
        data: [b, K, C], Frobenius norm < 1.
        share: bits for each image, see `split.share_bits`.
        rounds: alternations at the rank that is chosen.
        search: of all images; None: `search` of this module.
    """
    b, k, c = data.shape
    grid = rank_grid(min(share // (16 * (k + c)), k, c))
    matrices = np.ascontiguousarray(data, np.float32)
    parts, ranks, entries = [], np.zeros(b, np.int64), []
    for image, state in enumerate((search or _each)(matrices, grid, share, rounds)):
        rank = state.basis.shape[1]
        left, right, _ = balanced(state.basis[None], (state.basis.T @ (matrices[image] - state.sparse))[None])
        stored = factors.quantise(left, right, "fp16")
        # S was taken from what the low-rank part in float32 leaves over; the entries make up for its rounding too.
        rest = data[image] - stored.left[0].astype(np.float64) @ stored.right[0].astype(np.float64)
        ranks[image] = rank
        entries.append(largest_entries(rest, share - 16 * (k + c) * rank, state.threshold))
        parts.append(_padded(stored, grid[-1]))
    return Split(ranks, factors.Factors.join(parts), entries)


def _each(matrices: np.ndarray, grid: list[int], share: int, rounds: int) -> Iterator[State]:
    return (search(matrix, grid, share, rounds) for matrix in matrices)


def search(matrix: np.ndarray, grid: list[int], share: int, rounds: int) -> State:
    """The best decomposition of an image along the grid.

    Args:
        matrix: float32 [K, C].
        grid: ranks, rising.
        share: bits.
        rounds: alternations at the rank that is chosen.
    """
    k, c = matrix.shape
    directions = np.linalg.qr(truncated_svd(matrix[None], grid[-1])[0][0])[0].astype(np.float32)
    found: dict[int, State] = {}

    def at(place: int, start: State | None) -> State:
        if place not in found:
            rank = grid[place]
            basis = directions[:, :rank]
            if start is not None:
                basis = start.basis[:, :rank]
                if basis.shape[1] < rank:
                    basis = np.linalg.qr(np.concatenate([basis, directions], 1)[:, : rank + basis.shape[1]])[0][
                        :, :rank
                    ]
            found[place] = _alternate(
                matrix, basis, None if start is None else start.sparse, share - 16 * (k + c) * rank, SEARCH_ROUNDS
            )
        return found[place]

    place = int(np.searchsorted(grid, START * grid[-1]))
    best = at(place, None)
    for step in (-1, 1):
        while 0 <= place + step < len(grid):
            other = at(place + step, best)
            if other.error >= best.error:
                break
            place, best = place + step, other
    return _alternate(matrix, best.basis, best.sparse, share - 16 * (k + c) * grid[place], rounds)


def _alternate(matrix: np.ndarray, basis: np.ndarray, start: np.ndarray | None, room: int, rounds: int) -> State:
    """`rounds` alternations; without a `start` for S the first one takes the subspace as it is."""
    k, c = matrix.shape
    kept = np.zeros_like(matrix) if start is None else start
    turn = start is not None
    for _ in range(rounds):
        dense = matrix - kept
        if turn:
            basis = np.linalg.qr(dense @ (dense.T @ basis))[0]
        rest = matrix - basis @ (basis.T @ dense)
        size = np.abs(rest)
        fullest = int(np.count_nonzero(kept, axis=1).max()) or c
        threshold = _quantile(size.ravel(), entries_for(room, k, c, fullest))
        kept = np.where(size >= threshold, rest, np.float32(0))
        turn = True
    rest -= kept
    return State(basis, kept, threshold, float(np.vdot(rest, rest)))


def _quantile(values: np.ndarray, count: int) -> float:
    """What about `count` of the values reach, from a sample where there are many."""
    sample = values[:: stride_of(values.size)]
    count = count * sample.size // values.size
    return float(np.partition(sample, -count)[-count]) if count else np.inf


def stride_of(size: int) -> int:
    """Of the sample of so many values; an odd one does not keep to a few columns."""
    return max(1, size // _SAMPLE) | 1


def _padded(stored: factors.Factors, rank: int) -> factors.Factors:
    spare = rank - stored.left.shape[2]
    return factors.Factors(
        np.pad(stored.left, ((0, 0), (0, 0), (0, spare))), np.pad(stored.right, ((0, 0), (0, spare), (0, 0)))
    )


def entries_for(room: int, k: int, c: int, fullest: int) -> int:
    """How many entries `room` bits hold if no row has more than `fullest` (see `sparse.image_bits`)."""
    lows = np.arange(bits.width_of(c - 1) + 1)
    fixed = k * (bits.width_of(fullest) + ((c - 1) >> lows))
    return int(np.clip((room - fixed) // (1 + lows + sparse.VALUE_BITS), 0, k * c).max())


def largest_entries(rest: np.ndarray, room: int, threshold: float) -> Entries:
    """The largest entries of `rest` that `room` bits hold; about those that reach the threshold."""
    k, c = rest.shape
    size = np.abs(rest).ravel()
    near = np.flatnonzero(size > 0.8 * threshold)
    fullest = 1
    while True:
        count = entries_for(room, k, c, fullest)
        if len(near) < count:
            near = np.arange(size.size)
        top = near[largest(size[near], count)]
        values = rest.ravel()[top].astype(np.float16)
        top, values = top[values != 0], values[values != 0]
        most = int(np.bincount(top // c, minlength=1).max(initial=0))
        # Fewer entries never fill a row more, so that this ends.
        if bits.width_of(most) <= bits.width_of(fullest):
            return Entries(top // c, top % c, values)
        fullest = most
