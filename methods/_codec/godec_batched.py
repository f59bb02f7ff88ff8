"""The search of `godec` for many images at once, on a torch device: the same steps, up to rounding.

Each image walks along the grid of ranks by itself. Those that are at the same rank take their next step together.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from methods._codec import batched, godec
from methods._codec.godec import State

_WIDE, _SQUARE = 6, 4  # arrays of K x C and of K x K, counted as float64, that the work holds for each image


def search(
    matrices: np.ndarray,
    grid: list[int],
    share: int,
    rounds: int,
    device: torch.device,
    working_bytes: int = batched.WORKING_BYTES,
) -> list[State]:
    """What `godec.search` finds of each image.

    Args:
        matrices: float32 [b, K, C].
        grid: ranks, rising.
        share: bits for each image.
        rounds: alternations at the rank that is chosen.
        device: where to compute.
        working_bytes: memory of the working arrays on the device.

    Raises:
        torch.linalg.LinAlgError: the eigenvalues of a Gram matrix did not converge.
    """
    found: list[State] = []
    for part in batched.parts(matrices.shape, _WIDE, _SQUARE, working_bytes):
        found += _Walk(batched.moved(matrices[part], device), grid, share).best(rounds)
    return found


class _States(NamedTuple):
    """Of m images, the same rank r, as `godec.State` has them."""

    bases: torch.Tensor  # [m, K, r]
    sparse: torch.Tensor  # [m, K, C]
    thresholds: np.ndarray  # [m]
    errors: np.ndarray  # [m]


class _Walk:
    """A batch of images on their way along the grid."""

    def __init__(self, matrices: torch.Tensor, grid: list[int], share: int) -> None:
        self._matrices, self._grid, self._share = matrices, grid, share
        b = len(matrices)
        self._directions = batched.leading(matrices, grid[-1])
        self._places = np.full(b, int(np.searchsorted(grid, godec.START * grid[-1])))
        # Of each image at its place; nothing yet.
        self._bases = list(self._directions[:, :, :0])
        self._sparse: torch.Tensor | None = None
        self._thresholds, self._errors = np.full(b, np.inf), np.full(b, np.inf)

    def best(self, rounds: int) -> list[State]:
        """Walk uphill in both directions, then alternate so many times where each image has come to."""
        everyone = np.arange(len(self._places))
        self._move(everyone, self._places, godec.SEARCH_ROUNDS)
        start = self._places.copy()
        for step in (-1, 1):
            walking = everyone[self._places == start]  # up goes who did not go down
            while len(walking):
                ahead = self._places[walking] + step
                inside = (ahead >= 0) & (ahead < len(self._grid))
                walking = self._move(walking[inside], ahead[inside], godec.SEARCH_ROUNDS, self._errors)
        self._move(everyone, self._places, rounds)
        assert self._sparse is not None
        parts = zip(self._bases, self._sparse.cpu().numpy(), self._thresholds, self._errors, strict=True)
        return [State(basis.cpu().numpy(), kept, float(least), float(error)) for basis, kept, least, error in parts]

    def _move(self, images: np.ndarray, places: np.ndarray, rounds: int, below: np.ndarray | None = None) -> np.ndarray:
        """Alternate images, int64 [m], at places of the grid, int64 [m], from where they are. Those move whose error is
        `below` what it says for each image; all where it is None. Returns which ones did, int64."""
        stay = []
        for some, place, found in self._alternated(images, places, rounds):
            lower = np.flatnonzero(found.errors < below[some]) if below is not None else np.arange(len(some))
            chosen = some[lower]
            self._places[chosen], self._errors[chosen] = place, found.errors[lower]
            self._thresholds[chosen] = found.thresholds[lower]
            if self._sparse is None:
                self._sparse = torch.zeros_like(self._matrices)
            self._sparse[chosen] = found.sparse[lower]
            for at, image in zip(lower, chosen, strict=True):
                self._bases[image] = found.bases[at]
            stay.append(chosen)
        return np.sort(np.concatenate(stay)) if stay else images[:0]

    def _alternated(
        self, images: np.ndarray, places: np.ndarray, rounds: int
    ) -> Iterator[tuple[np.ndarray, int, _States]]:
        """Images that go to the same place, that place, and what they find there."""
        _, k, c = self._matrices.shape
        # All together, before any of them moves.
        groups = [(images[places == place], int(place)) for place in np.unique(places)]
        for some, place in groups:
            rank = self._grid[place]
            room = self._share - 16 * (k + c) * rank
            start = None if self._sparse is None else self._sparse[some]
            yield some, place, _alternate(self._matrices[some], self._bases_of(some, rank), start, room, rounds)

    def _bases_of(self, images: np.ndarray, rank: int) -> torch.Tensor:
        """[m, K, rank]: the subspaces of images that have equally many dimensions, cut or filled up."""
        bases = torch.stack([self._bases[image][:, :rank] for image in images])
        if bases.shape[2] == 0:
            return self._directions[images][:, :, :rank]
        if bases.shape[2] < rank:
            more = torch.cat([bases, self._directions[images]], 2)[:, :, : rank + bases.shape[2]]
            bases = torch.linalg.qr(more)[0][:, :, :rank]
        return bases


def _alternate(
    matrices: torch.Tensor, bases: torch.Tensor, start: torch.Tensor | None, room: int, rounds: int
) -> _States:
    """`rounds` alternations; without a `start` for S the first one takes the subspaces as they are."""
    _, k, c = matrices.shape
    kept = torch.zeros_like(matrices) if start is None else start
    turn = start is not None
    for _ in range(rounds):
        dense = matrices - kept
        if turn:
            bases = torch.linalg.qr(dense @ (dense.mT @ bases))[0]
        rest = matrices - bases @ (bases.mT @ dense)
        size = rest.abs()
        fullest = (kept != 0).sum(2).amax(1).tolist()
        counts = [godec.entries_for(room, k, c, most or c) for most in fullest]
        thresholds = _quantiles(size.flatten(1), counts)
        kept = torch.where(size >= thresholds[:, None, None], rest, 0)
        turn = True
    rest = rest - kept
    errors = rest.square().sum((1, 2))
    return _States(bases, kept, thresholds.cpu().numpy(), errors.cpu().numpy())


def _quantiles(values: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """[m]: what about counts[i] of the values [m, size] reach in each row; as `godec._quantile`."""
    size = values.shape[1]
    sample = values[:, :: godec.stride_of(size)]
    falling = torch.sort(sample, 1, descending=True).values
    wanted = torch.tensor([count * sample.shape[1] // size for count in counts], device=values.device)
    reached = falling.gather(1, (wanted - 1).clamp(min=0)[:, None])[:, 0]
    return torch.where(wanted > 0, reached, torch.inf)
