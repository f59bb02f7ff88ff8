"""The singular values of labels: how many components hold how much of the energy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

ENERGIES = (0.9, 0.95, 0.99, 0.999)
PLACES = (2, 10, 50, 200)  # singular values told, relative to the first
_PER_SHARD = 32  # images looked at, evenly spaced

DOMAINS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "logits": lambda z: z,
    "softmax, T = 1": lambda z: torch.softmax(z, dim=-1),
    "softmax, T = 20": lambda z: torch.softmax(z / 20, dim=-1),
}


class Spectrum:
    """Means over images of each image's K x C matrix, not centred; and that of all rows of these images together.

    High energy does not mean a good label: the constant part of a softmax at T = 20 holds nearly all of it.
    """

    def __init__(self) -> None:
        self.images = 0
        self._each: dict[str, list[np.ndarray]] = {name: [] for name in DOMAINS}
        self._gram: torch.Tensor | None = None

    def add(self, logits: torch.Tensor) -> None:
        """Look at up to 32 evenly spaced images of a shard [n, K, C]."""
        n, _, c = logits.shape
        for image in np.unique(np.linspace(0, n - 1, min(n, _PER_SHARD)).astype(int)):
            z = logits[image].to(torch.float64)
            for name, change in DOMAINS.items():
                self._each[name].append(energies(change(z)))
            if self._gram is None:
                self._gram = torch.zeros(c, c, dtype=torch.float64)
            self._gram.addmm_(z.T, z)
            self.images += 1

    def rows(self) -> list[dict[str, Any]]:
        """One dict a domain: `of`, the rank that holds each share of the energy, s2 / s1 and so on (None where a
        matrix has fewer). The last is of the logits of all images together."""
        rows = [_row(f"{name}, each image", values) for name, values in self._each.items()]
        if self._gram is not None:
            rows.append(_row("logits, all images together", [_falling(self._gram)]))
        return rows


def energies(matrix: torch.Tensor) -> np.ndarray:
    """Squared singular values of [K, C], falling, float64 [min(K, C)]; through the smaller Gram matrix, so those below
    1e-16 of the first are noise."""
    k, c = matrix.shape
    return _falling(matrix @ matrix.T if k <= c else matrix.T @ matrix)


def rank_for(squares: np.ndarray, share: float) -> int:
    """The least number of components that hold `share` of the sum of falling `squares`; 0 of zeros."""
    total = squares.sum()
    return int(np.searchsorted(np.cumsum(squares), share * total * (1 - 1e-12)) + 1) if total > 0 else 0


def _falling(gram: torch.Tensor) -> np.ndarray:
    falling: np.ndarray = np.maximum(torch.linalg.eigvalsh(gram).numpy()[::-1], 0)
    return falling


def _row(of: str, values: list[np.ndarray]) -> dict[str, Any]:
    row: dict[str, Any] = {"of": of}
    for share in ENERGIES:
        row[f"rank {100 * share:g} %"] = float(np.mean([rank_for(squares, share) for squares in values]))
    for place in PLACES:
        kept = [np.sqrt(s[place - 1] / s[0]) for s in values if len(s) >= place and s[0] > 0]
        row[f"s{place}/s1"] = float(np.mean(kept)) if kept else None
    return row
