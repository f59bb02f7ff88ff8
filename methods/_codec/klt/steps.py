"""The steps on offer. Relative to 2^exponent, the least power of two above the largest magnitude."""

from __future__ import annotations

import numpy as np

from methods._codec.klt.tables import UNITS

PER_OCTAVE = 1024
COARSEST = 5  # octaves above 2^exponent: the step of index 0
FINEST = 20  # octaves below
STEPS = (COARSEST + FINEST) * PER_OCTAVE
MEAN_OCTAVES = 4  # an image's mean, which serves all its rows, is coded with a step this much finer
OFFSETS_KEPT = (COARSEST + 10) * PER_OCTAVE  # from here on a constant added to a row's logits is kept too


def root_of_two(power: int, parts: int) -> float:
    """2^(power / parts), `parts` a power of two, by square roots and products only, which IEEE arithmetic fixes."""
    octave, part = divmod(power, parts)
    root, value = 2.0, 1.0
    for place in range(parts.bit_length() - 2, -1, -1):
        root = float(np.sqrt(root))
        value *= root if part >> place & 1 else 1.0
    return float(np.ldexp(value, octave))


def step_of(index: int) -> float:
    """2^(COARSEST - index / PER_OCTAVE)."""
    return root_of_two(COARSEST * PER_OCTAVE - index, PER_OCTAVE)


def step_units(index: int) -> int:
    """log2 of the step, units; rounded up."""
    return UNITS * COARSEST - index * UNITS // PER_OCTAVE
