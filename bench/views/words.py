"""Draws that IEEE arithmetic fixes to the last bit: the same seed gives the same values on every platform, for ever.

No distribution of numpy is used: its streams may change between releases; the raw words of its Philox generator do not.
"""

from __future__ import annotations

from functools import cache

import numpy as np

# Arithmetic on arrays of any dtype is Any to mypy, here and in parameters.py. A variable with a type would change the
# code digest of every compressor that reads views, so these lines have an ignore.


class Words:
    """Raw 64-bit words of a Philox stream, and the few exact draws that are made of them."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.Philox(key=seed)

    def raw(self, n: int) -> np.ndarray:
        """uint64 [n]."""
        return self._bits.random_raw(n)

    def unit(self, n: int) -> np.ndarray:
        """float64 [n] in [0, 1), of 53 bits."""
        return (self.raw(n) >> np.uint64(11)) * 2.0**-53

    def below(self, limit: int | np.ndarray, n: int) -> np.ndarray:
        """int64 [n] in [0, limit); the bias of a 32-bit word is below limit / 2^32."""
        return ((self.raw(n) >> np.uint64(32)) * np.asarray(limit, np.uint64) >> np.uint64(32)).astype(np.int64)

    def permutation(self, n: int) -> np.ndarray:
        """int64 [n]: 0..n-1 in a random order."""
        return np.argsort(self.raw(n), kind="stable")


def log_uniform(raw: np.ndarray, low: float, high: float) -> np.ndarray:
    """low * (high / low)^u for u on a grid of 2^-16."""
    coarse, fine = _powers(low, high)
    word = (raw >> np.uint64(48)).astype(np.int64)
    return low * (coarse[word >> 8] * fine[word & 255])  # type: ignore[no-any-return]


@cache
def _powers(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """(high / low)^(i / 256) and ^(i / 65536) for i = 0..255, through square roots and products only.

    IEEE 754 fixes both to the last bit; exp and log differ between C libraries, and one bit could move a rounded crop.
    """
    root, powers = high / low, []
    for _ in range(16):
        root = float(np.sqrt(root))
        powers.append(root)  # (high / low)^(1/2), ^(1/4), ...
    coarse, fine = np.ones(1), np.ones(1)
    for place in range(8):
        coarse = np.multiply.outer(coarse, [1.0, powers[place]]).reshape(-1)
        fine = np.multiply.outer(fine, [1.0, powers[place + 8]]).reshape(-1)
    return coarse, fine


def beta(words: Words, alpha: float, n: int) -> np.ndarray:
    """float64 [n]: Beta(alpha, alpha) on a grid of 2^-16 (inverse distribution function; exact for alpha = 1).

    On the grid, C libraries could differ only where a quantile lies within their last bit of a grid border.
    """
    u = words.unit(n)
    if alpha != 1:
        from scipy.special import betaincinv

        u = betaincinv(alpha, alpha, u)
    return np.rint(u * 65536) / 65536  # type: ignore[no-any-return]
