"""Two numbers that a size falls or grows with, narrowed down: the index of the step, and rows' weights of bits."""

from __future__ import annotations

import math

import numpy as np

from methods._codec.klt.steps import STEPS

GOLDEN = 0.5 * (5**0.5 - 1)  # multiples of it, less whole numbers, are spread evenly, however many
LOG_STEP = 2 / 5  # in which rows' weights differ, as logarithms: finer, more rows are coded anew; KL20 .1 % less
LOG_HEAVIEST = 0.5  # of the greatest weight, times the usual one; the least is as far below
_FEW_ROWS = 64
_CREEPING = 3  # tries on the same side: sizes jump, and what they grow by says little


class Bracket:
    """What is known so far of sizes by step."""

    def __init__(self) -> None:
        self.low, self._low_size = -1, 0.0  # the finest step known to fit
        self._high, self._high_size = STEPS + 1, 0.0  # the coarsest known not to
        self._fits, self._alike = False, 0  # what was told last, and how many times in a row

    def tell(self, index: int, size: float, fits: bool) -> None:
        """A step that was tried; what was told before and does not go with it is forgotten."""
        self._fits, self._alike = fits, self._alike + 1 if fits == self._fits else 1
        if fits:
            self.low, self._low_size = index, size
            if self._high <= index:
                self._high, self._high_size = STEPS + 1, 0.0
        else:
            self._high, self._high_size = index, size
            if self.low >= index:
                self.low, self._low_size = -1, 0.0

    @property
    def finest(self) -> int:
        """The finest step that is known to fit, or else that is not known not to."""
        return self.low if self.low >= 0 else max(self._high - 1, 0)

    @property
    def closed(self) -> bool:
        """Whether no step is left to try."""
        return self._high - self.low <= 1

    def step(self, index: int, size: float, growth: float, target: float) -> int:
        """Where `target` bytes are expected, after `size` bytes at `index`, where ln(size) grows by `growth` a step."""
        between = self._low_size and self._high_size > self._low_size
        if between and self._alike >= _CREEPING:
            return (self.low + self._high) // 2
        if between:
            growth = math.log(self._high_size / self._low_size) / (self._high - self.low)
        moved = math.floor(math.log(max(target, 1) / size) / growth)
        if not between:
            moved *= 2 ** max(self._alike - _CREEPING + 1, 0)
        return min(max(min(index + moved, self._high - 1), self.low + 1, 0), STEPS)


class Weights:
    """Weights of bits, times the usual one, and what sizes they led to.

    A mean logarithm is reached by some rows at a time: to code them anew takes less time than all, and neighbours on a
    scale of weights so fine are equally good.
    """

    def __init__(self) -> None:
        self._log, self._told = 0.0, list[tuple[float, float]]()
        self._low, self._high = -LOG_HEAVIEST, LOG_HEAVIEST  # the wanted one is between these

    def of(self, rows: int) -> np.ndarray:
        """float64 [rows]: logarithms of the weights to try, multiples of `LOG_STEP` with about the mean wanted. Those
        that are raised first are spread evenly. A few rows all have the mean."""
        if rows <= _FEW_ROWS:
            return np.full(rows, self._log)
        rank = np.argsort(np.argsort(np.arange(rows) * GOLDEN % 1, kind="stable"))
        mine: np.ndarray = LOG_STEP * np.floor(self._log / LOG_STEP + (rows - 1 - rank) / rows + 1e-9)
        return mine

    @property
    def settled(self) -> bool:
        """Whether no other is left."""
        return self._high - self._low < 1e-3 or any(log == self._log for log, _ in self._told)

    def tell(self, size: float, target: float, falls: float) -> None:
        """A size that was found, the one that is wanted, and by how much it falls with ln(weight), as far as is known
        beforehand."""
        self._told.append((self._log, size))
        over = max(((at, size) for at, size in self._told if size > target), default=None)
        under = min(((at, size) for at, size in self._told if size <= target), default=None)
        self._low, self._high = over[0] if over else -LOG_HEAVIEST, under[0] if under else LOG_HEAVIEST
        if over and under:
            (low, large), (high, small) = over, under
            self._log = low + (high - low) * min(max((large - target) / max(large - small, 1.0), 0.05), 0.95)
            return
        if len(self._told) > 1 and self._told[-1][0] != self._told[-2][0]:
            (before, first), (after, last) = self._told[-2:]
            falls = max(falls / 4, (first - last) / (after - before))
        self._log = min(max(self._log + (size - target) / max(falls, 1.0), self._low), self._high)

    def back(self, usual: float, target: float) -> bool:
        """To the weights of the largest size known, that of the usual ones among them, which is not above the target;
        whether there are such."""
        under = max(((size, log) for log, size in [(0.0, usual), *self._told] if size <= target), default=None)
        if under is not None:
            self._log = under[1]
        return under is not None

    def forget(self) -> None:
        """What was told so far was of something else; but its last guess stands."""
        self._told, self._low, self._high = [], -LOG_HEAVIEST, LOG_HEAVIEST
